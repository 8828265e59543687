"""The audit chain of a service: what staff did, added and never changed, verified every night.

An entry names ids alone, and its hash covers it and the hash of the one before. So what is changed or
left out within is found by anybody; that the end was cut off, by the file which entries are copied to.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from chassis.database import Connection
from chassis.signing import TokenSigner
from chassis.tokens import EdDSAAlone

KEPT: Final = timedelta(days=400)
_PAGE: Final = 500
_GENESIS: Final = sha256(b"").digest()


class AuditBroken(Exception):  # noqa: N818 - reads as the fact it states
    """The chain was tampered with; the message says where."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One act: who did what about which ids, and where in the chain that stands."""

    number: int
    at: datetime
    subject: str
    act: str
    about: Mapping[str, str]
    previous_hash: bytes

    def hash(self) -> bytes:
        """SHA-256 of the entry as canonical JSON, the hash of the one before included."""
        return sha256(self.line().encode()).digest()

    def line(self) -> str:
        """Write the entry as one line of JSON."""
        told = {
            "number": self.number,
            "at": self.at.astimezone(UTC).isoformat(),
            "subject": self.subject,
            "act": self.act,
            "about": dict(self.about),
            "previous_hash": self.previous_hash.hex(),
        }
        return json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


async def append(
    connection: Connection, *, subject: str, act: str, about: Mapping[str, str], wall: datetime
) -> None:
    """Add an entry within the caller's transaction; others who add wait for its end.

    Times never go back within the chain, whatever the clock does.
    """
    head = await connection.fetchrow(
        "SELECT number, at, hash FROM audit_ends WHERE id = 'head' FOR UPDATE"
    )
    assert head is not None
    at = max(wall, head["at"]) if head["number"] else wall
    entry = Entry(head["number"] + 1, at, subject, act, about, head["hash"])
    await connection.execute(
        "INSERT INTO audit_entries VALUES ($1, $2, $3, $4, $5, $6, $7)",
        entry.number,
        entry.at,
        entry.subject,
        entry.act,
        dict(entry.about),
        entry.previous_hash,
        entry.hash(),
    )
    await connection.execute(
        "UPDATE audit_ends SET number = $1, at = $2, hash = $3 WHERE id = 'head'",
        entry.number,
        entry.at,
        entry.hash(),
    )


async def entries(connection: Connection, *, after: int) -> AsyncIterator[tuple[Entry, bytes]]:
    """Give the entries that follow a number, each with the hash that is kept with it."""
    while True:
        rows = await connection.fetch(
            """
            SELECT number, at, subject, act, about, previous_hash, hash
              FROM audit_entries
             WHERE number > $1
             ORDER BY number
             LIMIT $2
            """,
            after,
            _PAGE,
        )
        for row in rows:
            told = dict(row)
            kept = told.pop("hash")
            yield Entry(**told), kept
            after = row["number"]
        if len(rows) < _PAGE:
            return


async def latest(connection: Connection, *, before: int, limit: int) -> list[Entry]:
    """Give the last entries that come before a number, the last first."""
    rows = await connection.fetch(
        """
        SELECT number, at, subject, act, about, previous_hash
          FROM audit_entries
         WHERE number < $1
         ORDER BY number DESC
         LIMIT $2
        """,
        before,
        limit,
    )
    return [Entry(**row) for row in rows]


async def verify(
    connection: Connection, *, copy: Path | None = None, keys: Sequence[OKPKey] | None = None
) -> int:
    """Return the number of the last entry when the chain is whole, and ends no earlier than its copy.

    Where months are gone, it begins with what a checkpoint tells of the last entry among them. Who
    signed that is looked at where ``keys`` are given.
    Raises ``AuditBroken``. Run it in a transaction of one snapshot.
    """
    ends: dict[str, Any] = {
        row["id"]: (row["number"], row["hash"])
        for row in await connection.fetch("SELECT id, number, hash FROM audit_ends")
    }
    number: int
    number, last = ends.get("base", (0, _GENESIS))
    if number:
        await _require_checkpoint(connection, number, last, keys)
    copied = await asyncio.to_thread(_last_line, copy) if copy else None
    async for entry, kept in entries(connection, after=number):
        if entry.number != number + 1:
            raise AuditBroken(f"entry {number + 1} is missing")
        if entry.previous_hash != last or entry.hash() != kept:
            raise AuditBroken(f"entry {entry.number} is not what it was")
        if (
            copied is not None
            and copied["number"] == entry.number
            and entry.line() != copied["line"]
        ):
            raise AuditBroken(f"entry {entry.number} is not that of the copy")
        number, last = entry.number, kept
    if ends.get("head") != (number, last):
        raise AuditBroken(f"it ends with entry {number}, and more were written")
    if copied is not None and copied["number"] > number:
        raise AuditBroken(f"it ends with entry {number}, and entry {copied['number']} was copied")
    return number


