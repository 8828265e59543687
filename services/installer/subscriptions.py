"""What licences mean for tenants: whether they pay, whose a licence is, and which were purged."""

from collections.abc import Collection, Iterable, Mapping
from typing import Final
from uuid import UUID

import structlog

from chassis.keys import TenantKeys
from chassis.unit_of_work import UnitOfWork
from contracts.classes import DataClass
from contracts.tenants import ClassState, TenantState, TenantStatus
from services.installer.context import Door
from services.installer.domain import licences as domain
from services.installer.domain.licences import Licence, LicenceName, Match, Step
from services.installer.domain.timelines import Entry
from services.installer.store import licences as store
from services.installer.store import tenants as store_of_tenants
from services.installer.store import timelines
from services.installer.store.licences import OwnWord, StoredLicence

log = structlog.get_logger(__name__)

_PURPOSE: Final = "licence"
_FOUND_BY_NAME: Final = frozenset({TenantStatus.INSTALLED, TenantStatus.UNINSTALLED})
_NO_WORD: Final = OwnWord(None, None, None)


async def renew_subscriptions(uow: UnitOfWork[Door], tenant_ids: Iterable[UUID]) -> None:
    """Make what is said of tenants' subscriptions agree with what is known of their licences.

    The tenants are locked until the transaction ends. Service data that is
    being erased is no matter: as long as people are live, the end of their
    licence decides about them.
    """
    locked = await _lock(uow, tenant_ids)
    concerned = [tenant for tenant in locked.values() if _is_concerned(tenant)]
    ids = [tenant.tenant_id for tenant in concerned]
    licences = await store.strong_licences(uow.connection, ids)
    words = await store.own_words(uow.connection, ids)
    epoch = await uow.epoch()
    for tenant in concerned:
        word = words.get(tenant.tenant_id, _NO_WORD)
        await _renew(uow, tenant, licences[tenant.tenant_id], word, epoch)


async def _renew(
    uow: UnitOfWork[Door], tenant: TenantState, licences: list[Licence], word: OwnWord, epoch: int
) -> None:
    subscription = domain.subscription_of(
        licences,
        word.site,
        tenant.subscription,
        departed=tenant.departure is not None,
        created_at=tenant.created_at,
        now=uow.now,
    )
    own = (word.service_entitlement_number, word.entitlement_number)
    numbers = domain.licence_numbers_of(own, licences)
    said = domain.renewed(tenant, subscription, numbers, epoch=epoch)
    if said is not None:
        change = domain.name_of_change(tenant.subscription, said.subscription)
        await store_of_tenants.record_state(uow, said, change)
        log.info("subscription heard", tenant_id=tenant.tenant_id, status=said.subscription.status)


def _is_concerned(tenant: TenantState) -> bool:
    """Nothing is to be heard of who goes on as another, or of whom nothing is live."""
    return tenant.merged_into is None and ClassState.LIVE in tenant.classes.values()


async def _lock(uow: UnitOfWork[Door], tenant_ids: Iterable[UUID]) -> dict[UUID, TenantState]:
    ordered = sorted(set(tenant_ids))
    if not ordered:
        return {}
    await uow.lock_tenants(ordered)
    locked = [await store_of_tenants.lock_tenant(uow.connection, each) for each in ordered]
    return {tenant.tenant_id: tenant for tenant in locked if tenant is not None}


# -- the join -----------------------------------------------------------------------------------


