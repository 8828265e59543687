"""One owner's act in a purge: set the guard, destroy the key, erase, look again, answer.

What it erases comes from the service's data map and from the foreign keys of the live schema.
"""

import asyncio
import json
import time
from asyncio import sleep
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeVar
from uuid import UUID

import asyncpg
import structlog

from chassis.data_map import MARKS_OF_A_TENANT, DataMap, Table, erasure_order
from chassis.database import Connection, Pool
from chassis.tracing import continued
from chassis.unit_of_work import UnitOfWork, Units
from contracts.classes import DataClass
from contracts.purges import BY_A_PERSON, DataErased, PurgeStarted

log = structlog.get_logger(__name__)

C = TypeVar("C")

# A row-level security that hides everything would make an empty answer a lie. Tables under it hold
# one row of nobody, planted by their migration, which whoever verifies must be able to see.
NOBODY = UUID(int=0)

_LEASE = timedelta(minutes=2)
# So that those who wait for something are not asked about it more often than those behind them.
_REST = timedelta(seconds=2)
# Ledger and command bring the same order, and purger asks again only after longer than this: until
# then the answer has not been missed, whoever orders the same once more.
_ANSWER_ON_ITS_WAY = timedelta(seconds=20)
_ROWS_A_STATEMENT = 5_000
RESTS = 4.0
_TENANTS_A_RUN = 200
_SETTLE_ATTEMPTS = 200
_SETTLE_PAUSE_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class ErasureOrder:
    """What an owner has to erase; ``(purge_id, step)`` names it.

    ``restored_at`` is there where a restore may have brought it back; the answer tells it.
    """

    purge_id: UUID
    step: str
    tenant_id: UUID
    classes: tuple[DataClass, ...]
    ledger_number: int
    receipt_code: str | None = None
    restored_at: datetime | None = None

    @property
    def name(self) -> tuple[UUID, str]:
        """Its name among all erasures."""
        return self.purge_id, self.step

    @classmethod
    def of(cls, command: PurgeStarted) -> "ErasureOrder":
        """Take the order from purger's command."""
        return cls(
            purge_id=command.purge_id,
            step=command.step,
            tenant_id=command.tenant_id,
            classes=command.classes,
            ledger_number=command.ledger_number,
            receipt_code=command.receipt_code,
        )


async def accept_erasure(
    uow: UnitOfWork[C], order: ErasureOrder, *, answer_again: bool = True
) -> bool:
    """Do the same as `accept_erasures` about one order; True if it was not known."""
    return bool(await accept_erasures(uow, [order], answer_again=answer_again))


