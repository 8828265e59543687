"""The brake over HTTP."""

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any, Final

import structlog
from fastapi import Request
from pydantic import BaseModel, Field

from chassis.problems import Problem
from chassis.service import Running, running
from chassis.staff.access import StaffRouter, allowed
from chassis.staff.people import Role, said_by
from services.purger import brake
from services.purger.brake import Standing
from services.purger.context import Context
from services.purger.domain.brake import LONGEST_NAME, LONGEST_REASON, RELEASED_BY

log = structlog.get_logger(__name__)

router = StaffRouter()

_KEEPERS: Final = allowed(Role.PRIVACY, Role.OPERATOR)

Name = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME, pattern=r"\S")]


class Release(BaseModel):
    """A person's word that held purges may pass."""

    name: Name


class Pulling(BaseModel):
    """A person's word that no purge may start, and why, in words that staff will read."""

    name: Name
    reason: Annotated[str | None, Field(max_length=LONGEST_REASON)] = None


class Signature(BaseModel):
    """Who released the brake, and when."""

    name: str
    released_at: datetime


class BrakeAnswer(BaseModel):
    """Whether purges are held back, why, and who wants them let through."""

    engaged: bool
    engaged_at: datetime | None
    reason: str | None
    pulled_by: str | None = None
    pulled_because: str | None = None
    releases: list[Signature]
    releases_needed: int = RELEASED_BY


@router.get("/brake")
@_KEEPERS
async def show_brake(request: Request) -> BrakeAnswer:
    """Show the brake."""
    async with _purger(request).units.begin() as uow:
        return _told(await brake.standing(uow.connection))


@router.post("/brake/pulls")
@_KEEPERS
async def pull_brake(request: Request, pulling: Pulling) -> BrakeAnswer:
    """Hold back every purge that has not begun; one person's word is enough."""
    async with _purger(request).units.begin() as uow:
        await brake.pull(
            uow.connection, name=said_by(pulling.name), reason=pulling.reason, now=uow.now
        )
        standing = await brake.standing(uow.connection)
    log.warning("brake pulled")
    return _told(standing)


@router.post("/brake/releases")
@_KEEPERS
async def release_brake(request: Request, release: Release) -> BrakeAnswer:
    """Record who wants held purges let through; the second person lets them through.

    The same person twice is one person.
    """
    purger = _purger(request)
    async with purger.units.begin() as uow:
        standing = await brake.release(uow.connection, name=said_by(release.name), now=uow.now)
    if standing is None:
        raise Problem(409, "The brake is not engaged", "No purge is held back.")
    if not standing.engaged:
        log.warning("brake released")
        purger.wake_job("ask for due purges")
    return _told(standing)


def _told(standing: Standing) -> BrakeAnswer:
    pull = standing.pull
    return BrakeAnswer(
        engaged=standing.engaged,
        engaged_at=standing.brake.engaged_at,
        reason=standing.brake.reason,
        pulled_by=pull.name if pull else None,
        pulled_because=pull.reason if pull else None,
        releases=_signatures(standing.releases),
    )


def _signatures(releases: Iterable[tuple[str, datetime]]) -> list[Signature]:
    return [Signature(name=name, released_at=at) for name, at in releases]


def _purger(request: Request) -> Running[Any]:
    found: Running[Context] = running(request)
    return found
