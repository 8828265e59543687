"""The rules of a restore: what the installer's own topic makes of tenants that it knows, or forgot."""

from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from contracts.classes import DataClass
from contracts.tenants import (
    Departure,
    DepartureKind,
    Subscription,
    SubscriptionStatus,
    TenantState,
    TenantStatus,
)


@dataclass(frozen=True, slots=True)
class Renew:
    """A tenant is known, and its state went on after the copy was taken.

    ``seen_at`` is there where it had left in the copy and is back: by then, at the
    latest, it was heard of again.
    """

    state: TenantState
    seen_at: datetime | None


@dataclass(frozen=True, slots=True)
class Adopt:
    """A tenant is not known: all that is left of it here is its state."""

    state: TenantState


@dataclass(frozen=True, slots=True)
class Bury:
    """A tenant is erased, and its tombstone never reached the topic."""


TakeOver: TypeAlias = Renew | Adopt | Bury


def decide_take_over(
    known: TenantState | None,
    said: TenantState,
    *,
    said_at: datetime,
    erased: frozenset[DataClass],
) -> TakeOver | None:
    """Say what a state on the topic makes of a restored database; None where it is no news.

    A tenant of whom only the guard is left here was forgotten as erased.
    """
    if known is not None:
        if known.version >= said.version:
            return None
        is_back = known.departure is not None and said.departure is None
        return Renew(said, seen_at=said_at if is_back else None)
    if DataClass.INSTALLATION in erased:
        return Bury()
    return Adopt(orphaned(said, last_seen_at=said_at))


def orphaned(said: TenantState, *, last_seen_at: datetime) -> TenantState:
    """Give the state of a tenant without an installation: it has left, when it was last seen.

    Its site is not found by any name any more, and Atlassian does not send the
    secret again; where the customer still uses the app, its next install is a
    new tenant. A clock that runs already goes on. Nobody here knows of its
    licence, so none holds its people back.
    """
    told: dict[str, object] = {}
    if said.status is TenantStatus.INSTALLED:
        told["status"] = TenantStatus.UNINSTALLED
    if said.departure is None:
        at = max(last_seen_at, said.created_at)
        told["departure"] = Departure(at=at, how=DepartureKind.ACCESS_LOST)
    if said.subscription.status is SubscriptionStatus.ACTIVE:
        told["subscription"] = Subscription(status=SubscriptionStatus.NONE)
    return said.model_copy(update=told)
