"""Tenants and answers for tests of purger."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from contracts.classes import TENANT_CLASSES
from contracts.purges import DataErased, PurgeAccepted, PurgeRefused, PurgeRequested, PurgeStarted
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

CREATED_AT = datetime(2026, 1, 15, 12, tzinfo=UTC)
LEFT_AT = datetime(2026, 3, 10, 9, 30, tzinfo=UTC)
DAY = timedelta(days=1)
NO_LICENCE = Subscription(status=SubscriptionStatus.NONE)
ACTIVE = Subscription(status=SubscriptionStatus.ACTIVE)


def ended(at: datetime) -> Subscription:
    """A subscription that ended."""
    return Subscription(status=SubscriptionStatus.ENDED, ended_at=at)


def a_tenant(
    *,
    n: int = 1,
    epoch: int = 1,
    tenant_id: UUID | None = None,
    left_at: datetime | None = None,
    subscription: Subscription = NO_LICENCE,
    **changes: Any,
) -> TenantState:
    """The state of a tenant: installed, or uninstalled where it has left."""
    left = left_at is not None
    state = TenantState(
        tenant_id=tenant_id or uuid4(),
        version=Version(epoch=epoch, n=n),
        status=TenantStatus.UNINSTALLED if left else TenantStatus.INSTALLED,
        classes=dict.fromkeys(TENANT_CLASSES, ClassState.LIVE),
        platform=Platform.CONNECT,
        addon_key="com.example.app",
        product_type="jira",
        created_at=CREATED_AT,
        departure=Departure(at=left_at, how=DepartureKind.UNINSTALLED) if left_at else None,
        subscription=subscription,
        licence_numbers=("SEN-123",),
    )
    return state.model_copy(update=changes)


def purging(tenant: TenantState, asked: PurgeRequested) -> TenantState:
    """The state of a tenant once the installer has accepted what it was asked."""
    classes = {
        each: ClassState.PURGING if each in asked.classes else state
        for each, state in tenant.classes.items()
    }
    return tenant.model_copy(
        update={
            "version": Version(epoch=tenant.version.epoch, n=tenant.version.n + 1),
            "classes": classes,
            "purge_id": asked.purge_id,
            "licence_numbers": (),
        }
    )


def acceptance(asked: PurgeRequested, at: datetime) -> PurgeAccepted:
    """The installer's yes."""
    return PurgeAccepted(
        purge_id=asked.purge_id,
        step=asked.step,
        tenant_id=asked.tenant_id,
        tenant_version=asked.tenant_version,
        accepted_at=at,
    )


def refusal(asked: PurgeRequested, at: datetime) -> PurgeRefused:
    """The installer's no."""
    return PurgeRefused(
        purge_id=asked.purge_id,
        step=asked.step,
        tenant_id=asked.tenant_id,
        tenant_version=Version(epoch=1, n=asked.tenant_version.n + 1),
        reason="newer-state",
        refused_at=at,
    )


def answer(order: PurgeStarted, at: datetime, *, rows: int = 3, remaining: int = 0) -> DataErased:
    """An owner's answer."""
    return DataErased(
        purge_id=order.purge_id,
        step=order.step,
        tenant_id=order.tenant_id,
        owner=order.owner,
        ledger_number=order.ledger_number,
        counts=dict.fromkeys(order.classes, rows),
        remaining=remaining,
        data_map_hash="ab" * 32,
        erased_at=at,
    )