async def accept_erasures(
    uow: UnitOfWork[C], orders: Sequence[ErasureOrder], *, answer_again: bool = True
) -> set[tuple[UUID, str]]:
    """Set the guards and queue the erasures; all stand when the transaction commits.

    Returns the names of the orders that were not known. One that is done already is looked at
    and answered again, if ``answer_again``, unless its answer is so fresh that it is still on its
    way. From the commit on no writer of these classes gets through.
    """
    if not orders:
        return set()
    await uow.lock_tenants((), exclusively={order.tenant_id for order in orders})
    guards = [(order, data_class) for order in orders for data_class in order.classes]
    await uow.connection.execute(
        """
        INSERT INTO erased_tenants AS e (tenant_id, data_class, ledger_number, purge_id, erased_at)
        SELECT DISTINCT ON (tenant_id, data_class) tenant_id, data_class, number, purge_id, $5
          FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::uuid[])
               AS o(tenant_id, data_class, number, purge_id)
         ORDER BY tenant_id, data_class, number DESC
        ON CONFLICT (tenant_id, data_class) DO UPDATE
           SET ledger_number = greatest(e.ledger_number, excluded.ledger_number)
        """,
        [order.tenant_id for order, _ in guards],
        [data_class for _, data_class in guards],
        [order.ledger_number for order, _ in guards],
        [order.purge_id for order, _ in guards],
        uow.now,
    )
    rows = await uow.connection.fetch(
        """
        INSERT INTO erasures AS e (purge_id, step, tenant_id, classes, ledger_number,
                                   receipt_code, state, queued_at, traceparent, restored_at)
        SELECT DISTINCT ON (purge_id, step)
               purge_id, step, tenant_id, string_to_array(classes, ','), number, receipt_code,
               'queued', $9, traceparent, restored_at
          FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::bigint[], $6::text[],
                      $7::text[], $8::timestamptz[])
               AS o(purge_id, step, tenant_id, classes, number, receipt_code, traceparent,
                    restored_at)
         ORDER BY purge_id, step, receipt_code NULLS LAST
        ON CONFLICT (purge_id, step) DO UPDATE
           SET state = CASE WHEN $10 AND (e.erased_at IS NULL OR e.erased_at <= $11)
                            THEN 'queued' ELSE e.state END,
               receipt_code = coalesce(e.receipt_code, excluded.receipt_code)
        RETURNING purge_id, step, xmax = 0 AS is_new
        """,
        [order.purge_id for order in orders],
        [order.step for order in orders],
        [order.tenant_id for order in orders],
        [",".join(order.classes) for order in orders],
        [order.ledger_number for order in orders],
        [order.receipt_code for order in orders],
        [uow.outbox.cause_of(order.tenant_id).traceparent for order in orders],
        [order.restored_at for order in orders],
        uow.now,
        answer_again,
        uow.now - _ANSWER_ON_ITS_WAY,
    )
    return {(row["purge_id"], row["step"]) for row in rows if row["is_new"]}


_Named = tuple[UUID, str]


@dataclass(frozen=True, slots=True)
class _Claim:
    order: ErasureOrder
    token: UUID
    traceparent: str | None
    # The worker before went away in the middle of it.
    taken_over: bool

    @property
    def name(self) -> _Named:
        return self.order.name


# Which erasures may begin, each named by its purge and its step.
Ready = Callable[[Connection, Sequence[ErasureOrder]], Awaitable[set[tuple[UUID, str]]]]

# For which erasures a person gave their word, where no program could see all of it.
Attested = Callable[[Connection, Sequence[ErasureOrder]], Awaitable[set[tuple[UUID, str]]]]


