"""What people do with dead letters, at a terminal and on the page: look, mend, try again, put aside.

Each act is kept with who did it and why, for longer than the letter itself.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from pydantic import ValidationError

from chassis.database import Connection
from chassis.dead_letters.written import UNSETTLED, State, headers_of
from contracts.envelope import MalformedEnvelope, from_headers
from contracts.messages import Kind, Message
from contracts.registry import by_ce_type

ACTS_KEPT: Final = timedelta(days=400)
LONGEST_NAME: Final = 80
LONGEST_REASON: Final = 300
MOST_BYTES: Final = 256 * 1024
STATE_IS_NOT_MENDED: Final = (
    "A state is not edited and not tried again: nothing old may be followed. Its next version"
    " overtakes it; to bring that about, have its owner restate it (keepword events restate)."
)


class NotPossible(Exception):  # noqa: N818 - reads as the fact it states
    """The act is refused; the message says why, and repeats nothing of what a letter holds."""


@dataclass(frozen=True, slots=True)
class Word:
    """A person's word for what they do: who, and why; both are kept, so the reason names nobody.

    Raises ``NotPossible`` where one of them is missing or too long.
    """

    by: str
    reason: str

    def __post_init__(self) -> None:
        if not 0 < len(self.by.strip()) <= LONGEST_NAME:
            raise NotPossible("Say who does this, in a few letters.")
        if not 0 < len(self.reason.strip()) <= LONGEST_REASON:
            raise NotPossible(f"Say why, in {LONGEST_REASON} letters at the most.")


@dataclass(frozen=True, slots=True)
class Group:
    """The letters of one cause."""

    fingerprint: str
    handler: str
    type: str | None
    kind: Kind
    reason: str
    oldest_at: datetime
    newest_at: datetime
    counts: dict[State, int]

    @property
    def unsettled(self) -> int:
        """How many of them somebody or something still has to settle."""
        return sum(self.counts.get(state, 0) for state in UNSETTLED)


@dataclass(frozen=True, slots=True)
class Done:
    """What a person did with a letter."""

    act: str
    by: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Shown:
    """One letter, without its body."""

    dead_letter_id: UUID
    fingerprint: str
    kind: Kind
    type: str | None
    handler: str
    reason: str
    error_type: str | None
    attempts: int
    state: State
    outcome: str | None
    topic: str
    partition: int
    offset: int
    tenant_id: UUID | None
    ce_id: UUID | None
    purge_id: UUID | None
    step: str | None
    first_failed_at: datetime
    settled_at: datetime | None
    version: int


@dataclass(frozen=True, slots=True)
class Opened:
    """One letter with the body that counts now, as it came where nobody edited it, and its acts."""

    letter: Shown
    headers: tuple[tuple[str, bytes | None], ...]
    body: bytes | None
    acts: tuple[Done, ...]

    @property
    def text(self) -> str:
        """The body to read and to edit: JSON laid out, or as it is where it is none."""
        try:
            return json.dumps(json.loads(self.body or b""), indent=2, ensure_ascii=False)
        except (ValueError, RecursionError):
            return (self.body or b"").decode("utf-8", "backslashreplace")


_SHOWN: Final = """
    SELECT d.dead_letter_id, d.fingerprint, d.kind, d.type, d.handler, d.reason, d.error_type,
           d.attempts, d.state, d.outcome, d.topic, d.partition, d.record_offset, d.tenant_id,
           d.ce_id, d.purge_id, d.step, d.first_failed_at, d.settled_at,
           coalesce((SELECT max(version) FROM dead_letter_versions v
                      WHERE v.dead_letter_id = d.dead_letter_id), 1) AS version
      FROM dead_letters d
