"""The rules of a tenant's state: what installs, uninstalls, purges and receipts make of it."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias
from uuid import UUID

from contracts.classes import TENANT_CLASSES, DataClass
from contracts.ledger import Receipt, ReceiptStage
from contracts.purges import REFUSED_FOR_NEWER_STATE, PurgeRequested
from contracts.tenants import (
    ClassState,
    Departure,
    DepartureKind,
    Platform,
    Subscription,
    SubscriptionStatus,
    TenantState,
    TenantStatus,
    Version,
)

_ON_THE_BUS = re.compile(r"[A-Za-z0-9#-]{1,64}")
"""The shape that contracts give a licence number."""


@dataclass(frozen=True, slots=True)
class Installation:
    """What the policy lets us store of an installation (promise P1), and no more."""

    addon_key: str
    product_type: str
    client_key: str = field(repr=False)
    base_url: str = field(repr=False)
    service_entitlement_number: str | None = field(repr=False)
    shared_secret: str = field(repr=False)
    oauth_client_id: str | None = field(repr=False)
    entitlement_id: str | None = field(default=None, repr=False)
    entitlement_number: str | None = field(default=None, repr=False)

    @property
    def licence_numbers(self) -> tuple[str, ...]:
        """The licence's numbers, as far as they have a shape that may travel on the bus."""
        numbers = (self.service_entitlement_number, self.entitlement_number)
        told = (number for number in numbers if number and _ON_THE_BUS.fullmatch(number))
        return tuple(dict.fromkeys(told))


class Heard(StrEnum):
    """What an ``installed`` call was: exactly one of these, the first that is true of it."""

    NEW = "new"
    REVIVED = "revived"
    ROTATED = "rotated"
    RENAMED = "renamed"
    UPGRADED = "upgraded"
    """Anything else of it had changed."""
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class HeardInstalled:
    """What an ``installed`` call means for a tenant that we know.

    ``installation`` is what is to be stored now; ``said`` is the tenant's new
    state where others see a change.
    """

    changes: frozenset[Heard]
    installation: Installation
    said: TenantState | None

    @property
    def heard(self) -> Heard:
        """What the call was."""
        return next((each for each in Heard if each in self.changes), Heard.UNCHANGED)

    @property
    def is_at_a_new_address(self) -> bool:
        """Whether the site may now stand where another one stood."""
        return bool(self.changes & {Heard.REVIVED, Heard.RENAMED})


def new_tenant(
    tenant_id: UUID, installation: Installation, *, epoch: int, now: datetime
) -> TenantState:
    """Give the first state of a tenant; its licence is not known yet."""
    return TenantState(
        tenant_id=tenant_id,
        version=Version(epoch=epoch, n=1),
        status=TenantStatus.INSTALLED,
        classes=dict.fromkeys(TENANT_CLASSES, ClassState.LIVE),
        platform=Platform.CONNECT,
        addon_key=installation.addon_key,
        product_type=installation.product_type,
        created_at=now,
        subscription=Subscription(status=SubscriptionStatus.NONE),
        licence_numbers=installation.licence_numbers,
    )


def new_forge_tenant(
    tenant_id: UUID, addon_key: str, product_type: str, *, epoch: int, now: datetime
) -> TenantState:
    """Give the first state of a tenant that began on Forge."""
    return TenantState(
        tenant_id=tenant_id,
        version=Version(epoch=epoch, n=1),
        status=TenantStatus.INSTALLED,
        classes=dict.fromkeys(TENANT_CLASSES, ClassState.LIVE),
        platform=Platform.FORGE,
        addon_key=addon_key,
        product_type=product_type,
        created_at=now,
        subscription=Subscription(status=SubscriptionStatus.NONE),
        licence_numbers=(),
    )


def hear_installed(
    tenant: TenantState,
    stored: Installation,
    reported: Installation,
    *,
    epoch: int,
    now: datetime,
    more_names: bool = False,
    on_forge: bool = False,
) -> HeardInstalled:
    """Say what an ``installed`` call means for a tenant that is not purging.

    The call tells the site's present state, whatever it was sent for: install,
    upgrade, rotation or rename. It revives a tenant that had left, also where
    another one was to go on for it: nothing has moved yet. A licence
    number that is missing says nothing, as the call often lacks it
    (community.developer.atlassian.com, topic 33953). ``more_names`` says that a
    name came into use with it, ``on_forge`` that one of Forge's is in use: where
    none is, a tenant that had moved to Forge is back on Connect.
    """
    present = _with_known_licence(stored, reported)
    changes = _changes(stored, present)
    is_back = tenant.platform is Platform.FORGE and not on_forge
    if more_names or is_back:
        changes.add(Heard.UPGRADED)
    if tenant.departure is not None:
        changes.add(Heard.REVIVED)
    if not changes:
        return HeardInstalled(frozenset(), present, None)
    told: dict[str, object] = {
        "status": TenantStatus.INSTALLED,
        "departure": None,
        "merged_into": None,
        "product_type": present.product_type,
        # People who are being forgotten are not to be found again.
        "licence_numbers": _licence_numbers(tenant, stored, present)
        if may_be_found(tenant.classes)
        else (),
    }
    if is_back:
        told |= {"platform": Platform.CONNECT, "platform_since": now}
    return HeardInstalled(frozenset(changes), present, newer(tenant, epoch, **told))