@dataclass(slots=True)
class EraserJob(Generic[C]):
    """Carries out queued erasures, many tenants in a statement where many are due."""

    units: Units[C]
    worker: Pool
    eraser: Pool
    data_map: DataMap
    # The tenant's key and what the plumbing holds of it go with this class.
    key_class: DataClass
    # Says which may begin; notifier keeps contacts until they have their receipt.
    ready: Ready | None = None
    attested: Attested | None = None
    # How long it rests after a full statement, as a multiple of what that took: other tenants'
    # reads wait for the same disk and the same cores. Of many tenants together each rests a part
    # of that, as a backlog has to be worked off.
    rest: float = RESTS

    async def run(self) -> int:
        """Erase what is queued; return how many erasures were finished."""
        finished = 0
        while claims := await self._claim():
            done = await self._carry_out(claims)
            finished += done
            if not done or len(claims) < _TENANTS_A_RUN:
                break  # what has to wait is looked at again in the next run
        return finished

    async def _claim(self) -> list[_Claim]:
        now = self.units.clock.now()
        rows = await self.worker.fetch(
            """
            WITH queued AS (
                SELECT purge_id, step, claim_token IS NOT NULL AS taken_over
                  FROM erasures
                 WHERE state = 'queued' AND (claimed_until IS NULL OR claimed_until < $1)
                 ORDER BY attempts, queued_at
                 LIMIT $2
                   FOR UPDATE SKIP LOCKED)
            UPDATE erasures e
               SET claim_token = gen_random_uuid(), claimed_until = $1::timestamptz + $3::interval,
                   attempts = attempts + 1
              FROM queued
             WHERE (e.purge_id, e.step) = (queued.purge_id, queued.step)
            RETURNING e.purge_id, e.step, e.tenant_id, e.classes, e.ledger_number, e.receipt_code,
                      e.claim_token, e.traceparent, queued.taken_over
            """,
            now,
            _TENANTS_A_RUN,
            _LEASE,
        )
        return [_claim_of(row) for row in rows]

    async def _carry_out(self, claims: Sequence[_Claim]) -> int:
        if self.ready is not None:
            async with self.worker.acquire() as connection:
                ready = await self.ready(connection, [claim.order for claim in claims])
            waiting = [c for c in claims if c.order.name not in ready]
            await self._release(waiting, until=self.units.clock.now() + _REST)
            claims = [c for c in claims if c.order.name in ready]
        by_classes: dict[tuple[DataClass, ...], list[_Claim]] = {}
        for claim in claims:
            by_classes.setdefault(claim.order.classes, []).append(claim)
        finished = 0
        for classes, together in by_classes.items():
            finished += await self._erase(classes, together)
        return finished

    async def _release(self, claims: Sequence[_Claim], *, until: datetime | None = None) -> None:
        """Give claims back, so that nobody need wait until the lease is over; rest them ``until``."""

        async def release(some: Sequence[_Claim]) -> set[_Named]:
            rows = await self.worker.fetch(
                f"""
                WITH {_MINE}
                UPDATE erasures e
                   SET claim_token = NULL, claimed_until = $4
                  FROM mine
                 WHERE (e.purge_id, e.step) = (mine.purge_id, mine.step)
                RETURNING e.purge_id, e.step
                """,  # noqa: S608 - made of constants
                *_names_of(some),
                until,
            )
            return {(row["purge_id"], row["step"]) for row in rows}

        await self._settle(claims, release)

    async def _note_counts(
        self, claims: Sequence[_Claim], found: Mapping[UUID, Mapping[DataClass, int]]
    ) -> list[_Claim]:
        """Note how many rows each is about to erase; return those that are still ours.

        Before they are erased, as whoever dies in between could not tell any
        more how many there were. A run that took over counts what the one
        before had left, of what that has noted already.
        """

        async def note(some: Sequence[_Claim]) -> set[_Named]:
            counts = [
                {each: found[claim.order.tenant_id][each] for each in claim.order.classes}
                for claim in some
            ]
            rows = await self.worker.fetch(
                f"""
                WITH {_MINE}
                UPDATE erasures e
                   SET counts = e.counts || (
                           SELECT jsonb_object_agg(
                                      name,
                                      CASE WHEN f.taken_over THEN greatest(known, number)
                                           ELSE known + number END)
                             FROM (SELECT name, number::bigint,
                                          coalesce((e.counts ->> name)::bigint, 0) AS known
                                     FROM jsonb_each_text(f.counts::jsonb) AS n(name, number)))
                  FROM mine
                  JOIN unnest($3::uuid[], $4::text[], $5::boolean[])
                       AS f(claim_token, counts, taken_over) USING (claim_token)
                 WHERE (e.purge_id, e.step) = (mine.purge_id, mine.step)
                RETURNING e.purge_id, e.step
                """,  # noqa: S608 - made of constants
                *_names_of(some),
                [json.dumps(each) for each in counts],
                [claim.taken_over for claim in some],
            )
            return {(row["purge_id"], row["step"]) for row in rows}

        return await self._settle(claims, note)

    async def _erase(self, classes: tuple[DataClass, ...], claims: Sequence[_Claim]) -> int:
        async with self.eraser.acquire() as connection:
            tables = await erasure_order(connection, self.data_map.tables_of(classes))
            claims = await self._note_counts(
                claims, await _count_by_class(connection, tables, _tenants_of(claims))
            )
            tenants = _tenants_of(claims)
            if self.key_class in classes:
                await connection.execute(
                    f"DELETE FROM tenant_keys WHERE {_OF_TENANTS}",  # noqa: S608 - made of constants
                    tenants,
                )
            rest = self.rest / max(1, len(tenants))
            for table in tables:
                await _delete(connection, table, tenants, rest=rest)
            await _delete_plumbing(
                connection, tenants, classes, all_of_it=self.key_class in classes
            )
            remaining = await _look_again(connection, tables, tenants)
            unsent = await _unsent(connection, tenants, classes)
        clean = [c for c in claims if not remaining[c.order.tenant_id] | unsent[c.order.tenant_id]]
        for claim in claims:
            if claim not in clean:
                log.warning(
                    "erasure not clean yet",
                    purge_id=str(claim.order.purge_id),
                    remaining=remaining[claim.order.tenant_id],
                    unsent=unsent[claim.order.tenant_id],
                )
        await self._release([claim for claim in claims if claim not in clean])
        return len(await self._settle(clean, self._answer))

    async def _answer(self, claims: Sequence[_Claim]) -> set[_Named]:
        """Write down that it is erased and say it; return of which this could be done now."""
        by_name = {claim.name: claim for claim in claims}
        async with self.units.begin() as uow:
            rows = await uow.connection.fetch(
                f"""
                WITH {_MINE}
                UPDATE erasures e
                   SET state = 'erased', erased_at = $4, claim_token = NULL, claimed_until = NULL
                  FROM mine
                 WHERE (e.purge_id, e.step) = (mine.purge_id, mine.step)
                RETURNING e.purge_id, e.step, e.counts, e.restored_at
                """,  # noqa: S608 - made of constants
                *_names_of(claims),
                uow.now,
            )
            answered = [(by_name[row["purge_id"], row["step"]], row) for row in rows]
            attested = await self._attested(uow.connection, [claim for claim, _ in answered])
            for claim, row in answered:
                by = BY_A_PERSON if claim.name in attested else None
                with continued(claim.traceparent, "answer an erasure"):
                    uow.outbox.add(self._said(claim.order, row, at=uow.now, by=by))
        for row in rows:
            log.info("data erased", purge_id=str(row["purge_id"]), step=row["step"])
        return {(row["purge_id"], row["step"]) for row in rows}

    async def _settle(
        self, claims: Sequence[_Claim], settle: Callable[[Sequence[_Claim]], Awaitable[set[_Named]]]
    ) -> list[_Claim]:
        """Settle claims, again after a moment those whose rows were held; return which were.

        One that another has taken over since is left to him, one that is held
        for too long until its lease is over.
        """
        settled: list[_Claim] = []
        for _ in range(_SETTLE_ATTEMPTS):
            if not claims:
                break
            done = await settle(claims)
            settled += [claim for claim in claims if claim.name in done]
            claims = [claim for claim in claims if claim.name not in done]
            if claims:
                await asyncio.sleep(_SETTLE_PAUSE_SECONDS)
                claims = await self._still_ours(claims)
        return settled

    async def _still_ours(self, claims: Sequence[_Claim]) -> list[_Claim]:
        rows = await self.worker.fetch(
            """
            SELECT claim_token
              FROM erasures
              JOIN unnest($1::uuid[], $2::text[], $3::uuid[]) AS m(purge_id, step, claim_token)
             USING (purge_id, step, claim_token)
            """,
            *_names_of(claims),
        )
        ours = {row["claim_token"] for row in rows}
        return [claim for claim in claims if claim.token in ours]

    async def _attested(self, connection: Connection, claims: Sequence[_Claim]) -> set[_Named]:
        if self.attested is None:
            return set()
        return await self.attested(connection, [claim.order for claim in claims])

    def _said(
        self, order: ErasureOrder, row: asyncpg.Record, *, at: datetime, by: str | None
    ) -> DataErased:
        return DataErased(
            purge_id=order.purge_id,
            step=order.step,
            tenant_id=order.tenant_id,
            owner=self.data_map.service,
            ledger_number=order.ledger_number,
            counts={DataClass(name): count for name, count in row["counts"].items()},
            remaining=0,
            data_map_hash=self.data_map.hash(),
            erased_at=at,
            restored_at=row["restored_at"],
            by=by,
        )