"""


async def groups(connection: Connection, *, limit: int) -> list[Group]:
    """List the causes, those with the oldest unsettled letter first."""
    rows = await connection.fetch(
        """
        WITH counted AS (
            SELECT fingerprint, state, count(*) AS letters, min(first_failed_at) AS oldest,
                   max(first_failed_at) AS newest, min(handler) AS handler, min(type) AS type,
                   min(kind) AS kind, min(reason) AS reason
              FROM dead_letters
             GROUP BY fingerprint, state)
        SELECT fingerprint, min(handler) AS handler, min(type) AS type, min(kind) AS kind,
               min(reason) AS reason, min(oldest) AS oldest, max(newest) AS newest,
               jsonb_object_agg(state, letters) AS counts
          FROM counted
         GROUP BY fingerprint
         ORDER BY min(oldest) FILTER (WHERE state = ANY($1::text[])) NULLS LAST, min(oldest)
         LIMIT $2
        """,
        list(UNSETTLED),
        limit,
    )
    return [
        Group(
            fingerprint=row["fingerprint"],
            handler=row["handler"],
            type=row["type"],
            kind=Kind(row["kind"]),
            reason=row["reason"],
            oldest_at=row["oldest"],
            newest_at=row["newest"],
            counts={State(state): count for state, count in sorted(row["counts"].items())},
        )
        for row in rows
    ]


async def letters(connection: Connection, fingerprint: str, *, limit: int) -> list[Shown]:
    """List the letters of one cause, in the order in which they came."""
    rows = await connection.fetch(
        f"{_SHOWN} WHERE d.fingerprint = $1 ORDER BY d.number LIMIT $2", fingerprint, limit
    )
    return [_shown(row) for row in rows]


async def states_of(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, Shown]:
    """Read how far these letters have come; one that is gone is left out."""
    rows = await connection.fetch(f"{_SHOWN} WHERE d.dead_letter_id = ANY($1::uuid[])", list(ids))
    return {row["dead_letter_id"]: _shown(row) for row in rows}


async def opened(connection: Connection, letter_id: UUID) -> Opened | None:
    """Read a letter with its body and what was done with it; None where there is none."""
    row = await connection.fetchrow(f"{_SHOWN} WHERE d.dead_letter_id = $1", letter_id)
    if row is None:
        return None
    held = await connection.fetchrow(
        """
        SELECT d.headers, coalesce(v.payload, d.payload) AS body
          FROM dead_letters d
          LEFT JOIN dead_letter_versions v ON v.dead_letter_id = d.dead_letter_id AND v.version = $2
         WHERE d.dead_letter_id = $1
        """,
        letter_id,
        row["version"],
    )
    if held is None:
        return None
    acts = await connection.fetch(
        "SELECT act, by_whom, reason, at FROM dead_letter_acts WHERE dead_letter_id = $1"
        " ORDER BY act_id",
        letter_id,
    )
    return Opened(
        _shown(row),
        tuple(headers_of(held["headers"])),
        held["body"],
        tuple(Done(each["act"], each["by_whom"], each["reason"], each["at"]) for each in acts),
    )


async def edit(
    connection: Connection, letter_id: UUID, body: bytes, *, word: Word, now: datetime
) -> int:
    """Keep a mended body as the letter's next version, and return its number; the original stays.

    It must be a message of the letter's own type that can be read, about the same tenant, and of a
    command the same purge, step and owner. Fields that the type does not know are not kept.

    Raises:
        NotPossible: there is no such letter, it is settled, a state, or the body does not do.
    """
    found = await _for_update(connection, [letter_id])
    if not found:
        raise NotPossible("There is no such dead letter.")
    [letter] = found
    if letter.kind in {Kind.STATE, Kind.LOG}:
        raise NotPossible(STATE_IS_NOT_MENDED)
    if letter.state not in {State.OPEN, State.PARKED}:
        raise NotPossible(f"It is {letter.state} and can no longer be edited.")
    before = await opened(connection, letter_id)
    assert before is not None
    mended = _mended(before, body)
    await connection.execute(
        "INSERT INTO dead_letter_versions (dead_letter_id, version, tenant_id, payload, made_at)"
        " VALUES ($1, $2, $3, $4, $5)",
        letter_id,
        letter.version + 1,
        letter.tenant_id,
        mended,
        now,
    )
    await _note(connection, [letter], "edited", word, now)
    return letter.version + 1


async def redrive(
    connection: Connection, which: UUID | str, *, word: Word, now: datetime
) -> list[Shown]:
    """Have a letter, or the open letters of a cause, tried again; the running service does it.

    Raises:
        NotPossible: none of them is open, or it is a state.
    """
    found = await _chosen(connection, which)
    if any(each.kind in {Kind.STATE, Kind.LOG} for each in found):
        raise NotPossible(STATE_IS_NOT_MENDED)
    wanted = [each for each in found if each.state is State.OPEN]
    if not wanted:
        raise NotPossible(_why_not(found, "tried again"))
    await connection.execute(
        "UPDATE dead_letters SET state = 'redriving' WHERE dead_letter_id = ANY($1::uuid[])",
        [each.dead_letter_id for each in wanted],
    )
    await _note(connection, wanted, "redriven", word, now)
    return wanted


async def discard(
    connection: Connection, which: UUID | str, *, word: Word, now: datetime
) -> list[Shown]:
    """Put a letter aside, or the open and parked ones of a cause; what waited behind goes on.

    Raises:
        NotPossible: none of them is open or parked.
    """
    found = await _chosen(connection, which)
    wanted = [each for each in found if each.state in {State.OPEN, State.PARKED}]
    if not wanted:
        raise NotPossible(_why_not(found, "put aside"))
    await connection.execute(
        """
        UPDATE dead_letters
           SET state = 'discarded', outcome = 'put aside by a person', settled_at = $2
         WHERE dead_letter_id = ANY($1::uuid[])
        """,
        [each.dead_letter_id for each in wanted],
        now,
    )
    await _note(connection, wanted, "discarded", word, now)
    return wanted


def _why_not(found: Sequence[Shown], what: str) -> str:
    if not found:
        return "There is no such dead letter."
    if len(found) == 1 and found[0].state is State.PARKED:
        return (
            "It is parked: it did not fail, and follows by itself once the earlier command of its"
            " purge is settled."
        )
    states = ", ".join(sorted({each.state for each in found}))
    return f"None of it can be {what}: it is {states}."


def _mended(before: Opened, body: bytes) -> bytes:
    """Return the body as its type writes it; raises ``NotPossible``."""
    if len(body) > MOST_BYTES:
        raise NotPossible("That is larger than any message.")
    try:
        known = by_ce_type(from_headers(before.headers).type)
    except MalformedEnvelope:
        known = None
    if known is None:
        raise NotPossible(
            "Its headers cannot be read, so nobody knows what it is. Put it aside, and have its"
            " sender say it again."
        )
    try:
        message = known.model.decode(body)
    except ValidationError as error:
        places = sorted({".".join(map(str, each["loc"])) or "(body)" for each in error.errors()})
        raise NotPossible(f"As a {known.name} it cannot be read: {', '.join(places)}.") from None
    _require_same(before, message)
    return message.encode()


def _require_same(before: Opened, message: Message) -> None:
    letter = before.letter
    for name, kept in (
        ("tenant_id", letter.tenant_id),
        ("purge_id", letter.purge_id),
        ("step", letter.step),
    ):
        if kept is not None and getattr(message, name, kept) != kept:
            raise NotPossible(f"{name} has to stay as it is: it says what this letter is about.")
    if letter.kind is Kind.COMMAND:
        owner = letter_owner(before)
        if owner is not None and getattr(message, "owner", owner) != owner:
            raise NotPossible("owner has to stay as it is: the letter lies with that service.")


def letter_owner(opened_letter: Opened) -> str | None:
    """Say to whom a command is addressed, where that can be read."""
    try:
        told: Any = json.loads(opened_letter.body or b"")
    except (ValueError, RecursionError):
        return None
    owner = told.get("owner") if isinstance(told, dict) else None
    return owner if isinstance(owner, str) else None


async def _chosen(connection: Connection, which: UUID | str) -> list[Shown]:
    if isinstance(which, UUID):
        return await _for_update(connection, [which])
    rows = await connection.fetch(
        "SELECT dead_letter_id FROM dead_letters WHERE fingerprint = $1", which
    )
    return await _for_update(connection, [row["dead_letter_id"] for row in rows])


async def _for_update(connection: Connection, ids: Sequence[UUID]) -> list[Shown]:
    rows = await connection.fetch(
        f"{_SHOWN} WHERE d.dead_letter_id = ANY($1::uuid[]) ORDER BY d.number FOR UPDATE OF d",
        list(ids),
    )
    return [_shown(row) for row in rows]


async def _note(
    connection: Connection, wanted: Sequence[Shown], act: str, word: Word, now: datetime
) -> None:
    await connection.executemany(
        "INSERT INTO dead_letter_acts (dead_letter_id, fingerprint, act, by_whom, reason, at)"
        " VALUES ($1, $2, $3, $4, $5, $6)",
        [
            (each.dead_letter_id, each.fingerprint, act, word.by.strip(), word.reason.strip(), now)
            for each in wanted
        ],
    )


def _shown(row: Any) -> Shown:
    values = dict(row)
    return Shown(
        offset=values.pop("record_offset"),
        kind=Kind(values.pop("kind")),
        state=State(values.pop("state")),
        **values,
    )
