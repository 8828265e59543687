"""Signs messages, so that who gets them can tell that they are ours (RFC 6376, RFC 8463)."""

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

# Signed where they stand, and no message may stand for ours that has one more of them.
_ALWAYS: Final = ("from", "to", "subject", "date", "message-id")
_WHERE_THEY_STAND: Final = (
    "reply-to",
    "list-id",
    "list-unsubscribe",
    "list-unsubscribe-post",
    "auto-submitted",
    "mime-version",
    "content-type",
    "content-transfer-encoding",
)
_FEWEST_BITS: Final = 2048
_NAME: Final = re.compile(r"[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*")
_FOLD: Final = re.compile(rb"\r\n(?=[ \t])")
_HASH: Final = hashes.SHA256()
_PADDING: Final = PKCS1v15()


class BadDkimFile(Exception):  # noqa: N818 - reads as the fact it states
    """The file of signing keys cannot be used; never carries a key."""


@dataclass(frozen=True, slots=True)
class _Key:
    selector: str
    private: RSAPrivateKey | Ed25519PrivateKey = field(repr=False)

    @property
    def algorithm(self) -> bytes:
        return b"rsa-sha256" if isinstance(self.private, RSAPrivateKey) else b"ed25519-sha256"

    def sign(self, data: bytes) -> bytes:
        if isinstance(self.private, RSAPrivateKey):
            return self.private.sign(data, _PADDING, _HASH)
        # RFC 8463, section 3: what is signed is the hash.
        return self.private.sign(hashlib.sha256(data).digest())


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs for one domain, once with each of its keys; relaxed in headers and body."""

    domain: str
    keys: Sequence[_Key]
    key_file: Path

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the keys; raise ``BadDkimFile``, which says what is wrong with the file."""
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            domain = str(told["domain"])
            keys = [_key(str(each["selector"]), str(each["private_key"])) for each in told["keys"]]
        except OSError as failure:
            raise BadDkimFile(f"cannot be read: {failure.strerror}") from None
        except (ValueError, TypeError, KeyError, AttributeError):
            raise BadDkimFile('is not {"domain", "keys": [{"selector", "private_key"}]}') from None
        if not keys or not _NAME.fullmatch(domain):
            raise BadDkimFile("names no domain, or no key")
        return cls(domain, keys, path)

    def sign(self, message: bytes) -> bytes:
        """Put a signature by each key before a message whose lines end in CR LF."""
        head, _, body = message.partition(b"\r\n\r\n")
        headers = _headers(head)
        counts: dict[bytes, int] = {}
        for name, _value in headers:
            counts[name] = counts.get(name, 0) + 1
        signed = [name for name in map(str.encode, _ALWAYS) for _ in range(counts.get(name, 0) + 1)]
        signed += [
            name for name in map(str.encode, _WHERE_THEY_STAND) for _ in range(counts.get(name, 0))
        ]
        told = _canonical_headers(headers, signed)
        body_hash = base64.b64encode(hashlib.sha256(_canonical_body(body)).digest())
        names = b":\r\n\t".join(b":".join(signed[at : at + 6]) for at in range(0, len(signed), 6))
        signatures = [self._signature(key, told, names, body_hash) for key in self.keys]
        return b"".join(signatures) + message

    def _signature(self, key: _Key, told: bytes, names: bytes, body_hash: bytes) -> bytes:
        value = b"v=1; a=%s; c=relaxed/relaxed; d=%s; s=%s;\r\n\th=%s;\r\n\tbh=%s;\r\n\tb=" % (
            key.algorithm,
            self.domain.encode(),
            key.selector.encode(),
            names,
            body_hash,
        )
        line = b"dkim-signature:" + _canonical_value(value)
        made = base64.b64encode(key.sign(told + line))
        folded = b"\r\n\t ".join(made[at : at + 70] for at in range(0, len(made), 70))
        return b"DKIM-Signature: " + value + folded + b"\r\n"


def _key(selector: str, pem: str) -> _Key:
    if not _NAME.fullmatch(selector):
        raise BadDkimFile("a selector is no name")
    private = load_pem_private_key(pem.encode(), password=None)
    if isinstance(private, RSAPrivateKey):
        if private.key_size < _FEWEST_BITS:
            raise BadDkimFile(f"an RSA key has fewer than {_FEWEST_BITS} bits")
    elif not isinstance(private, Ed25519PrivateKey):
        raise BadDkimFile("a key is neither RSA nor Ed25519")
    return _Key(selector, private)


def _headers(head: bytes) -> list[tuple[bytes, bytes]]:
    """Read headers in their order: the name in small letters, the value as it stands."""
    found = []
    for line in _FOLD.sub(b"", head).split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if colon:
            found.append((name.strip().lower(), value))
    return found


def _canonical_headers(headers: Sequence[tuple[bytes, bytes]], signed: Sequence[bytes]) -> bytes:
    """RFC 6376, sections 3.4.2 and 5.4.2: the last of a name first; what is not there is nothing."""
    left: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        left.setdefault(name, []).append(value)
    return b"".join(
        name + b":" + _canonical_value(values.pop()) + b"\r\n"
        for name in signed
        if (values := left.get(name))
    )


def _canonical_value(value: bytes) -> bytes:
    return _single_spaces(value.replace(b"\r\n", b"")).strip(b" ")


def _canonical_body(body: bytes) -> bytes:
    """RFC 6376, section 3.4.4; an empty body is nothing at all."""
    body = _single_spaces(body).replace(b" \r\n", b"\r\n").removesuffix(b" ")
    body = body.rstrip(b"\r\n") if body.endswith(b"\r\n") else body
    return body + b"\r\n" if body else b""


def _single_spaces(text: bytes) -> bytes:
    text = text.replace(b"\t", b" ")
    while b"  " in text:
        text = text.replace(b"  ", b" ")
    return text