# Rows that somebody else holds are left out. A consumer that hears the same orders again holds some
# of them in an order of its own, so to wait for one while others are held can be a deadlock.
_MINE = """
    mine AS (
        SELECT e.purge_id, e.step, e.claim_token
          FROM unnest($1::uuid[], $2::text[], $3::uuid[]) AS m(purge_id, step, claim_token)
          JOIN erasures e USING (purge_id, step, claim_token)
           FOR UPDATE OF e SKIP LOCKED)
"""


def _names_of(claims: Sequence[_Claim]) -> tuple[list[UUID], list[str], list[UUID]]:
    return (
        [claim.order.purge_id for claim in claims],
        [claim.order.step for claim in claims],
        [claim.token for claim in claims],
    )


def _tenants_of(claims: Sequence[_Claim]) -> list[UUID]:
    return [claim.order.tenant_id for claim in claims]


def _claim_of(row: asyncpg.Record) -> _Claim:
    return _Claim(
        ErasureOrder(
            purge_id=row["purge_id"],
            step=row["step"],
            tenant_id=row["tenant_id"],
            classes=tuple(DataClass(name) for name in row["classes"]),
            ledger_number=row["ledger_number"],
            receipt_code=row["receipt_code"],
        ),
        row["claim_token"],
        row["traceparent"],
        row["taken_over"],
    )