async def sign_what_goes(
    connection: Connection, signer: TokenSigner, service: str, *, before: date
) -> int | None:
    """Sign the last entry of the months that are over before a day; return its number.

    None where nothing is to go, or it is signed already.
    """
    row = await connection.fetchrow(
        """
        SELECT number, at, hash
          FROM audit_entries
         WHERE at < date_trunc('month', $1::date::timestamp) AT TIME ZONE 'UTC'
           AND number > coalesce((SELECT max(number) FROM audit_checkpoints), 0)
         ORDER BY number DESC
         LIMIT 1
        """,
        before,
    )
    if row is None:
        return None
    claims = {
        "service": service,
        "number": row["number"],
        "at": row["at"].astimezone(UTC).isoformat(),
        "hash": row["hash"].hex(),
    }
    await connection.execute(
        "INSERT INTO audit_checkpoints (number, token) VALUES ($1, $2)",
        row["number"],
        signer.sign(claims),
    )
    return int(row["number"])


async def _require_checkpoint(
    connection: Connection, number: int, last: bytes, keys: Sequence[OKPKey] | None
) -> None:
    """Return when a checkpoint tells of the last entry that is gone; else raise ``AuditBroken``."""
    token = await connection.fetchval(
        "SELECT token FROM audit_checkpoints WHERE number = $1", number
    )
    if token is None:
        raise AuditBroken(f"entries up to {number} are gone without a checkpoint")
    told = _claims(token, keys)
    if (told.get("number"), told.get("hash")) != (number, last.hex()):
        raise AuditBroken(f"entry {number} is not that of its checkpoint")


def _claims(token: str, keys: Sequence[OKPKey] | None) -> Mapping[str, Any]:
    if keys is None:
        return dict(json.loads(jws.extract_compact(token.encode()).payload))
    for key in keys:
        try:
            return jwt.decode(token, key, registry=EdDSAAlone()).claims
        except JoseError:
            continue
    raise AuditBroken("its checkpoint is signed by none of the keys")


async def send_to(
    connection: Connection, send: Callable[[Sequence[Entry]], Awaitable[None]]
) -> int:
    """Send what is new to elsewhere, in order and at least once; return how many."""
    after = await connection.fetchval("SELECT number FROM audit_ends WHERE id = 'syslog'") or 0
    sent = 0
    page: list[Entry] = []
    async for entry, _ in entries(connection, after=after):
        page.append(entry)
        if len(page) == _PAGE:
            sent += await _sent(connection, send, page)
            page = []
    return sent + (await _sent(connection, send, page) if page else 0)


async def _sent(
    connection: Connection,
    send: Callable[[Sequence[Entry]], Awaitable[None]],
    page: Sequence[Entry],
) -> int:
    await send(page)
    last = page[-1]
    await connection.execute(
        """
        INSERT INTO audit_ends (id, number, at, hash) VALUES ('syslog', $1, $2, $3)
        ON CONFLICT (id) DO UPDATE
           SET number = excluded.number, at = excluded.at, hash = excluded.hash
        """,
        last.number,
        last.at,
        last.hash(),
    )
    return len(page)


async def copy_to(connection: Connection, path: Path) -> int:
    """Add what is new to a file of JSON lines; return how many. The file says how far it is."""
    last = await asyncio.to_thread(_last_line, path)
    after = last["number"] if last else 0
    lines = [f"{entry.line()}\n" async for entry, _ in entries(connection, after=after)]
    if lines:
        await asyncio.to_thread(_add, path, "".join(lines))
    return len(lines)


def _last_line(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    line = ""
    with path.open(encoding="utf-8") as file:
        for line in file:  # noqa: B007 - the last one is what counts
            pass
    if not line:
        return None
    try:
        return {"number": int(json.loads(line)["number"]), "line": line.removesuffix("\n")}
    except (ValueError, KeyError, TypeError):
        raise AuditBroken(f"the last line of {path} is no entry") from None


def _add(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(text)
