"""What purger does about the messages it hears."""

from collections.abc import Sequence
from uuid import UUID

import structlog

from chassis.census import A_CENSUS_IS_OF_ITS_MOMENT
from chassis.handlers import Handlers, together
from contracts.censuses import CensusListed, CensusTaken
from contracts.purges import (
    DataErased,
    ErasureAsked,
    ErasureWithdrawn,
    Phase,
    PurgeAccepted,
    PurgeRefused,
    WishedBy,
)
from contracts.tenants import TenantState
from services.purger import reconciliation
from services.purger.context import Context, Work
from services.purger.domain.plans import wait_after_refusal, wish_is_past_return
from services.purger.domain.steps import Purge, steps_of
from services.purger.ledger import record_owners_restore
from services.purger.planning import replan, replan_and_say
from services.purger.progress import advance, begin_erasing, say_purges
from services.purger.store import purges as store_of_purges
from services.purger.store import states, wishes
from services.purger.store import steps as store_of_steps
from services.purger.store import tenants as store_of_tenants

log = structlog.get_logger(__name__)

handlers: Handlers[Context] = Handlers("purger")

_BEFORE_NO_RETURN = frozenset({Phase.PLANNED, Phase.REQUESTED, Phase.WITHDRAWN})
_UNDER_WAY = frozenset({Phase.ERASING, Phase.ERASED})


@handlers.follows(TenantState)
@together
async def replan_purges(tenants: Sequence[TenantState], uow: Work) -> None:
    """Make tenants' planned purges agree with their present states.

    It may be those for which the installer has refused purges of older ones.
    """
    await uow.lock_tenants((), exclusively=[tenant.tenant_id for tenant in tenants])
    newer = await store_of_tenants.save_tenants(uow.connection, tenants)
    changed = await replan(uow, newer)
    await store_of_purges.ask_without_delay(uow.connection, [tenant.tenant_id for tenant in newer])
    await say_purges(uow, changed)


@handlers.forgets(TenantState)
@together
async def forget_tenants(tenant_ids: Sequence[UUID], uow: Work) -> None:
    """Drop tenants of whom the installer has nothing left; what is under way goes on."""
    for plans in (await store_of_purges.lock_plans_of(uow.connection, tenant_ids)).values():
        for plan in plans:
            if plan.phase in _BEFORE_NO_RETURN:
                await store_of_purges.withdraw_purge(uow.connection, plan.purge_id, now=uow.now)
    await store_of_tenants.forget_tenants(uow.connection, tenant_ids)
    await say_purges(uow, await states.spoken_of(uow.connection, tenant_ids), gone=True)


@handlers.hears(ErasureAsked)
async def keep_wish(asked: ErasureAsked, uow: Work) -> None:
    """Plan the erasure that a customer asked for; the same wish again changes nothing."""
    await uow.lock_tenant_exclusively(asked.tenant_id)
    is_new = await wishes.record_wish(
        uow.connection,
        asked.wish_id,
        asked.tenant_id,
        made_by=WishedBy.CUSTOMER,
        asked_at=min(asked.asked_at, uow.now),
        now=uow.now,
    )
    if is_new:
        log.info("erasure asked for", tenant_id=str(asked.tenant_id))
        await replan_and_say(uow, asked.tenant_id)


@handlers.hears(ErasureWithdrawn)
async def drop_wish(withdrawn: ErasureWithdrawn, uow: Work) -> None:
    """Withdraw a wish; where the installer has been asked already, only if it says no."""
    await uow.lock_tenant_exclusively(withdrawn.tenant_id)
    if wish_is_past_return(await store_of_purges.lock_plans(uow.connection, withdrawn.tenant_id)):
        await wishes.note_late_withdrawal(
            uow.connection,
            withdrawn.wish_id,
            withdrawn.tenant_id,
            made_by=WishedBy.CUSTOMER,
            now=uow.now,
        )
        log.info("wish withdrawn too late", tenant_id=str(withdrawn.tenant_id))
        return
    was_standing = await wishes.withdraw_wish(
        uow.connection,
        withdrawn.wish_id,
        withdrawn.tenant_id,
        made_by=WishedBy.CUSTOMER,
        now=uow.now,
    )
    if was_standing:
        log.info("wish withdrawn", tenant_id=str(withdrawn.tenant_id))
        await replan_and_say(uow, withdrawn.tenant_id)