async def join_licences(uow: UnitOfWork[Door], names: Collection[LicenceName]) -> int:
    """Give licences to whom they belong, and renew all tenants concerned; count the changes.

    A tenant without an installation whose last licence goes to another one is
    closed, and its people move there. A licence whose tenants change while we
    look is left to the next time.
    """
    stored = await store.read_licences(uow.connection, names)
    concerned = set(_tenants_of(stored, await _rejoined(uow, stored)))
    locked = await _lock(uow, concerned)
    # Only now do licences and tenants stay as they are.
    stored = await store.read_licences(uow.connection, names, lock=True)
    matches = await _rejoined(uow, stored)
    changed = {
        each.licence.name: matches[each.licence.name]
        for each in stored
        if matches[each.licence.name] != each.match
        and _may_change(each.match, matches[each.licence.name], locked)
    }
    await store.save_matches(uow.connection, changed)
    await _close_what_is_empty(uow, stored, changed, locked)
    await renew_subscriptions(uow, locked)
    return len(changed)


async def _rejoined(
    uow: UnitOfWork[Door], stored: Collection[StoredLicence]
) -> dict[LicenceName, Match | None]:
    candidates = await store.candidates_of(uow.connection, [each.licence for each in stored])
    return {
        each.licence.name: domain.rejoin(each.licence, each.match, candidates[each.licence.name])
        for each in stored
    }


def _tenants_of(
    stored: Collection[StoredLicence], matches: Mapping[LicenceName, Match | None]
) -> Iterable[UUID]:
    for match in (*(each.match for each in stored), *matches.values()):
        if match is not None:
            yield match.tenant_id


def _may_change(
    before: Match | None, after: Match | None, locked: Mapping[UUID, TenantState]
) -> bool:
    if before is not None and before.tenant_id not in locked:
        return False
    if after is None:
        return True
    tenant = locked.get(after.tenant_id)
    if tenant is None or tenant.merged_into is not None:
        return False
    return tenant.status in _FOUND_BY_NAME


async def _close_what_is_empty(
    uow: UnitOfWork[Door],
    stored: Collection[StoredLicence],
    changed: Mapping[LicenceName, Match | None],
    locked: Mapping[UUID, TenantState],
) -> None:
    heirs: dict[UUID, UUID] = {}
    for each in stored:
        after = changed.get(each.licence.name)
        if each.match is not None and after is not None and not after.weak:
            tenant = locked[each.match.tenant_id]
            if after.tenant_id != tenant.tenant_id and _has_no_installation(each.match, tenant):
                heirs[tenant.tenant_id] = after.tenant_id
    left = await store.strong_licences(uow.connection, heirs)
    epoch = await uow.epoch()
    for tenant_id, heir_id in heirs.items():
        if left[tenant_id]:
            continue
        said = domain.close_into(locked[tenant_id], heir_id, epoch=epoch, now=uow.now)
        if said is not None:
            await store_of_tenants.record_state(uow, said, "tenant-uninstalled")
            if said.classes[DataClass.INSTALLATION] is ClassState.LIVE:
                # Else its timeline is being erased, and nothing may come after.
                await timelines.add_entry(uow.connection, tenant_id, Entry.MERGED, now=uow.now)
            log.info("tenant merged", tenant_id=tenant_id, merged_into=heir_id)


def _has_no_installation(match: Match, tenant: TenantState) -> bool:
    gone = tenant.classes[DataClass.INSTALLATION] is not ClassState.LIVE
    return match.step is Step.ITSELF or gone


# -- licences that were purged --------------------------------------------------------------------


def licence_hash(keys: TenantKeys, name: LicenceName) -> bytes:
    """Give what is kept of a purged licence: equal for the same one, and nothing else."""
    return keys.blind_index(_PURPOSE, f"{name.addon_key}/{name.number}")


async def note_purged_licences(uow: UnitOfWork[Door], tenant_id: UUID) -> None:
    """Before a tenant is forgotten with its licences: let the report not bring these back.

    Those that are only guessed to be its own stay, as somebody else's or nobody's.
    """
    await store.let_go_of_weak(uow.connection, tenant_id)
    licences = (await store.strong_licences(uow.connection, [tenant_id]))[tenant_id]
    hashes = [licence_hash(uow.context.keys, licence.name) for licence in licences]
    await store.note_purged(uow.connection, hashes, now=uow.now)
