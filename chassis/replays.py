"""Records who lets a service hear again what, and how far that has come."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from chassis.database import Connection

# Held by whoever sends a replay, so that there is one at a time for each service.
REPLAY_LOCK = 7_302


class Source(StrEnum):
    """Where what is heard again comes from."""

    OUTBOX = "outbox"
    TOPIC = "topic"
    RESTATED = "restated"
    """Its owner says its present state, since nothing old of a state is said again."""


class Stage(StrEnum):
    """How far a replay has come."""

    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Replay:
    """What one service is to hear again, who decided it and why; ``until_at`` is not part of it."""

    replay_id: UUID
    source: Source
    types: Sequence[str]
    tenant_id: UUID | None
    since_at: datetime | None
    until_at: datetime | None
    forced: bool
    by_whom: str
    reason: str
    planned: int
    state: Stage = Stage.RUNNING
    sent: int = 0
    progress: Mapping[str, Any] | None = None


async def begin(connection: Connection, replay: Replay, *, now: datetime) -> None:
    """Record a replay before the first of its messages is sent."""
    await connection.execute(
        """
        INSERT INTO replays (replay_id, source, types, tenant_id, since_at, until_at, forced,
                             by_whom, reason, state, planned, sent, progress, began_at, changed_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $14)
        """,
        replay.replay_id,
        replay.source,
        list(replay.types),
        replay.tenant_id,
        replay.since_at,
        replay.until_at,
        replay.forced,
        replay.by_whom,
        replay.reason,
        replay.state,
        replay.planned,
        replay.sent,
        replay.progress or {},
        now,
    )


async def note(
    connection: Connection,
    replay_id: UUID,
    *,
    sent: int,
    progress: Mapping[str, Any],
    state: Stage,
    now: datetime,
) -> None:
    """Remember how far a replay has come, once Kafka has what was sent."""
    await connection.execute(
        """
        UPDATE replays SET sent = $2, progress = $3, state = $4, changed_at = $5
         WHERE replay_id = $1
        """,
        replay_id,
        sent,
        progress,
        state,
        now,
    )


_COLUMNS = """
    replay_id, source, types, tenant_id, since_at, until_at, forced, by_whom, reason, planned,
    state, sent, progress
"""


async def load(connection: Connection, replay_id: UUID) -> Replay | None:
    """Find a replay by its id."""
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM replays WHERE replay_id = $1",  # noqa: S608 - a constant
        replay_id,
    )
    return None if row is None else _replay(row)


async def latest(connection: Connection, *, limit: int) -> list[tuple[datetime, Replay]]:
    """List the last replays, the newest first, each with when it began."""
    rows = await connection.fetch(
        f"SELECT began_at, {_COLUMNS} FROM replays ORDER BY began_at DESC LIMIT $1",  # noqa: S608 - a constant
        limit,
    )
    return [(row["began_at"], _replay(row)) for row in rows]


def _replay(row: Any) -> Replay:
    told = {name: row[name] for name in Replay.__slots__}
    return Replay(**told | {"source": Source(row["source"]), "state": Stage(row["state"])})


async def heard_already(connection: Connection, consumer: str, ids: Sequence[UUID]) -> set[UUID]:
    """Say which of these events the inbox will drop."""
    rows = await connection.fetch(
        "SELECT ce_id FROM inbox WHERE consumer = $1 AND ce_id = ANY($2::uuid[])", consumer, ids
    )
    return {row["ce_id"] for row in rows}


async def guarded(connection: Connection, tenant_ids: Sequence[UUID]) -> set[UUID]:
    """Say of which of these tenants anything is erased, or about to be."""
    rows = await connection.fetch(
        "SELECT DISTINCT tenant_id FROM erased_tenants WHERE tenant_id = ANY($1::uuid[])",
        tenant_ids,
    )
    return {row["tenant_id"] for row in rows}
