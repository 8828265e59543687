"""Tenants whose pages report errors."""

from typing import Any
from uuid import UUID, uuid4

from contracts.tenants import ClassState, Platform, TenantStatus
from services.config import error_tokens as tokens
from services.config.domain.access import Tenant
from services.config.error_intake import remember_apps
from tests.config.builders import Config

APP = "com.example.reports"
TABLES = ("error_groups", "error_counts", "error_events")


async def a_tenant(config: Config, *, app: str = APP, **others: Any) -> UUID:
    """Know of a new tenant, and of which app it is."""
    known: dict[str, Any] = {
        "tenant_id": uuid4(),
        "status": TenantStatus.INSTALLED,
        "platform": Platform.CONNECT,
        "content": ClassState.LIVE,
    }
    tenant = Tenant(**(known | others))
    await config.know(tenant)
    async with config.units.begin() as uow:
        await remember_apps(uow, {tenant.tenant_id: app})
    return tenant.tenant_id


def a_token(config: Config, tenant_id: UUID) -> str:
    """An ingest token as the tenant's page gets it."""
    return tokens.issue(config.keys, tenant_id, wall=config.clock.wall())


async def rows(config: Config, table: str, tenant_id: UUID) -> list[dict[str, Any]]:
    """What a table holds of a tenant, by a role that sees all."""
    found = await config.eraser.fetch(f"SELECT * FROM {table} WHERE tenant_id = $1", tenant_id)
    return [dict(row) for row in found]


async def all_rows(config: Config, tenant_id: UUID) -> list[dict[str, Any]]:
    """All that is kept of a tenant's reports."""
    return [row for table in TABLES for row in await rows(config, table, tenant_id)]