@dataclass(frozen=True, slots=True)
class WouldGo:
    """How many rows of a table an erasure would take, and whether a receipt would count them."""

    table: str
    data_class: DataClass
    rows: int
    counted: bool


@dataclass(frozen=True, slots=True)
class WouldErase:
    """What an erasure would take of a tenant: the service's tables, and the plumbing's."""

    tables: tuple[WouldGo, ...]
    plumbing: Mapping[str, int]


async def would_erase(
    connection: Connection, data_map: DataMap, classes: Sequence[DataClass], tenant_id: UUID
) -> WouldErase:
    """Count what an erasure of these classes would take, and change nothing.

    Looks by the conditions of the erasure itself, in a transaction that can only
    read. Raises ``BlindVerificationError`` where a role cannot see what it counts.
    """
    async with connection.transaction(readonly=True):
        tables = await erasure_order(connection, data_map.tables_of(classes))
        # Under row-level security a service's own role sees one tenant, and nobody is one.
        await _see_as(connection, NOBODY)
        for table in tables:
            await _require_sight(connection, table)
        await _see_as(connection, tenant_id)
        found = [
            WouldGo(
                table.name,
                table.data_class,
                (await _count(connection, table, [tenant_id]))[tenant_id],
                table.counted,
            )
            for table in tables
        ]
        plumbing: dict[str, int] = {
            "outbox": await connection.fetchval(
                f"SELECT count(*) FROM outbox WHERE {_OF_OUTBOX}",  # noqa: S608 - made of constants
                [tenant_id],
                list(classes),
            )
        }
        for name in (*MARKS_OF_A_TENANT, "tenant_keys"):
            plumbing[name] = await connection.fetchval(
                f"SELECT count(*) FROM {name} WHERE {_OF_TENANTS}",  # noqa: S608 - made of constants
                [tenant_id],
            )
    return WouldErase(tuple(found), plumbing)


async def _see_as(connection: Connection, tenant_id: UUID) -> None:
    await connection.execute("SELECT set_config('app.tenant', $1::uuid::text, true)", tenant_id)


def _of_tenants(table: Table) -> str:
    """Say in SQL which rows of a table an erasure of the tenants ``$1`` takes."""
    return f"{table.tenant_column} = ANY($1::uuid[]) AND {table.erase_where or 'true'}"


_OF_TENANTS = "tenant_id = ANY($1::uuid[])"
_OF_OUTBOX = f"{_OF_TENANTS} AND data_class = ANY($2::text[])"


async def _count_by_class(
    connection: Connection, tables: Sequence[Table], tenants: Sequence[UUID]
) -> dict[UUID, Counter[DataClass]]:
    """Count what a receipt will say of each tenant."""
    found: dict[UUID, Counter[DataClass]] = {tenant: Counter() for tenant in tenants}
    for table in tables:
        if table.counted:
            for tenant, rows in (await _count(connection, table, tenants)).items():
                found[tenant][table.data_class] += rows
    return found


