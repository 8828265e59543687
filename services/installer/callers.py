"""Who signs with a shared secret of ours: the tenant of a name, and what its calls are checked by."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from chassis.unit_of_work import Units
from contracts.tenants import DepartureKind, Platform, TenantStatus
from services.installer.door import SECRET, Door, lock_living, show_life, until_undisturbed
from services.installer.store import tenants as store

_PAST_RETURN: Final = frozenset({TenantStatus.PURGING, TenantStatus.PURGED})
_LIFE_IS_NEWS_AFTER: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Caller:
    """A tenant that may have signed a call.

    ``secrets`` are those its calls may be signed with, the present one first.
    There are none for a tenant that is purging: it is told so before any key
    is touched. ``last_seen_at`` is when its site was last heard of, None where
    it is not asked yet; ``losses`` is how often it refused us since.
    """

    tenant_id: UUID
    status: TenantStatus
    platform: Platform
    departed_how: DepartureKind | None
    last_seen_at: datetime | None
    losses: int
    secrets: tuple[bytes, ...] = field(repr=False)

    @property
    def is_past_return(self) -> bool:
        """Whether the tenant is being purged, or was."""
        return self.status in _PAST_RETURN


class PastReturn(Exception):  # noqa: N818 - names what is so
    """The tenant that may have signed a call is being purged: no key of it is touched."""


@dataclass(slots=True)
class Callers:
    """The sites of one app for the length of one call: a source of secrets for its gate.

    ``found`` is who the call says it is from; once the gate let the call pass,
    it is.
    """

    units: Units[Door]
    addon_key: str
    found: Caller | None = None

    async def secrets(self, client_key: str) -> Sequence[bytes]:
        """Give the secrets by which a site's calls are checked; raises ``PastReturn``."""
        self.found = await find_caller(self.units, self.addon_key, client_key)
        if self.found is None:
            return ()
        if self.found.is_past_return:
            raise PastReturn
        return self.found.secrets


async def find_caller(units: Units[Door], addon_key: str, client_key: str) -> Caller | None:
    """Find the tenant of a name, the living one first; None where nobody has the name.

    A secret that was replaced counts for three minutes of wall time, since
    tokens are of the real world, whatever business time is.
    """
    row = await store.find_signer(units.pool, addon_key, client_key)
    if row is None:
        return None
    status = TenantStatus(row["status"])
    secrets: tuple[bytes, ...] = ()
    if row["live"] and row["wrapped_key"] is not None:
        keys, tenant_id = units.context.keys, row["tenant_id"]
        plain_key = keys.unwrapped_key(tenant_id, row["wrapped_key"], row["kek_id"])
        sealed = [row["shared_secret"]]
        if row["replaced_until"] is not None and units.clock.wall() < row["replaced_until"]:
            sealed.append(row["replaced_secret"])
        secrets = tuple(keys.open_with(plain_key, tenant_id, SECRET, each) for each in sealed)
    return Caller(
        tenant_id=row["tenant_id"],
        status=status,
        platform=Platform(row["platform"]),
        departed_how=DepartureKind(row["departed_how"]) if row["departed_how"] else None,
        last_seen_at=row["last_seen_at"],
        losses=row["losses"] or 0,
        secrets=secrets,
    )


async def note_life(units: Units[Door], caller: Caller) -> None:
    """Note that a tenant's site is there, as a call that it signed has shown.

    A tenant that is taken to have left because access was lost is installed
    again. Otherwise it is noted once an hour, so that most calls write nothing.
    """
    if caller.is_past_return:
        return
    now = units.clock.now()
    if caller.departed_how is DepartureKind.ACCESS_LOST:
        await until_undisturbed(lambda: _revive(units, caller.tenant_id))
    elif caller.losses or (
        caller.last_seen_at is not None and now - caller.last_seen_at >= _LIFE_IS_NEWS_AFTER
    ):
        await store.note_seen(units.pool, caller.tenant_id, now=now)


async def _revive(units: Units[Door], tenant_id: UUID) -> None:
    async with units.begin() as uow:
        tenant = await lock_living(uow, tenant_id)
        if tenant is not None:
            await show_life(uow, tenant)