def _with_known_licence(stored: Installation, reported: Installation) -> Installation:
    return replace(
        reported,
        service_entitlement_number=reported.service_entitlement_number
        or stored.service_entitlement_number,
        entitlement_id=reported.entitlement_id or stored.entitlement_id,
        entitlement_number=reported.entitlement_number or stored.entitlement_number,
    )


def _licence_numbers(
    tenant: TenantState, stored: Installation, present: Installation
) -> tuple[str, ...]:
    """List the numbers of the installation, and those that were found by its licences.

    Those of a tenant that another one was to go on for had been given away.
    """
    if tenant.merged_into is not None:
        return present.licence_numbers
    if present.licence_numbers == stored.licence_numbers:
        return tenant.licence_numbers
    found = (each for each in tenant.licence_numbers if each not in stored.licence_numbers)
    return tuple(dict.fromkeys((*present.licence_numbers, *found)))


def _changes(stored: Installation, present: Installation) -> set[Heard]:
    changes = set()
    if present.shared_secret != stored.shared_secret:
        changes.add(Heard.ROTATED)
    if present.base_url != stored.base_url:
        changes.add(Heard.RENAMED)
    told = {"shared_secret": present.shared_secret, "base_url": present.base_url}
    if replace(stored, **told) != present:
        changes.add(Heard.UPGRADED)
    return changes


def move_to_forge(tenant: TenantState, *, epoch: int, now: datetime) -> TenantState | None:
    """Give the state of a tenant that Forge calls installed; None where that is no news.

    It revives a tenant that had left, in whichever order the uninstall by
    Connect and the install on Forge were heard.
    """
    told: dict[str, object] = {
        "status": TenantStatus.INSTALLED,
        "departure": None,
        "merged_into": None,
    }
    if tenant.platform is not Platform.FORGE:
        told |= {"platform": Platform.FORGE, "platform_since": now}
    return newer(tenant, epoch, **told)


def move_to_connect(tenant: TenantState, *, epoch: int, now: datetime) -> TenantState | None:
    """Give the state of a tenant that only Connect calls installed; None where that is no news."""
    if tenant.platform is not Platform.FORGE:
        return None
    return newer(tenant, epoch, platform=Platform.CONNECT, platform_since=now)


def merge_into(
    tenant: TenantState, living_id: UUID, *, epoch: int, now: datetime
) -> TenantState | None:
    """Give the state of a tenant for which another one goes on; None where that is no news.

    Its licences are the other one's. A clock that runs is neither wound back
    nor lost: it left when it had left, and what had ended stays ended.
    """
    departed_at = max(now, tenant.created_at) if tenant.departure is None else tenant.departure.at
    return newer(
        tenant,
        epoch,
        status=TenantStatus.UNINSTALLED,
        departure=Departure(at=departed_at, how=DepartureKind.SUPERSEDED),
        subscription=without_licence(tenant.subscription),
        licence_numbers=(),
        merged_into=living_id,
    )


def without_licence(subscription: Subscription) -> Subscription:
    """Say what is left of a subscription whose licences are another tenant's: its end, if any."""
    if subscription.status is SubscriptionStatus.ENDED:
        return subscription
    return Subscription(status=SubscriptionStatus.NONE)


def leave(
    tenant: TenantState, how: DepartureKind, *, epoch: int, at: datetime
) -> TenantState | None:
    """Give the state of a tenant that left ``at`` a moment; None where it had left already.

    The first departure stays: a clock that runs is not wound back by hearing
    the same again. Only how is told anew where we had to guess it, since a
    call that was still on its way would take a guess back. No departure lies
    before the tenant's creation.
    """
    departure = Departure(at=max(at, tenant.created_at), how=how)
    match tenant.status, tenant.departure:
        case TenantStatus.INSTALLED, _:
            pass
        case TenantStatus.UNINSTALLED, Departure(how=DepartureKind.ACCESS_LOST, at=lost_at):
            departure = Departure(at=lost_at, how=how)
        case _:
            return None
    return newer(tenant, epoch, status=TenantStatus.UNINSTALLED, departure=departure)


def show_life(tenant: TenantState, *, epoch: int) -> TenantState | None:
    """Give the state of a tenant whose site lets us in, or calls us; None where that is no news.

    It takes back that access was lost, and nothing else: who uninstalled may
    still sign a late call, and a superseded site's return is an install.
    """
    departure = tenant.departure
    lost = departure is not None and departure.how is DepartureKind.ACCESS_LOST
    if not lost or tenant.status is not TenantStatus.UNINSTALLED:
        return None
    return newer(tenant, epoch, status=TenantStatus.INSTALLED, departure=None)


