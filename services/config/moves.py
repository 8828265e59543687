"""Moves content to the tenant that goes on for its own, before what is left is erased."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from typing import Final, assert_never
from uuid import UUID

import structlog

from chassis.database import Connection, Pool
from chassis.erasure import ErasureOrder
from chassis.jobs import Job
from chassis.keys import KeyDestroyed, Undecipherable
from chassis.unit_of_work import UnitOfWork, Units
from contracts.classes import DataClass
from contracts.ledger import EntryKind, LedgerEntry
from services.config.context import CREDENTIALS, STEP, Context
from services.config.domain.access import Move, decide_move
from services.config.domain.kinds import KIND_OF, KINDS
from services.config.domain.things import names_with, references_of
from services.config.store import moves as store
from services.config.store import tenants, things
from services.config.store.moves import OpenMove, StoredThing

log = structlog.get_logger(__name__)

ROWS_A_BATCH: Final = 100
"""So that a transaction ends in a moment, whatever a tenant holds."""

MOVED_TABLES: Final = frozenset({"things", "thing_references", "thing_versions"})
"""The tables of content that is the customer's; each that is added has to move as well."""


async def note_move(
    uow: UnitOfWork[Context], purge_id: UUID, tenant_id: UUID, merged_into: UUID
) -> None:
    """Let an erasure that was accepted in this transaction wait until content has moved.

    Command and ledger bring the same order, and purger may repeat it: it is
    noted once, and not again once the erasure has begun.
    """
    await store.note_move(uow.connection, purge_id, STEP, tenant_id, merged_into, now=uow.now)


async def note_ledger_entry(entry: LedgerEntry, uow: UnitOfWork[Context]) -> None:
    """Note a move that the ledger orders, as the command for it may come later, or never.

    The ledger's reader has accepted the erasure itself in this transaction.
    """
    if (
        entry.kind is EntryKind.TENANT_ERASED
        and entry.merged_into is not None
        and DataClass.CONTENT in entry.classes
    ):
        assert entry.tenant_id is not None
        await note_move(uow, entry.purge_id, entry.tenant_id, entry.merged_into)


async def ready_to_erase(
    connection: Connection, orders: Sequence[ErasureOrder]
) -> set[tuple[UUID, str]]:
    """Say which erasures may begin: those whose content has moved, or never will."""
    waiting = await store.purges_with_open_moves(connection, {each.purge_id for each in orders})
    return {(each.purge_id, each.step) for each in orders if each.purge_id not in waiting}


class _State(Enum):
    """Where a move stands after a transaction of it."""

    MOVING = auto()
    WAITING = auto()
    SETTLED = auto()


@dataclass(frozen=True, slots=True)
class Moves:
    """The job that moves content to the tenant that goes on for its own."""

    units: Units[Context]
    worker: Pool

    def jobs(self) -> tuple[Job, ...]:
        """The job with its interval."""
        return (Job("move content", timedelta(seconds=1), self.run),)

    async def run(self) -> int:
        """Move all that can move, and give up on what never will; return how many were settled.

        A batch is a transaction, and what has moved is noted with it: a worker
        that dies leaves the rest to the next run, and nothing goes twice. One that
        fails holds nobody else's up, and is raised in the end.
        """
        settled, failures = 0, []
        for purge_id in await store.open_moves(self.worker):
            try:
                while (state := await self._go_on(purge_id)) is _State.MOVING:
                    pass
            except Exception as failure:  # noqa: BLE001 - raised below
                failures.append(failure)
            else:
                settled += state is _State.SETTLED
        if failures:
            raise ExceptionGroup("moves failed", failures)
        return settled

    async def _go_on(self, purge_id: UUID) -> _State:
        async with self.units.begin() as uow:
            move = await store.lock_open_move(uow.connection, purge_id)
            if move is None:
                return _State.WAITING
            decision = await _decide(uow, move)
            match decision:
                case Move.NOW:
                    return await _move_batch(uow, move)
                case Move.NEVER:
                    await store.settle_move(uow.connection, purge_id, moved=False)
                    log.warning(
                        "content not moved but erased",
                        purge_id=purge_id,
                        rows_moved=move.rows_moved,
                    )
                    return _State.SETTLED
                case Move.LATER:
                    return _State.WAITING
                case other:
                    assert_never(other)


