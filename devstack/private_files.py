"""Files with passwords and keys: whole, and for their owner alone to read."""

import os
import secrets
from pathlib import Path


def write_private(path: Path, content: bytes) -> None:
    """Replace the file at ``path`` in one step by one that only its owner reads."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    temporary.replace(path)


def kept_password(path: Path) -> str:
    """Return the password in the file at ``path``, made now where there is none."""
    if not path.exists():
        write_private(path, secrets.token_urlsafe(24).encode())
    return path.read_text(encoding="utf-8")
