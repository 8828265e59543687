"""One data key per tenant and owner, so that destroying the key makes every copy unreadable.

What is most sensitive is sealed with AES-256-GCM under the tenant's key, which
lies in the owner's own database, wrapped by a key-encryption key (KEK) that lies
outside and changes monthly. A KEK's end makes the wrapped keys of old backups
unreadable. Unwrapped keys are never kept: a destroyed key is dead at once.
"""

import base64
import binascii
import hashlib
import hmac
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple, Self
from uuid import UUID

import asyncpg
import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from chassis.database import Connection, Pool

log = structlog.get_logger()


_FORMAT: Final = b"\x01"
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_KEY_BYTES: Final = 32
_SHORTEST_SEALED: Final = len(_FORMAT) + _NONCE_BYTES + _TAG_BYTES


class KeyDestroyed(Exception):  # noqa: N818 - reads as the fact it states
    """The tenant has no key (any more), so what was sealed under it cannot be read."""


class Undecipherable(Exception):  # noqa: N818 - reads as the fact it states
    """The bytes are not what was sealed for this tenant, owner and purpose."""


class BadKeysFile(Exception):  # noqa: N818 - reads as the fact it states
    """The file of key-encryption keys cannot be used; never carries a key."""


@dataclass(frozen=True, slots=True)
class _KeySet:
    current: str
    ciphers: Mapping[str, AESGCM] = field(repr=False)
    blind_index: bytes = field(repr=False)
    current_made_at: datetime | None = None


class KeyEncryptionKeys:
    """The KEKs of one service, read again whenever their file changes.

    The file is JSON: ``{"current": id, "keys": {id: base64url of 32 bytes},
    "blind_index": base64url of 32 bytes}``, and may say in ``"made_at": {id: ISO time}``
    since when a key is there. A file that turns bad while the service runs is logged,
    and the keys read before stay in use.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = _identity(path)
        self._keys = _read(path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the file; raise ``BadKeysFile`` which says what is wrong with it."""
        return cls(path)

    @property
    def current_id(self) -> str:
        """The id of the KEK under which new keys are wrapped."""
        return self._fresh().current

    @property
    def current_made_at(self) -> datetime | None:
        """When the current KEK was made; None where the file does not say so."""
        return self._fresh().current_made_at

    @property
    def blind_index_key(self) -> bytes:
        """The key of blind indexes, which outlives every KEK."""
        return self._fresh().blind_index

    def wrap(self, plain_key: bytes, bound_to: Sequence[bytes]) -> tuple[bytes, str]:
        """Wrap a data key under the current KEK; answer it with the KEK's id."""
        keys = self._fresh()
        aad = _joined(b"wrapped", *bound_to, keys.current.encode())
        return _encrypted(keys.ciphers[keys.current], plain_key, aad), keys.current

    def unwrap(self, wrapped: bytes, kek_id: str, bound_to: Sequence[bytes]) -> bytes:
        """Undo ``wrap``; raise ``Undecipherable`` also where the KEK is gone."""
        cipher = self._fresh().ciphers.get(kek_id)
        if cipher is None:
            raise Undecipherable(f"key-encryption key {kek_id!r} is not in the file")
        return _decrypted(cipher, wrapped, _joined(b"wrapped", *bound_to, kek_id.encode()))

    def as_of_now(self) -> "KeyEncryptionKeys":
        """The keys that the file holds now, which it is not asked for again."""
        return _ReadOnce(self._fresh())

    def _fresh(self) -> _KeySet:
        try:
            identity = _identity(self._path)
            if identity != self._seen:
                self._seen = identity
                self._keys = _read(self._path)
        except BadKeysFile as failure:
            log.error("key-encryption keys not read again", reason=str(failure))  # noqa: TRY400 - its frames say nothing
        return self._keys


class _ReadOnce(KeyEncryptionKeys):
    def __init__(self, keys: _KeySet) -> None:
        self._keys = keys

    def _fresh(self) -> _KeySet:
        return self._keys


class NewKey(NamedTuple):
    """A data key just made, not stored yet."""

    plain_key: bytes
    wrapped: bytes
    kek_id: str

    def __repr__(self) -> str:
        """Name the KEK alone."""
        return f"NewKey(kek_id={self.kek_id!r})"


class Rewrapped(NamedTuple):
    """What a rewrapping did, and how many keys still lie under an older KEK."""

    done: int
    failed: tuple[UUID, ...]
    remaining: int


