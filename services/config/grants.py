"""What is done with grants, each with its entry in the audit and its word to others, in one transaction."""

import secrets
from datetime import timedelta
from typing import Final
from uuid import UUID

import structlog

from chassis import audit
from chassis.identifiers import uuid7
from chassis.staff.people import Role, present
from chassis.unit_of_work import UnitOfWork
from contracts.access import AccessGranted, AccessRevoked, CustomerDataAccessed
from services.config.context import Context
from services.config.domain.grants import Grant, Reason
from services.config.store import grants as store
from services.config.store import looks
from services.config.store.looks import Look

log = structlog.get_logger(__name__)

LOOKERS: Final = (Role.SUPPORT, Role.DEVELOPER)
"""Whom the privacy policy lets see what a customer keeps."""

_ON_A_LAPTOP: Final = "laptop"
_STAFF: Final = "member of staff"
_SALT_BYTES: Final = 32


def myself() -> str:
    """Say who asks, in a route of staff's; on a laptop where nobody signs on that is one person."""
    return present.get().subject or _ON_A_LAPTOP


async def ask(
    uow: UnitOfWork[Context],
    tenant_id: UUID,
    reason: Reason,
    *,
    lasts: timedelta,
    renews: UUID | None = None,
) -> Grant:
    """Give who asks a grant for a tenant, which the transaction acts for.

    One without a ticket is told to all privacy officers by who hears of it.
    """
    roles = present.get().roles
    salt = secrets.token_bytes(_SALT_BYTES)
    grant = Grant(
        grant_id=uuid7(uow.now),
        tenant_id=tenant_id,
        subject=myself(),
        role=next(role for role in LOOKERS if role in roles),
        category=reason.category,
        reason_hash=reason.hash(salt),
        break_glass=reason.breaks_glass,
        renews=renews,
        granted_at=uow.now,
        expires_at=uow.now + lasts,
    )
    await store.add(uow.connection, grant, reason, salt=salt)
    about = {
        "role": grant.role,
        "category": grant.category.value,
        "reason_hash": grant.reason_hash.hex(),
        "expires_at": grant.expires_at.isoformat(),
        "way": "break-glass" if grant.break_glass else "ticket",
    }
    await _write_down(uow, "access-granted", grant, **about)
    uow.outbox.add(
        AccessGranted(
            grant_id=grant.grant_id,
            tenant_id=tenant_id,
            staff=_pseudonym(uow, grant.subject),
            role=grant.role,
            category=grant.category.value,
            reason_hash=grant.reason_hash.hex(),
            break_glass=grant.break_glass,
            renews=renews,
            granted_at=grant.granted_at,
            expires_at=grant.expires_at,
        )
    )
    if grant.break_glass:
        log.warning("glass broken", grant_id=str(grant.grant_id), tenant_id=str(tenant_id))
    return grant


async def revoke(uow: UnitOfWork[Context], grant: Grant) -> None:
    """End a grant early, by the word of who asks; it is locked, and may be revoked by them."""
    await store.revoke(uow.connection, grant.grant_id, by=myself(), now=uow.now)
    await _write_down(uow, "access-revoked", grant)
    uow.outbox.add(
        AccessRevoked(
            grant_id=grant.grant_id,
            tenant_id=grant.tenant_id,
            by_holder=grant.subject == myself(),
            revoked_at=uow.now,
        )
    )


async def review(uow: UnitOfWork[Context], grant: Grant, *, justified: bool) -> None:
    """Note what who asks thinks of a broken glass; it is locked, and may be reviewed by them."""
    await store.note_review(
        uow.connection, grant.grant_id, by=myself(), justified=justified, now=uow.now
    )
    await _write_down(
        uow, "access-reviewed", grant, verdict="justified" if justified else "not-justified"
    )


async def note_look(
    uow: UnitOfWork[Context], grant: Grant, kind: str, thing_id: UUID | None
) -> None:
    """Write down that something is about to be read under a grant, before it is.

    What was not written down is not read: an entry that cannot be added ends
    the transaction that would read.
    """
    look = Look(uuid7(uow.now), grant.grant_id, kind, thing_id)
    thing = {"thing_id": str(thing_id)} if thing_id else {}
    await _write_down(uow, "customer-data-accessed", grant, what=kind, **thing)
    await looks.note(uow.connection, grant.tenant_id, look, now=uow.now)
    uow.outbox.add(
        CustomerDataAccessed(
            look_id=look.look_id,
            grant_id=grant.grant_id,
            tenant_id=grant.tenant_id,
            what=kind,
            thing_id=thing_id,
            accessed_at=uow.now,
        )
    )


async def note_refusal(uow: UnitOfWork[Context], tenant_id: UUID, why: str) -> None:
    """Write down that somebody wanted to see what a tenant keeps, and was not let."""
    await audit.append(
        uow.connection,
        subject=myself(),
        act="customer-data-refused",
        about={"tenant_id": str(tenant_id), "why": why},
        wall=uow.wall,
    )


async def _write_down(uow: UnitOfWork[Context], act: str, grant: Grant, **about: str) -> None:
    await audit.append(
        uow.connection,
        subject=myself(),
        act=act,
        about={"grant_id": str(grant.grant_id), "tenant_id": str(grant.tenant_id), **about},
        wall=uow.wall,
    )


def _pseudonym(uow: UnitOfWork[Context], subject: str) -> str:
    return uow.context.keys.blind_index(_STAFF, subject).hex()