async def _delete(
    connection: Connection, table: Table, tenants: Sequence[UUID], *, rest: float
) -> None:
    """Erase these tenants' rows in bounded statements, and rest between them.

    A row's place is its own in one partition only, so each row is asked once more whose it is.
    """
    while True:
        began_at = time.monotonic()
        done = await connection.execute(
            f"""
            DELETE FROM {table.name}
             WHERE ctid = ANY(ARRAY(SELECT ctid FROM {table.name}
                                     WHERE {_of_tenants(table)}
                                     LIMIT $2))
               AND {_of_tenants(table)}
            """,  # noqa: S608 - names come from the data map
            list(tenants),
            _ROWS_A_STATEMENT,
        )
        if int(done.removeprefix("DELETE ")) < _ROWS_A_STATEMENT:
            return
        await sleep(rest * (time.monotonic() - began_at))


_SENT = """
    EXISTS (SELECT 1 FROM relay_cursor c
             WHERE c.epoch = outbox.epoch
               AND (outbox.xid, outbox.position) <= (c.xid, c.position))
"""


async def _delete_plumbing(
    connection: Connection,
    tenants: Sequence[UUID],
    classes: Sequence[DataClass],
    *,
    all_of_it: bool,
) -> None:
    """Erase what the plumbing holds of these tenants, except what is said about the erasure."""
    await connection.execute(
        f"""
        DELETE FROM outbox WHERE {_OF_OUTBOX} AND {_SENT}
        """,  # noqa: S608 - made of constants
        list(tenants),
        list(classes),
    )
    if all_of_it:
        for name in MARKS_OF_A_TENANT:
            await connection.execute(
                f"DELETE FROM {name} WHERE {_OF_TENANTS}",  # noqa: S608 - made of constants
                list(tenants),
            )


async def _unsent(
    connection: Connection, tenants: Sequence[UUID], classes: Sequence[DataClass]
) -> Counter[UUID]:
    rows = await connection.fetch(
        f"SELECT tenant_id, count(*) AS count FROM outbox WHERE {_OF_OUTBOX} GROUP BY tenant_id",  # noqa: S608 - made of constants
        list(tenants),
        list(classes),
    )
    return Counter({row["tenant_id"]: row["count"] for row in rows})


async def _look_again(
    connection: Connection, tables: Sequence[Table], tenants: Sequence[UUID]
) -> Counter[UUID]:
    """Count what is still there, after proof that this role would see it."""
    found: Counter[UUID] = Counter()
    for table in tables:
        await _require_sight(connection, table)
        found.update(await _count(connection, table, tenants))
    return found


async def _require_sight(connection: Connection, table: Table) -> None:
    if await is_blind(connection, table):
        raise BlindVerificationError(table.name)


async def is_blind(connection: Connection, table: Table) -> bool:
    """Whether this role may be shown less of a table than there is.

    Under row-level security it must see the row of nobody that was planted for it.
    """
    hidden: bool = await connection.fetchval(
        f"""
        SELECT c.relrowsecurity
               AND NOT EXISTS (SELECT 1 FROM {table.name} WHERE {table.tenant_column} = $2)
          FROM pg_class c WHERE c.oid = to_regclass($1)
        """,  # noqa: S608 - names come from the data map
        table.name,
        NOBODY,
    )
    return hidden


async def _count(connection: Connection, table: Table, tenants: Sequence[UUID]) -> Counter[UUID]:
    rows = await connection.fetch(
        f"""
        SELECT {table.tenant_column} AS tenant_id, count(*) AS count FROM {table.name}
         WHERE {_of_tenants(table)}
         GROUP BY 1
        """,  # noqa: S608 - names come from the data map
        list(tenants),
    )
    return Counter({row["tenant_id"]: row["count"] for row in rows})


class BlindVerificationError(Exception):
    """The verifying role does not see a table's planted row, so it may not see others either."""

    def __init__(self, table: str) -> None:
        super().__init__(
            f"the eraser does not see the planted row of {table}: give its role a policy that"
            " shows all rows, and plant the row again if it is missing"
        )