class Refusal(StrEnum):
    """Why wave 0 of a purge is refused."""

    UNKNOWN_TENANT = "unknown-tenant"
    NEWER_STATE = REFUSED_FOR_NEWER_STATE
    NOT_LIVE = "not-live"


@dataclass(frozen=True, slots=True)
class Accept:
    """The point of no return; ``said`` is the tenant's state from here on."""

    said: TenantState


@dataclass(frozen=True, slots=True)
class AcceptAgain:
    """This purge was accepted before, at ``accepted_at``."""

    accepted_at: datetime


@dataclass(frozen=True, slots=True)
class Refuse:
    """The plan was made from something else than what is now."""

    reason: Refusal


PurgeDecision: TypeAlias = Accept | AcceptAgain | Refuse


def decide_purge(
    tenant: TenantState | None,
    request: PurgeRequested,
    *,
    accepted_at: datetime | None,
    epoch: int,
) -> PurgeDecision:
    """Say whether a purge may pass the point of no return.

    It may when the tenant is exactly as the plan saw it. ``accepted_at`` is
    when this very purge was accepted before, since a request may come again.
    """
    if tenant is None:
        return Refuse(Refusal.UNKNOWN_TENANT)
    if accepted_at is not None:
        return AcceptAgain(accepted_at)
    if tenant.version != request.tenant_version:
        return Refuse(Refusal.NEWER_STATE)
    if any(tenant.classes[each] is not ClassState.LIVE for each in request.classes):
        return Refuse(Refusal.NOT_LIVE)
    said = begin_purge(tenant, request.purge_id, request.classes, epoch=epoch)
    assert said is not None
    return Accept(said)


def begin_purge(
    tenant: TenantState, purge_id: UUID, classes: Iterable[DataClass], *, epoch: int
) -> TenantState | None:
    """Give the state with these classes purging; None where none of them was live any more.

    Nothing leaves purging but erased, so what is past live stays as it is. A
    tenant that only loses content stays what it is, with its licences.
    """
    begun = {each for each in classes if tenant.classes[each] is ClassState.LIVE}
    if not begun:
        return None
    states = {**tenant.classes, **dict.fromkeys(begun, ClassState.PURGING)}
    return newer(
        tenant,
        epoch,
        classes=states,
        status=_status(tenant.status, states),
        licence_numbers=tenant.licence_numbers if may_be_found(states) else (),
        purge_id=purge_id,
    )


def erased_by(receipt: Receipt, purged: Iterable[DataClass]) -> frozenset[DataClass]:
    """List the classes of a purge that a receipt proves erased.

    The first receipt proves what its answered steps counted; steps that are
    still open prove nothing. The last one is written when all have answered.
    """
    if receipt.stage is ReceiptStage.CLOSED:
        return frozenset(purged)
    proven = {each for step in receipt.steps if not step.open for each in step.counts}
    return frozenset(purged) & proven


def finish_purge(
    tenant: TenantState, erased: Iterable[DataClass], *, epoch: int
) -> TenantState | None:
    """Give the state with these classes erased; None where that is nothing new."""
    finished = {each for each in erased if tenant.classes[each] is ClassState.PURGING}
    if not finished:
        return None
    states = {**tenant.classes, **dict.fromkeys(finished, ClassState.ERASED)}
    return newer(tenant, epoch, classes=states, status=_status(tenant.status, states))


def is_gone(tenant: TenantState) -> bool:
    """Say whether every class is erased, so that nothing is left to know of the tenant."""
    return all(state is ClassState.ERASED for state in tenant.classes.values())


def all_live(tenant: TenantState) -> bool:
    """Say whether nothing of a tenant is erased or about to be."""
    return all(state is ClassState.LIVE for state in tenant.classes.values())


def may_be_found(classes: Mapping[DataClass, ClassState]) -> bool:
    """Whether licence numbers may be told: people who are being forgotten are not found again.

    Neither is a tenant whose installation goes.
    """
    named = (DataClass.INSTALLATION, DataClass.CONTACTS)
    return all(classes[each] is ClassState.LIVE for each in named)


def restated(tenant: TenantState, *, epoch: int) -> TenantState:
    """Give the same state as something newer than all that was said before."""
    return tenant.model_copy(update={"version": _next(tenant.version, epoch)})


def newer(tenant: TenantState, epoch: int, **told: object) -> TenantState | None:
    """Give the next version with these fields; None where it would say nothing new."""
    said = tenant.model_copy(update=told)
    return None if said == tenant else restated(said, epoch=epoch)


def _next(version: Version, epoch: int) -> Version:
    return Version(epoch=max(epoch, version.epoch), n=version.n + 1)


def _status(status: TenantStatus, classes: dict[DataClass, ClassState]) -> TenantStatus:
    match classes[DataClass.INSTALLATION]:
        case ClassState.LIVE:
            return status
        case ClassState.PURGING:
            return TenantStatus.PURGING
        case ClassState.ERASED:
            return TenantStatus.PURGED
