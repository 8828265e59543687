"""Moves a purge from step to step, and says what has come of it; handlers and jobs share this."""

import secrets
from collections.abc import Collection, Sequence
from typing import assert_never
from uuid import UUID

import structlog

from chassis.tracing import continued
from contracts.ledger import ReceiptStage
from contracts.purges import Phase, PurgeRequested, PurgeStarted, PurgeState
from services.purger import ledger, store
from services.purger.context import Work
from services.purger.domain import (
    WAVE_OF_CONTACTS,
    Purge,
    StartWaveTwo,
    Step,
    StepPlan,
    WriteFirstReceipt,
    WriteLastReceipt,
    next_act,
    nothing_left,
    steps_of,
)
from services.purger.store import Asking, Order

log = structlog.get_logger(__name__)

ACCEPT_STEP = "accept"
_RECEIPT_CODE_BYTES = 24


async def say_purges(uow: Work, tenant_ids: Collection[UUID], *, gone: bool = False) -> None:
    """Say all purges of these tenants, each with a new version; a tombstone where all is over.

    ``gone`` says that the installer has nothing left of them, so that whatever was asked for is.
    """
    if not tenant_ids:
        return
    versions = await store.next_versions(uow.connection, tenant_ids, epoch=await uow.epoch())
    purges = await store.plans_of(uow.connection, tenant_ids)
    wishes = await store.standing_wishes(uow.connection, tenant_ids)
    holds = await store.standing_holds(uow.connection, tenant_ids)
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
                )
            )
    await store.note_forgotten(uow.connection, over, now=uow.now)


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


async def begin_erasing(uow: Work, purge: Purge) -> None:
    """Wave 1: put the purge into the ledger and tell the owners to begin."""
    purge_id = purge.plan.purge_id
    told = await store.receipt_code_in_ledger(uow.connection, purge_id)
    await store.give_receipt_code(
        uow.connection, purge_id, told or secrets.token_urlsafe(_RECEIPT_CODE_BYTES)
    )
    await store.move_purge(uow.connection, purge_id, Phase.ERASING, now=uow.now)
    steps = _steps_of(purge)
    await store.open_steps(uow.connection, purge_id, steps)
    log.info(
        "purge passed the point of no return", purge_id=str(purge_id), classes=purge.plan.takes
    )
    if any(step.wave == 1 for step in steps):
        await _start_wave(uow, purge, 1)
    else:
        # Contacts alone: no answer comes that would move it on.
        await advance(uow, purge_id)


async def advance(uow: Work, purge_id: UUID) -> bool:
    """Do all that a purge needs by now; True if there was anything.

    Call it after whatever may have changed the purge; it may be called in vain.
    """
    purge = await store.lock_purge(uow.connection, purge_id)
    moved = False
    while purge is not None:
        steps = await store.steps_of_purge(uow.connection, purge)
        act = next_act(purge.plan.phase, steps, now=uow.now, erase_by=purge.plan.erase_by)
        match act:
            case WriteFirstReceipt():
                await _receipt(uow, purge, steps, ReceiptStage.ERASED, Phase.ERASED)
            case StartWaveTwo():
                await _start_wave(uow, purge, WAVE_OF_CONTACTS)
            case WriteLastReceipt():
                await _receipt(uow, purge, steps, ReceiptStage.CLOSED, Phase.CLOSED)
            case None:
                break
            case other:
                assert_never(other)
        moved = True
        purge = await store.lock_purge(uow.connection, purge_id)
    return moved


async def _receipt(
    uow: Work, purge: Purge, steps: Sequence[Step], stage: ReceiptStage, phase: Phase
) -> None:
    await ledger.record_receipt(uow, purge, stage, steps)
    await store.move_purge(uow.connection, purge.plan.purge_id, phase, now=uow.now)
    open_steps = [step.plan.step for step in steps if not step.answered]
    log.info(
        "receipt written", purge_id=str(purge.plan.purge_id), stage=stage, open_steps=open_steps
    )


async def _start_wave(uow: Work, purge: Purge, wave: int) -> None:
    steps = [step for step in _steps_of(purge) if step.wave == wave]
    classes = tuple(each for step in steps for each in step.classes)
    merged_into = await store.merged_into(uow.connection, purge.tenant_id)
    number = await ledger.record_erasure(uow, purge, classes, wave=wave, merged_into=merged_into)
    await store.start_steps(
        uow.connection,
        purge.plan.purge_id,
        steps,
        ledger_number=number,
        ask_again_at=uow.now + uow.context.silence,
    )
    for step in steps:
        order_erasure(
            uow,
            Order(
                purge.plan.purge_id, purge.tenant_id, step, number, purge.receipt_code, merged_into
            ),
        )


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