class TenantKeys:
    """The keys that one owner holds of its tenants, in its table ``tenant_keys``.

    Callers that seal hold the tenant's shared lock and have asked the guard, so
    that no key is made again behind an erasure.
    """

    def __init__(self, owner: str, keks: KeyEncryptionKeys) -> None:
        self._owner = owner.encode()
        self._keks = keks

    @property
    def current_made_at(self) -> datetime | None:
        """When the key was made under which tenants' keys are wrapped; None where nobody wrote it down."""
        return self._keks.current_made_at

    def for_a_batch(self) -> "TenantKeys":
        """The same keys after one look at their file, for what is over in a moment."""
        return TenantKeys(self._owner.decode(), self._keks.as_of_now())

    def new_wrapped_key(self, tenant_id: UUID) -> NewKey:
        """Make a key without storing it, for a statement that inserts it with other rows."""
        plain_key = AESGCM.generate_key(_KEY_BYTES * 8)
        wrapped, kek_id = self._keks.wrap(plain_key, self._bound_to(tenant_id))
        return NewKey(plain_key, wrapped, kek_id)

    def unwrapped_key(self, tenant_id: UUID, wrapped: bytes, kek_id: str) -> bytes:
        """The plain key of a row of ``tenant_keys`` that another statement has read."""
        return self._keks.unwrap(wrapped, kek_id, self._bound_to(tenant_id))

    def seal_with(self, plain_key: bytes, tenant_id: UUID, purpose: str, plaintext: bytes) -> bytes:
        """Seal a value so that it opens for this tenant, owner and purpose alone."""
        return _encrypted(AESGCM(plain_key), plaintext, self._aad(tenant_id, purpose))

    def open_with(self, plain_key: bytes, tenant_id: UUID, purpose: str, sealed: bytes) -> bytes:
        """Undo ``seal_with``; raise ``Undecipherable`` for anything else."""
        return _decrypted(AESGCM(plain_key), sealed, self._aad(tenant_id, purpose))

    async def seal(
        self,
        connection: Connection,
        tenant_id: UUID,
        purpose: str,
        plaintext: bytes,
        *,
        now: datetime,
    ) -> bytes:
        """Seal under the tenant's key, which is made in this transaction where it is the first.

        Of two transactions that make it at once the second waits for the first
        and takes its key.
        """
        plain_key = await self._stored_key(connection, tenant_id)
        if plain_key is None:
            plain_key = await self._make_key(connection, tenant_id, now)
        return self.seal_with(plain_key, tenant_id, purpose, plaintext)

    async def open(
        self, connection: Connection, tenant_id: UUID, purpose: str, sealed: bytes
    ) -> bytes:
        """Read what ``seal`` made; raise ``KeyDestroyed`` or ``Undecipherable``."""
        plain_key = await self._stored_key(connection, tenant_id)
        if plain_key is None:
            raise KeyDestroyed("the tenant has no key here")
        return self.open_with(plain_key, tenant_id, purpose, sealed)

    async def destroy(self, connection: Connection, tenant_id: UUID) -> bool:
        """Delete the tenant's key; answer whether there was one.

        Backups keep theirs until the KEK it was wrapped under is destroyed.
        """
        return (
            await connection.fetchval(
                "DELETE FROM tenant_keys WHERE tenant_id = $1 RETURNING true", tenant_id
            )
            is True
        )

    async def rewrap(self, pool: Pool, *, limit: int) -> Rewrapped:
        """Wrap every key that lies under an older KEK under the current one.

        Works in transactions of ``limit`` rows, each of which stays when a later
        one fails, so it can be cut off and begun again. Older KEKs may be
        destroyed only when nothing remains; sealed values are not touched.
        """
        done, failed, after = 0, list[UUID](), None
        while True:
            async with pool.acquire() as connection, connection.transaction():
                rows = await connection.fetch(
                    """
                    SELECT tenant_id, wrapped_key, kek_id
                      FROM tenant_keys
                     WHERE kek_id <> $1
                       AND ($2::uuid IS NULL OR tenant_id > $2)
                     ORDER BY tenant_id
                     LIMIT $3
                       FOR NO KEY UPDATE
                    """,
                    self._keks.current_id,
                    after,
                    limit,
                )
                renewed = self._renewed(rows, failed)
                await connection.execute(
                    """
                    UPDATE tenant_keys
                       SET wrapped_key = renewed.wrapped_key, kek_id = renewed.kek_id
                      FROM unnest($1::uuid[], $2::bytea[], $3::text[])
                        AS renewed (tenant_id, wrapped_key, kek_id)
                     WHERE tenant_keys.tenant_id = renewed.tenant_id
                    """,
                    [tenant_id for tenant_id, _, _ in renewed],
                    [wrapped for _, wrapped, _ in renewed],
                    [kek_id for _, _, kek_id in renewed],
                )
            done += len(renewed)
            if not rows:
                return Rewrapped(done, tuple(failed), await self._under_older_keks(pool))
            after = rows[-1]["tenant_id"]

    def blind_index(self, purpose: str, value: bytes | str) -> bytes:
        """32 bytes that are equal for equal values and say nothing to who lacks the key.

        Differs by owner and purpose. The caller brings the value into its one
        form first (case, spaces).
        """
        told = value.encode() if isinstance(value, str) else value
        message = _joined(b"blind index", self._owner, purpose.encode(), told)
        # `hmac.digest` lets go of the interpreter's lock, and waits for it where threads are at work.
        return hmac.new(self._keks.blind_index_key, message, hashlib.sha256).digest()

    async def _stored_key(self, connection: Connection, tenant_id: UUID) -> bytes | None:
        row = await connection.fetchrow(
            "SELECT wrapped_key, kek_id FROM tenant_keys WHERE tenant_id = $1", tenant_id
        )
        if row is None:
            return None
        return self.unwrapped_key(tenant_id, row["wrapped_key"], row["kek_id"])

    async def _make_key(self, connection: Connection, tenant_id: UUID, now: datetime) -> bytes:
        new = self.new_wrapped_key(tenant_id)
        made = await connection.fetchval(
            """
            INSERT INTO tenant_keys (tenant_id, wrapped_key, kek_id, made_at)
            VALUES ($1, $2, $3, $4)
            ON CONFLICT (tenant_id) DO NOTHING
            RETURNING true
            """,
            tenant_id,
            new.wrapped,
            new.kek_id,
            now,
        )
        if made:
            return new.plain_key
        # Another transaction was first, and has committed by now.
        plain_key = await self._stored_key(connection, tenant_id)
        if plain_key is None:
            raise KeyDestroyed("the tenant's key was destroyed while it was made")
        return plain_key

    async def _under_older_keks(self, pool: Pool) -> int:
        count = await pool.fetchval(
            "SELECT count(*) FROM tenant_keys WHERE kek_id <> $1", self._keks.current_id
        )
        return int(count)

    def _renewed(
        self, rows: Sequence[asyncpg.Record], failed: list[UUID]
    ) -> list[tuple[UUID, bytes, str]]:
        renewed = []
        for row in rows:
            tenant_id = row["tenant_id"]
            try:
                plain_key = self.unwrapped_key(tenant_id, row["wrapped_key"], row["kek_id"])
            except Undecipherable:
                failed.append(tenant_id)
                log.error("tenant key not rewrapped", tenant_id=tenant_id, kek_id=row["kek_id"])  # noqa: TRY400 - its frames say nothing
            else:
                renewed.append((tenant_id, *self._keks.wrap(plain_key, self._bound_to(tenant_id))))
        return renewed

    def _bound_to(self, tenant_id: UUID) -> tuple[bytes, bytes]:
        return self._owner, tenant_id.bytes

    def _aad(self, tenant_id: UUID, purpose: str) -> bytes:
        return _joined(b"sealed", self._owner, tenant_id.bytes, purpose.encode())