@handlers.hears(PurgeAccepted)
@together
async def start_erasing(accepted: Sequence[PurgeAccepted], uow: Work) -> None:
    """Begin wave 1, whatever we planned meanwhile: the installer's word is final."""
    named = {each.purge_id for each in accepted}
    purges = await store_of_purges.lock_purges(uow.connection, named)
    for purge_id in named - purges.keys():
        # The tenant's state names this purge too, and there it is taken up and asked for again.
        log.warning("unknown purge was accepted", purge_id=str(purge_id))
    begun = [each for each in purges.values() if each.plan.phase in _BEFORE_NO_RETURN]
    await begin_erasing(uow, begun)
    await say_purges(uow, {purge.tenant_id for purge in begun})


@handlers.hears(PurgeRefused)
async def postpone_purge(refused: PurgeRefused, uow: Work) -> None:
    """Put the purge back among the planned ones, and see whether it is still what is wanted.

    The newer state may have come before the refusal, when the purge could not be touched: then
    it is due at once. Else it waits for that state, and no longer than for a silence.
    """
    # Whoever plans locks the tenant first, and then its purges.
    await uow.lock_tenant_exclusively(refused.tenant_id)
    purge = await store_of_purges.lock_purge(uow.connection, refused.purge_id)
    if purge is None or purge.plan.phase is not Phase.REQUESTED:
        return
    known = await store_of_tenants.tenant(uow.connection, purge.tenant_id)
    await store_of_purges.postpone_purge(
        uow.connection,
        refused.purge_id,
        now=uow.now,
        until=uow.now + wait_after_refusal(refused, known, silence=uow.context.silence),
    )
    await wishes.withdraw_late_wishes(uow.connection, purge.tenant_id, now=uow.now)
    log.info("purge refused", purge_id=str(refused.purge_id), reason=refused.reason)
    await replan_and_say(uow, purge.tenant_id)


@handlers.hears(DataErased)
@together
async def record_answers(answers: Sequence[DataErased], uow: Work) -> None:
    """Keep the owners' answers and do what can be done now: a receipt, wave 2, the end."""
    purges = await store_of_purges.lock_purges(uow.connection, {each.purge_id for each in answers})
    for answer in answers:
        await record_owners_restore(uow, answer)
    clean = [each for each in answers if _is_a_step_done(each, purges.get(each.purge_id))]
    answered = await store_of_steps.record_answers(uow.connection, clean)
    moved = await advance(uow, answered)
    await say_purges(uow, {purges[each].tenant_id for each in moved})


def _is_a_step_done(answer: DataErased, purge: Purge | None) -> bool:
    """Whether an answer comes from the owner of a step under way, and nothing remains."""
    if purge is None or purge.plan.phase not in _UNDER_WAY:
        return False
    steps = steps_of(purge.plan.scope, purge.plan.classes)
    owners = {step.step: step.owner for step in steps}
    if owners.get(answer.step) != answer.owner:
        log.error("answer from a stranger", purge_id=str(answer.purge_id), step=answer.step)
        return False
    if answer.remaining:
        log.error(
            "data remains after an erasure",
            purge_id=str(answer.purge_id),
            step=answer.step,
            remaining=answer.remaining,
        )
        return False
    return True


@handlers.hears(CensusTaken, once=A_CENSUS_IS_OF_ITS_MOMENT)
async def compare_census(census: CensusTaken, uow: Work) -> None:
    """Compare what an owner holds with what it should hold; ask for lists where that differs."""
    await reconciliation.compare(uow, census)


@handlers.hears(CensusListed, once=A_CENSUS_IS_OF_ITS_MOMENT)
async def look_at_list(listed: CensusListed, uow: Work) -> None:
    """Note which tenants differ, and mend what two rounds have found."""
    await reconciliation.settle(uow, listed)