async def _decide(uow: UnitOfWork[Context], move: OpenMove) -> Move:
    """Lock out erasures of both, and say whether content may be written for the one that goes on."""
    target = move.merged_into
    await uow.lock_tenants([move.tenant_id, target])
    erased = (await uow.erased_classes([target])).get(target, frozenset())
    known = await tenants.tenant(uow.connection, target)
    return decide_move(known, erased, uow.now - move.noted_at)


async def _move_batch(uow: UnitOfWork[Context], move: OpenMove) -> _State:
    connection = uow.connection
    await uow.act_for(move.tenant_id)
    # Who is referred to moves before who refers.
    batch = await store.stored_things(
        connection,
        move.tenant_id,
        [kind.name for kind in KINDS],
        after=move.moved_up_to,
        limit=ROWS_A_BATCH,
    )
    versions = await store.stored_versions(
        connection, move.tenant_id, [each.thing_id for each in batch]
    )
    resealed = [(each, await _sealed_anew(uow, move, each)) for each in batch]
    await uow.act_for(move.merged_into)
    added = [
        thing.thing_id
        for thing, credentials in resealed
        if await _add(connection, move.merged_into, thing, credentials)
    ]
    rows = len(added) + await store.add_moved_versions(
        connection, move.merged_into, [each for each in versions if each.thing_id in set(added)]
    )
    await things.count_in(connection, move.merged_into, len(added), now=uow.now)
    if len(batch) == ROWS_A_BATCH:
        await store.note_moved(connection, move.purge_id, up_to=batch[-1].thing_id, rows=rows)
        return _State.MOVING
    await store.settle_move(connection, move.purge_id, moved=True)
    log.info("content moved", purge_id=move.purge_id, rows_moved=move.rows_moved + rows)
    return _State.SETTLED


async def _sealed_anew(
    uow: UnitOfWork[Context], move: OpenMove, thing: StoredThing
) -> bytes | None:
    """Seal credentials under the other tenant's key; without them where they cannot be read."""
    if thing.credentials is None:
        return None
    keys = uow.context.keys
    try:
        plain = await keys.open(uow.connection, move.tenant_id, CREDENTIALS, thing.credentials)
    except (KeyDestroyed, Undecipherable):
        log.error("credentials not moved, they cannot be read", purge_id=move.purge_id)  # noqa: TRY400 - its frames say nothing
        return None
    return await keys.seal(uow.connection, move.merged_into, CREDENTIALS, plain, now=uow.now)


async def _add(
    connection: Connection, tenant_id: UUID, thing: StoredThing, credentials: bytes | None
) -> bool:
    """Keep a thing under the first of its names that is free there, once; say if it was not there.

    What it refers to and is there no longer, as the customer has removed it
    since it moved, is left out.
    """
    kind = KIND_OF[thing.kind]
    references = references_of(kind, thing.body)
    present = await things.meant(connection, tenant_id, references.values())
    kept = {field: target for field, target in references.items() if target in present}
    body = {**thing.body, **dict.fromkeys(references.keys() - kept.keys())}
    names = names_with("moved", thing.name)
    while True:
        name = await things.free_name(connection, tenant_id, kind, names)
        if await store.add_moved_thing(
            connection, tenant_id, thing, name=name, body=body, sealed_credentials=credentials
        ):
            await things.refer(connection, tenant_id, thing.thing_id, kept)
            return True
        if await things.find(connection, tenant_id, kind, thing.thing_id) is not None:
            return False  # another purge of the same tenant has brought it
