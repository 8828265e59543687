"""Moves a purge from step to step, and says what has come of it; handlers and jobs share this."""

import secrets
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import get_args
from uuid import UUID

import structlog

from chassis.tracing import continued
from contracts.classes import DataClass
from contracts.ledger import ReceiptStage
from contracts.purges import Phase, PurgeRequested, PurgeStarted, PurgeState
from services.purger import ledger
from services.purger.context import Work
from services.purger.domain.plans import nothing_left
from services.purger.domain.steps import (
    WAVE_OF_CONTACTS,
    Act,
    Purge,
    StartWaveTwo,
    Step,
    StepPlan,
    WriteFirstReceipt,
    WriteLastReceipt,
    next_act,
    steps_of,
)
from services.purger.store import holds as store_of_holds
from services.purger.store import ledger as store_of_ledger
from services.purger.store import purges as store_of_purges
from services.purger.store import states, tenants
from services.purger.store import steps as store_of_steps
from services.purger.store import wishes as store_of_wishes
from services.purger.store.purges import Asking
from services.purger.store.steps import Order

log = structlog.get_logger(__name__)

ACCEPT_STEP = "accept"
# In hex: a code that began with a dash would be an option of the command that verifies it.
_RECEIPT_CODE_BYTES = 16
# So long its topic keeps what a customer asked for, and a little more.
WISHES_ARE_ON_THE_BUS = timedelta(days=31)


async def say_purges(uow: Work, tenant_ids: Collection[UUID], *, gone: bool = False) -> None:
    """Say all purges of these tenants, each with a new version; a tombstone where all is over.

    ``gone`` says that the installer has nothing left of them, so that whatever was asked for is.
    """
    if not tenant_ids:
        return
    versions = await states.next_versions(uow.connection, tenant_ids, epoch=await uow.epoch())
    purges = await states.plans_of(uow.connection, tenant_ids)
    wishes = await store_of_wishes.standing_wishes(uow.connection, tenant_ids)
    withdrawn = await store_of_wishes.withdrawn_wishes(
        uow.connection, tenant_ids, since=uow.now - WISHES_ARE_ON_THE_BUS
    )
    holds = await store_of_holds.standing_holds(uow.connection, tenant_ids)
    over = []
    for tenant_id, version in versions.items():
        known, plans = purges[tenant_id]
        asked_for = not gone and bool(wishes[tenant_id] or holds[tenant_id])
        if nothing_left(plans, tenant_known=known, asked_for=asked_for):
            uow.outbox.tombstone(PurgeState, tenant_id)
            over.append(tenant_id)
        else:
            uow.outbox.add(
                PurgeState(
                    tenant_id=tenant_id,
                    version=version,
                    plans=plans,
                    wishes=wishes[tenant_id],
                    holds=holds[tenant_id],
                    withdrawn_wishes=withdrawn[tenant_id],
                )
            )
    await states.note_forgotten(uow.connection, over, now=uow.now)


def ask_installer(uow: Work, asking: Asking) -> None:
    """Wave 0: ask the installer to pass the point of no return.

    The trace goes on where the tenant's leaving began it, months ago.
    """
    with continued(asking.traceparent, "ask for a purge"):
        uow.outbox.add(
            PurgeRequested(
                purge_id=asking.purge_id,
                step=ACCEPT_STEP,
                tenant_id=asking.tenant_id,
                tenant_version=asking.version,
                classes=asking.classes,
            )
        )


async def begin_erasing(uow: Work, purges: Sequence[Purge]) -> None:
    """Wave 1: put the purges into the ledger and tell the owners to begin."""
    if not purges:
        return
    by_id = {purge.plan.purge_id: purge for purge in purges}
    told = await store_of_ledger.receipt_codes_in_ledger(uow.connection, by_id)
    codes = {each: told.get(each) or secrets.token_hex(_RECEIPT_CODE_BYTES) for each in by_id}
    await store_of_purges.give_receipt_codes(uow.connection, codes)
    await store_of_purges.move_purges(uow.connection, by_id, Phase.ERASING, now=uow.now)
    await store_of_steps.open_steps(
        uow.connection, {each: _steps_of(purge) for each, purge in by_id.items()}
    )
    for purge_id, purge in by_id.items():
        log.info(
            "purge passed the point of no return", purge_id=str(purge_id), classes=purge.plan.takes
        )
    in_wave_one = [purge for purge in purges if _steps_of_wave(purge, 1)]
    await _start_wave(uow, in_wave_one, 1)
    # Of contacts alone no answer comes that would move it on.
    await advance(uow, by_id.keys() - {purge.plan.purge_id for purge in in_wave_one})


