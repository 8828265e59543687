"""The rule of links: when a person may say that a tenant goes on for another one."""

from dataclasses import dataclass
from enum import StrEnum

from contracts.tenants import DepartureKind, Platform, TenantState, TenantStatus
from services.installer.domain.tenants import Installation, all_live


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two that are to be linked, with its installation where Connect told of one.

    ``present`` is whether the app is installed there by Connect's name.
    """

    tenant: TenantState
    installation: Installation | None
    present: bool


class Refusal(StrEnum):
    """Why two tenants are not linked."""

    OLD_IS_GONE = "old-is-gone"
    LINKED_ALREADY = "linked-already"
    NOT_SUPERSEDED = "not-superseded"
    BEING_ERASED = "being-erased"
    STILL_AWAITS_DATA = "still-awaits-data"
    NEW_IS_NOT_INSTALLED = "new-is-not-installed"
    NEW_IS_ON_FORGE = "new-is-on-forge"
    NOT_AT_ONE_SITE = "not-at-one-site"


def why_not_link(old: Side | None, new: Side | None, *, awaits_data: bool) -> Refusal | None:
    """Say what forbids that ``new`` goes on for ``old``; None where nothing does.

    A host name alone proves nothing, so it is a person who decides; but what
    was not at one address, or did not give way to an import, is no import at
    all. Content of an app on Forge is not kept here, so none could move there.
    ``awaits_data`` is whether a third tenant's data is still on its way to
    ``old``: it would come too late to move on.
    """
    if old is None:
        return Refusal.OLD_IS_GONE
    refusal = _why_not_leave(old.tenant)
    if refusal is not None:
        return refusal
    if awaits_data:
        return Refusal.STILL_AWAITS_DATA
    if new is None or new.tenant.status is not TenantStatus.INSTALLED or not all_live(new.tenant):
        return Refusal.NEW_IS_NOT_INSTALLED
    return _why_not_at_one_site(old, new)


def _why_not_leave(tenant: TenantState) -> Refusal | None:
    if tenant.merged_into is not None:
        return Refusal.LINKED_ALREADY
    if tenant.departure is None or tenant.departure.how is not DepartureKind.SUPERSEDED:
        return Refusal.NOT_SUPERSEDED
    return None if all_live(tenant) else Refusal.BEING_ERASED


def _why_not_at_one_site(old: Side, new: Side) -> Refusal | None:
    if new.tenant.platform is not Platform.CONNECT:
        return Refusal.NEW_IS_ON_FORGE
    if old.installation is None or new.installation is None or not new.present:
        return Refusal.NOT_AT_ONE_SITE
    is_one = (
        old.installation.addon_key == new.installation.addon_key
        and old.installation.base_url == new.installation.base_url
    )
    return None if is_one else Refusal.NOT_AT_ONE_SITE
