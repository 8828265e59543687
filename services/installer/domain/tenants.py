"""The rules of a tenant's state: what installs, uninstalls, purges and receipts make of it."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias
from uuid import UUID

from contracts.classes import TENANT_CLASSES, DataClass
from contracts.ledger import Receipt, ReceiptStage
from contracts.purges import PurgeRequested
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

    @property
    def licence_numbers(self) -> tuple[str, ...]:
        """The licence number, where it has a shape that may travel on the bus."""
        number = self.service_entitlement_number
        return (number,) if number and _ON_THE_BUS.fullmatch(number) else ()


class Change(StrEnum):
    """What an ``installed`` call changed of a tenant that we know."""

    REVIVED = "revived"
    ROTATED = "rotated"
    RENAMED = "renamed"
    RELICENSED = "relicensed"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Unchanged:
    """Nothing new was heard: nothing is written and nothing is said."""


@dataclass(frozen=True, slots=True)
class Changed:
    """Something new was heard; ``said`` is the tenant's new state where others see a change."""

    changes: frozenset[Change]
    installation: Installation
    said: TenantState | None

    @property
    def is_at_a_new_address(self) -> bool:
        """Whether the site may now stand where another one stood."""
        return bool(self.changes & {Change.REVIVED, Change.RENAMED})


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


def hear_installed(
    tenant: TenantState, stored: Installation, reported: Installation, *, epoch: int
) -> Changed | Unchanged:
    """Say what an ``installed`` call means for a tenant that is not purging.

    The call tells the site's present state, whatever it was sent for: install,
    upgrade, rotation or rename. It revives a tenant that had left. A licence
    number that is missing says nothing, as the call often lacks it
    (community.developer.atlassian.com, topic 33953).
    """
    present = reported
    if reported.service_entitlement_number is None:
        present = replace(reported, service_entitlement_number=stored.service_entitlement_number)
    changes = _changes(stored, present)
    if tenant.departure is not None:
        changes.add(Change.REVIVED)
    if not changes:
        return Unchanged()
    told = {
        "status": TenantStatus.INSTALLED,
        "departure": None,
        "product_type": present.product_type,
        # People who are being forgotten are not to be found again.
        "licence_numbers": present.licence_numbers if _all_live(tenant) else (),
    }
    return Changed(frozenset(changes), present, newer(tenant, epoch, **told))


def _changes(stored: Installation, present: Installation) -> set[Change]:
    names = {
        "shared_secret": Change.ROTATED,
        "base_url": Change.RENAMED,
        "service_entitlement_number": Change.RELICENSED,
        "product_type": Change.OTHER,
        "oauth_client_id": Change.OTHER,
    }
    return {
        change for name, change in names.items() if getattr(stored, name) != getattr(present, name)
    }


def leave(
    tenant: TenantState, how: DepartureKind, *, epoch: int, at: datetime
) -> TenantState | None:
    """Give the state of a tenant that left ``at`` a moment; None where it had left already.

    The first departure stays: a clock that runs is not wound back by hearing
    the same again. None lies before the tenant's creation.
    """
    if tenant.status is not TenantStatus.INSTALLED:
        return None
    departure = Departure(at=max(at, tenant.created_at), how=how)
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
    NEWER_STATE = "newer-state"
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

    Nothing leaves purging but erased, so what is past live stays as it is.
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
        licence_numbers=(),
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


def _all_live(tenant: TenantState) -> bool:
    return all(state is ClassState.LIVE for state in tenant.classes.values())


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