async def advance(uow: Work, purge_ids: Collection[UUID]) -> set[UUID]:
    """Do all that purges need by now; return those of which there was anything to do.

    Call it after whatever may have changed them; it may be called in vain.
    """
    moved = set[UUID]()
    while purge_ids:
        purges = await store_of_purges.lock_purges(uow.connection, purge_ids)
        steps = await store_of_steps.steps_of_purges(uow.connection, purges.values())
        acts = {
            each: next_act(purge.plan.phase, steps[each], now=uow.now, erase_by=purge.plan.erase_by)
            for each, purge in purges.items()
        }
        needing = _by_act(purges, acts)
        await _write_receipts(uow, needing[WriteFirstReceipt], steps, ReceiptStage.ERASED)
        await _start_wave(uow, needing[StartWaveTwo], WAVE_OF_CONTACTS)
        await _write_receipts(uow, needing[WriteLastReceipt], steps, ReceiptStage.CLOSED)
        purge_ids = {each for each, act in acts.items() if act is not None}
        moved |= purge_ids
    return moved


def _by_act(
    purges: Mapping[UUID, Purge], acts: Mapping[UUID, Act | None]
) -> dict[type[Act], list[Purge]]:
    found: dict[type[Act], list[Purge]] = {kind: [] for kind in get_args(Act)}
    for each, act in acts.items():
        if act is not None:
            found[type(act)].append(purges[each])
    return found


_AFTER_RECEIPT = {ReceiptStage.ERASED: Phase.ERASED, ReceiptStage.CLOSED: Phase.CLOSED}


async def _write_receipts(
    uow: Work,
    purges: Sequence[Purge],
    steps: Mapping[UUID, Sequence[Step]],
    stage: ReceiptStage,
) -> None:
    if not purges:
        return
    by_id = {purge.plan.purge_id: purge for purge in purges}
    await ledger.record_receipts(
        uow, [(purge, steps[each]) for each, purge in by_id.items()], stage
    )
    await store_of_purges.move_purges(uow.connection, by_id, _AFTER_RECEIPT[stage], now=uow.now)
    for purge_id in by_id:
        open_steps = [step.plan.step for step in steps[purge_id] if not step.answered]
        log.info("receipt written", purge_id=str(purge_id), stage=stage, open_steps=open_steps)


async def _start_wave(uow: Work, purges: Sequence[Purge], wave: int) -> None:
    if not purges:
        return
    steps = {purge.plan.purge_id: _steps_of_wave(purge, wave) for purge in purges}
    tenant_ids = [purge.tenant_id for purge in purges]
    merged_into = await tenants.merged_into(uow.connection, tenant_ids)
    numbers = await ledger.record_erasures(
        uow,
        [(purge, _classes_of(steps[purge.plan.purge_id])) for purge in purges],
        wave=wave,
        merged_into=merged_into,
    )
    await store_of_steps.start_steps(
        uow.connection,
        steps,
        ledger_numbers=numbers,
        ask_again_at=uow.now + uow.context.silence,
    )
    for purge in purges:
        purge_id, tenant_id = purge.plan.purge_id, purge.tenant_id
        for step in steps[purge_id]:
            goes_on = merged_into.get(tenant_id)
            order_erasure(
                uow,
                Order(purge_id, tenant_id, step, numbers[purge_id], purge.receipt_code, goes_on),
            )


def _steps_of_wave(purge: Purge, wave: int) -> list[StepPlan]:
    return [step for step in _steps_of(purge) if step.wave == wave]


def _classes_of(steps: Sequence[StepPlan]) -> tuple[DataClass, ...]:
    return tuple(each for step in steps for each in step.classes)


def _steps_of(purge: Purge) -> tuple[StepPlan, ...]:
    return steps_of(purge.plan.scope, purge.plan.classes)


def order_erasure(uow: Work, order: Order) -> None:
    """Tell an owner to erase; the receipt's code goes to whoever mails it.

    With the name of a tenant that goes on for this one, people and content move there instead.
    """
    step = order.step
    uow.outbox.add(
        PurgeStarted(
            purge_id=order.purge_id,
            step=step.step,
            wave=step.wave,
            tenant_id=order.tenant_id,
            owner=step.owner,
            classes=step.classes,
            ledger_number=order.ledger_number,
            receipt_code=order.receipt_code if step.wave == WAVE_OF_CONTACTS else None,
            merged_into=order.merged_into,
        )
    )
