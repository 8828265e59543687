"""Makes the secrets of a new installation: ``python -m deploy.first_secrets FOLDER MAIL-DOMAIN``.

What stands there already stays, so running it again makes what is missing and no more. The files of
a service lie in a folder of its own, under the names that the chart and the compose file know.
"""

import argparse
import json
import secrets
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from chassis.clock import SystemClock
from contracts.topics import SERVICES
from devstack.key_files import ensure_key_encryption_keys, ensure_signing_key
from devstack.postgres import ROLE_KINDS
from devstack.private_files import write_private

PASSWORDS: Final = "passwords.env"
_SELECTOR: Final = "keepword1"


def password_names() -> list[str]:
    """List the passwords of the database server: its superuser's, and one for each role."""
    roles = [f"{service}_{kind}_PASSWORD".upper() for service in SERVICES for kind in ROLE_KINDS]
    return ["POSTGRES_PASSWORD", *roles]


def make_secrets(folder: Path, *, mail_domain: str, now: datetime) -> None:
    """Make every file that is not there yet, for its owner alone to read."""
    for service in SERVICES:
        (folder / service).mkdir(parents=True, exist_ok=True, mode=0o700)
        # Asked for as soon as staff can sign on.
        ensure_signing_key(folder / service / "audit-key")
    for service in ("installer", "config", "notifier"):
        ensure_key_encryption_keys(folder / service / "key-encryption-keys", wall=now)
    ensure_signing_key(folder / "installer" / "session-key")
    ensure_signing_key(folder / "purger" / "ledger-key")
    ensure_signing_key(folder / "notifier" / "export-key")
    _ensure_dkim(folder / "notifier" / "dkim", mail_domain)
    path = folder / PASSWORDS
    known = _read(path)
    lines = [f"{name}={known.get(name) or secrets.token_hex(24)}" for name in password_names()]
    write_private(path, ("\n".join(lines) + "\n").encode())


def _ensure_dkim(path: Path, domain: str) -> None:
    if path.exists():
        return
    pem = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    keys = [{"selector": _SELECTOR, "private_key": pem.decode()}]
    write_private(path, json.dumps({"domain": domain, "keys": keys}, indent=1).encode())


def _read(path: Path) -> Mapping[str, str]:
    if not path.exists():
        return {}
    return dict(line.split("=", 1) for line in path.read_text("utf-8").splitlines() if "=" in line)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make the secrets of a new installation.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("mail_domain", help="the domain in whose name mail is signed")
    given = parser.parse_args()
    make_secrets(given.folder, mail_domain=given.mail_domain, now=SystemClock().now())