def _joined(*parts: bytes) -> bytes:
    """The format's version and the parts, each with its length, so that none runs into the next."""
    return _FORMAT + b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def _encrypted(cipher: AESGCM, plaintext: bytes, aad: bytes) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    return _FORMAT + nonce + cipher.encrypt(nonce, plaintext, aad)


def _decrypted(cipher: AESGCM, sealed: bytes, aad: bytes) -> bytes:
    if len(sealed) < _SHORTEST_SEALED or not sealed.startswith(_FORMAT):
        raise Undecipherable("not a sealed value of a format we know")
    nonce, ciphertext = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
    try:
        return cipher.decrypt(nonce, ciphertext, aad)
    except InvalidTag:
        raise Undecipherable("not sealed for this tenant, owner and purpose") from None


def _identity(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError as failure:
        raise BadKeysFile(f"cannot be read: {failure.strerror}") from None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _read(path: Path) -> _KeySet:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        current = str(told["current"])
        ciphers = {str(name): AESGCM(_key(text)) for name, text in told["keys"].items()}
        blind_index = _key(told["blind_index"])
        made_at = told.get("made_at", {}).get(current)
        current_made_at = datetime.fromisoformat(made_at).astimezone(UTC) if made_at else None
    except OSError as failure:
        raise BadKeysFile(f"cannot be read: {failure.strerror}") from None
    except KeyError as missing:
        raise BadKeysFile(f"has no member {missing}") from None
    except (ValueError, TypeError, AttributeError):
        raise BadKeysFile('is not {"current", "keys": {id: key}, "blind_index"}') from None
    if current not in ciphers:
        raise BadKeysFile('"current" names no key of "keys"')
    return _KeySet(current, ciphers, blind_index, current_made_at)


def _key(text: str) -> bytes:
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        raise BadKeysFile("a key is not base64url") from None
    if len(key) != _KEY_BYTES:
        raise BadKeysFile(f"a key must have {_KEY_BYTES} bytes")
    return key
