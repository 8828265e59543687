"""Who must not be written to, by the keyed hash of the address; each change is said as well."""

from collections.abc import Collection, Sequence
from itertools import groupby
from typing import Any

from chassis.database import Connection, Pool
from chassis.unit_of_work import UnitOfWork
from contracts.suppressions import Suppression, SuppressionState
from contracts.tenants import Version
from services.notifier.domain.suppressions import Reason


async def suppress(
    uow: UnitOfWork[Any], address_index: bytes, *, scope: str, reason: Reason
) -> bool:
    """Keep messages of this scope from an address; False where that is so already."""
    await lock(uow, [address_index])
    added = await uow.connection.fetchval(
        """
        INSERT INTO suppressions (address_index, scope, reason, since)
        VALUES ($1, $2, $3, $4)
        ON CONFLICT DO NOTHING
        RETURNING true
        """,
        address_index,
        scope,
        reason,
        uow.now,
    )
    if added:
        await _say(uow, [address_index])
    return added is True


async def lift(uow: UnitOfWork[Any], address_index: bytes, *, scope: str, reason: Reason) -> bool:
    """Let messages of this scope through again, as far as this reason goes; False if it did not stand."""
    await lock(uow, [address_index])
    lifted = await uow.connection.fetchval(
        """
        DELETE FROM suppressions
         WHERE address_index = $1 AND scope = $2 AND reason = $3
        RETURNING true
        """,
        address_index,
        scope,
        reason,
    )
    if lifted:
        await _say(uow, [address_index])
    return lifted is True


async def restate(
    uow: UnitOfWork[Any], *, after: bytes | None = None, limit: int = 500
) -> bytes | None:
    """Say again what stands against the next ``limit`` addresses; return the last, None at the end."""
    rows = await uow.connection.fetch(
        """
        SELECT DISTINCT address_index
          FROM suppressions
         WHERE $1::bytea IS NULL OR address_index > $1
         ORDER BY address_index
         LIMIT $2
        """,
        after,
        limit,
    )
    if not rows:
        return None
    indexes = [row["address_index"] for row in rows]
    await lock(uow, indexes)
    await _say(uow, indexes)
    last: bytes = indexes[-1]
    return last


async def take_over(connection: Connection, said: Sequence[SuppressionState]) -> int:
    """Let what was said stand where it does not; count what was missing.

    Nothing is lifted: what stands here and was not said may be newer.
    """
    standing = [
        (bytes.fromhex(state.recipient_index), each.scope, each.reason, each.since)
        for state in said
        for each in state.suppressions
    ]
    rows = await connection.fetch(
        """
        INSERT INTO suppressions (address_index, scope, reason, since)
        SELECT *
          FROM unnest($1::bytea[], $2::text[], $3::text[], $4::timestamptz[])
        ON CONFLICT DO NOTHING
        RETURNING 1
        """,
        [index for index, _, _, _ in standing],
        [scope for _, scope, _, _ in standing],
        [reason for _, _, reason, _ in standing],
        [since for _, _, _, since in standing],
    )
    return len(rows)


async def suppressions_of(connection: Connection, address_index: bytes) -> set[tuple[str, Reason]]:
    """List the (scope, reason) that keep messages from an address."""
    rows = await connection.fetch(
        "SELECT scope, reason FROM suppressions WHERE address_index = $1", address_index
    )
    return {(row["scope"], Reason(row["reason"])) for row in rows}


async def erased_among(connection: Connection, indexes: Collection[bytes]) -> set[bytes]:
    """Say which of these addresses are of people who asked to be forgotten."""
    rows = await connection.fetch(
        """
        SELECT DISTINCT address_index
          FROM suppressions
         WHERE address_index = ANY($1::bytea[]) AND reason = 'erased'
        """,
        list(indexes),
    )
    return {row["address_index"] for row in rows}


async def count_by_reason(pool: Pool) -> dict[Reason, int]:
    """Count the addresses that each reason stands against."""
    rows = await pool.fetch(
        "SELECT reason, count(DISTINCT address_index) AS n FROM suppressions GROUP BY reason"
    )
    return {Reason(row["reason"]): row["n"] for row in rows}


async def lock(uow: UnitOfWork[Any], indexes: Sequence[bytes]) -> None:
    """Let nobody else change what stands against these addresses until the transaction ends."""
    await uow.connection.execute(
        """
        SELECT pg_advisory_xact_lock(lock)
          FROM (SELECT DISTINCT hashtextextended(encode(address, 'hex'), 2) AS lock
                  FROM unnest($1::bytea[]) AS address
                 ORDER BY lock) AS locks
        """,
        list(indexes),
    )


async def _say(uow: UnitOfWork[Any], indexes: Sequence[bytes]) -> None:
    """Say the whole of what stands against each address; call it under their locks."""
    rows = await uow.connection.fetch(
        """
        SELECT address_index, scope, reason, since
          FROM suppressions
         WHERE address_index = ANY($1::bytea[])
         ORDER BY address_index, scope, reason
        """,
        list(indexes),
    )
    standing = {
        index: [Suppression(scope=row[1], reason=row[2], since=row[3]) for row in some]
        for index, some in groupby(rows, key=lambda row: row["address_index"])
    }
    epoch = await uow.epoch()
    numbers = await uow.connection.fetch(
        "SELECT nextval('suppression_versions') AS n FROM generate_series(1, $1)", len(standing)
    )
    for (index, some), number in zip(standing.items(), numbers, strict=True):
        uow.outbox.add(
            SuppressionState(
                recipient_index=index.hex(),
                version=Version(epoch=epoch, n=number["n"]),
                suppressions=tuple(some),
            )
        )
    for index in indexes:
        if index not in standing:
            uow.outbox.tombstone(SuppressionState, index.hex())
