"""The key files that the services of a laptop need, made once and kept."""

import json
import secrets
from base64 import urlsafe_b64encode
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from devstack.private_files import write_private

KEY_BYTES = 32


def ensure_key_encryption_keys(path: Path, *, wall: datetime) -> Path:
    """Give the file a first key-encryption key, named for the month, and a blind index's key.

    A file that stands there already is left as it is: without it nothing that
    was sealed could be read. The form is that of ``chassis.keys``.
    """
    if not path.exists():
        month = f"{wall:%Y-%m}"
        keys = {
            "current": month,
            "keys": {month: _new_key()},
            "made_at": {month: wall.isoformat()},
            "blind_index": _new_key(),
        }
        write_private(path, json.dumps(keys, indent=1).encode())
    return path


def begin_next_key(path: Path) -> None:
    """Let another key-encryption key be the present one; those before stay beside it."""
    content = json.loads(path.read_text("utf-8"))
    name = f"{content['current']}-next"
    content = {**content, "current": name, "keys": {**content["keys"], name: _new_key()}}
    write_private(path, json.dumps(content, indent=1).encode())


def destroy_former_keys(path: Path) -> None:
    """Leave the file no key-encryption key but the present one."""
    content = json.loads(path.read_text("utf-8"))
    present = content["current"]
    content["keys"] = {present: content["keys"][present]}
    write_private(path, json.dumps(content, indent=1).encode())


def ensure_signing_key(path: Path) -> Path:
    """Give the file an Ed25519 private key in PEM, unless it stands there already."""
    if not path.exists():
        pem = Ed25519PrivateKey.generate().private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
        write_private(path, pem)
    return path


def _new_key() -> str:
    return urlsafe_b64encode(secrets.token_bytes(KEY_BYTES)).rstrip(b"=").decode()
