"""Continues the ledger: each entry is numbered, chained and signed in the transaction it records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid5

from chassis.tracing import continued
from contracts.classes import DataClass
from contracts.ledger import (
    GENESIS,
    EntryKind,
    LedgerEntry,
    LedgerHead,
    Receipt,
    ReceiptStage,
    Restoration,
    StepProof,
    UnsealedEntry,
    seal,
)
from contracts.purges import DataErased
from services.purger.context import Work
from services.purger.domain.steps import WAVE_OF_CONTACTS, Purge, Step
from services.purger.domain.takeover import restoration_part
from services.purger.store import ledger as store
from services.purger.store.ledger import NewEntry, Publication

_ENTRIES_A_PAGE = 500
_OWN_RESTORES: Final = UUID("b0a3c6de-0f1a-5d0c-8a56-6d2a6c1f7e21")


@dataclass(frozen=True, slots=True)
class Draft:
    """What an entry is to record: one part of a purge, of which there is one each."""

    purge_id: UUID
    part: str
    fields: Mapping[str, Any]


async def record_erasures(
    uow: Work,
    purges: Sequence[tuple[Purge, tuple[DataClass, ...]]],
    *,
    wave: int,
    merged_into: Mapping[UUID, UUID],
) -> dict[UUID, int]:
    """Append that these classes are to be erased, purge by purge; return the entries' numbers.

    From the commit on every restored database erases them again. Where that
    stands in the ledger already, as after a restore of ours, that is its entry.
    The entry for contacts carries the receipt's code, as their owner mails it first, and to
    whom people move instead, as it may be read before the command is.
    """
    entries = await _append_once(
        uow,
        [
            Draft(
                purge.plan.purge_id,
                f"wave-{wave}",
                {
                    "kind": EntryKind.TENANT_ERASED,
                    "tenant_id": purge.tenant_id,
                    "classes": classes,
                    "receipt_code": purge.receipt_code if wave == WAVE_OF_CONTACTS else None,
                    "merged_into": merged_into.get(purge.tenant_id),
                },
            )
            for purge, classes in purges
        ],
    )
    return {entry.purge_id: entry.number for entry in entries}


async def record_receipts(
    uow: Work, purges: Sequence[tuple[Purge, Sequence[Step]]], stage: ReceiptStage
) -> None:
    """Append what the owners have answered so far, with open steps named as open; once a stage."""
    await _append_once(uow, [_receipt(purge, stage, steps) for purge, steps in purges])


def _receipt(purge: Purge, stage: ReceiptStage, steps: Sequence[Step]) -> Draft:
    assert purge.receipt_code is not None
    return Draft(
        purge.plan.purge_id,
        f"receipt-{stage}",
        {
            "kind": EntryKind.RECEIPT,
            "classes": purge.plan.takes,
            "receipt": Receipt(
                stage=stage,
                receipt_code=purge.receipt_code,
                steps=tuple(_proof(step) for step in steps),
                deadline=purge.plan.deadline,
                erase_by=purge.plan.erase_by,
            ),
        },
    )


async def record_own_restore(uow: Work, restored_at: datetime) -> None:
    """Append, once, that purger's own database was restored; what follows is its next life."""
    await _append_restoration(
        uow,
        uuid5(_OWN_RESTORES, restored_at.isoformat()),
        Restoration(service="purger", restored_at=restored_at, counts={}),
    )


async def record_owners_restore(uow: Work, answer: DataErased) -> None:
    """Append, once for each restore, what it had brought back and an owner has erased again."""
    if answer.restored_at is None or not any(answer.counts.values()):
        return
    await _append_restoration(
        uow,
        answer.purge_id,
        Restoration(
            service=answer.owner, restored_at=answer.restored_at, counts=dict(answer.counts)
        ),
    )


async def _append_restoration(uow: Work, purge_id: UUID, restoration: Restoration) -> None:
    classes = tuple(restoration.counts)
    fields = {"kind": EntryKind.RESTORED, "classes": classes, "restoration": restoration}
    await _append_once(uow, [Draft(purge_id, restoration_part(restoration, classes), fields)])


async def _append_once(uow: Work, drafts: Sequence[Draft]) -> list[LedgerEntry]:
    """Number, chain and sign what the ledger does not have yet; return the entries of all."""
    end = await store.lock_ledger(uow.connection)
    number, last_hash = end.number, end.hash
    known = await store.entries_of(uow.connection, [(each.purge_id, each.part) for each in drafts])
    key = uow.context.ledger_key()
    key_id = key.key_id
    new = []
    for draft in drafts:
        if (draft.purge_id, draft.part) in known:
            continue
        entry = seal(
            UnsealedEntry(
                number=number + 1,
                at=uow.now,
                purge_id=draft.purge_id,
                previous_hash=last_hash,
                **draft.fields,
            ),
            key.private_key,
            key_id,
        )
        known[draft.purge_id, draft.part] = entry
        number, last_hash = entry.number, entry.hash
        new.append(NewEntry(entry, draft.part))
    if new:
        await store.append_entries(uow.connection, new)
    return [known[each.purge_id, each.part] for each in drafts]


def _proof(step: Step) -> StepProof:
    return StepProof(
        step=step.plan.step,
        owner=step.plan.owner,
        counts=step.counts or {},
        data_map_hash=step.data_map_hash,
        erased_at=step.erased_at,
        open=not step.answered,
        by=step.answered_by,
    )


async def publish(uow: Work, cluster_id: str, *, head_every: timedelta) -> int:
    """Say all entries that this Kafka cluster has not heard, in order; return how many.

    A new cluster hears the whole ledger, and after that its head, which is said
    again every ``head_every`` of wall time. Entries are not said where they are
    appended: transactions commit in another order than they get the ids by which
    the relay sends, and whoever reads the ledger stops at a gap. This must be all
    that the transaction does.
    """
    said = await store.lock_publication(uow.connection)
    if said.cluster_id != cluster_id:
        said = Publication(cluster_id, 0, GENESIS, None)
    number, last_hash = said.number, said.hash
    while page := await store.entries_to_publish(
        uow.connection, after=number, limit=_ENTRIES_A_PAGE
    ):
        for entry, traceparent in page:
            with continued(traceparent, "publish a ledger entry"):
                uow.outbox.add(entry, type_name=entry.type_name)
            number, last_hash = entry.number, entry.hash
        await uow.outbox.flush(uow.connection)
    head_said_at = said.head_said_at
    if head_said_at is None or uow.wall - head_said_at >= head_every:
        head_said_at = uow.wall
        uow.outbox.add(LedgerHead(number=number, hash=last_hash, cluster_id=cluster_id, at=uow.now))
    present = Publication(cluster_id, number, last_hash, head_said_at)
    if present != said:
        await store.save_publication(uow.connection, present)
    return number - said.number
