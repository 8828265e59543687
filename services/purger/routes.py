"""What purger shows: receipts, the ledger for whoever verifies it, and on a laptop the brake."""

from datetime import datetime
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, Field

from chassis.problems import Problem
from chassis.service import Running, running
from contracts.ledger import LedgerEntry
from services.purger import store
from services.purger.context import Context
from services.purger.domain import RELEASED_BY, same_person

log = structlog.get_logger(__name__)

_MOST_ENTRIES = 500

router = APIRouter()
development_router = APIRouter(prefix="/development")


class ReceiptAnswer(BaseModel):
    """A receipt: its first entry, and its last once every step is closed."""

    receipt_code: str
    closed: bool
    entries: list[LedgerEntry]


class LedgerPage(BaseModel):
    """Some entries of the ledger in their order, and where it ends now."""

    entries: list[LedgerEntry]
    head_number: int
    head_hash: str


@router.get("/receipts/{code}")
async def show_receipt(
    request: Request, code: Annotated[str, Path(max_length=128)]
) -> ReceiptAnswer:
    """Show anyone who has the code what was erased; it holds no personal data."""
    async with _purger(request).units.begin() as uow:
        entries = await store.receipts_by_code(uow.connection, code)
    if not entries:
        raise Problem(404, detail="There is no receipt under this code.")
    stages = [entry.receipt.stage for entry in entries if entry.receipt]
    return ReceiptAnswer(receipt_code=code, closed="closed" in stages, entries=entries)


@router.get("/ledger/public-key", response_class=PlainTextResponse)
async def show_public_key(request: Request) -> PlainTextResponse:
    """Give the keys that verify the ledger's signatures, in PEM, that of new entries first."""
    key = _purger(request).context.ledger_key()
    return PlainTextResponse(
        key.public_pem, media_type="application/x-pem-file", headers={"x-key-id": key.key_id}
    )


@router.get("/ledger/entries")
async def show_entries(
    request: Request, after: Annotated[int, Query(ge=0, le=2**53 - 1)] = 0
) -> LedgerPage:
    """Give the entries that follow a number, 500 at most; none when the end is reached."""
    async with _purger(request).units.begin() as uow:
        end = await store.ledger_end(uow.connection)
        entries = await store.ledger_entries(uow.connection, after=after, limit=_MOST_ENTRIES)
    return LedgerPage(entries=entries, head_number=end.number, head_hash=end.hash)


class Release(BaseModel):
    """A person's word that held purges may pass."""

    name: Annotated[str, Field(min_length=1, max_length=200, pattern=r"\S")]


class Signature(BaseModel):
    """Who released the brake, and when."""

    name: str
    released_at: datetime


class BrakeAnswer(BaseModel):
    """Whether purges are held back, why, and who wants them let through."""

    engaged: bool
    engaged_at: datetime | None
    reason: str | None
    releases: list[Signature]
    releases_needed: int = RELEASED_BY


@development_router.get("/brake")
async def show_brake(request: Request) -> BrakeAnswer:
    """Show the brake."""
    async with _purger(request).units.begin() as uow:
        brake = await store.read_brake(uow.connection)
        signatures = (
            await store.releases(uow.connection, engaged_at=brake.engaged_at)
            if brake.engaged_at
            else []
        )
    return BrakeAnswer(
        engaged=brake.engaged_at is not None,
        engaged_at=brake.engaged_at,
        reason=brake.reason,
        releases=[Signature(name=name, released_at=at) for name, at in signatures],
    )


@development_router.post("/brake/releases")
async def release_brake(request: Request, release: Release) -> BrakeAnswer:
    """Record who wants held purges let through; the second person lets them through.

    The same person twice is one person.
    """
    purger = _purger(request)
    async with purger.units.begin() as uow:
        brake = await store.lock_brake(uow.connection)
        if brake.engaged_at is None:
            raise Problem(409, "The brake is not engaged", "No purge is held back.")
        await store.sign_release(
            uow.connection,
            engaged_at=brake.engaged_at,
            person=same_person(release.name),
            name=release.name.strip(),
            now=uow.now,
        )
        signatures = await store.releases(uow.connection, engaged_at=brake.engaged_at)
        released = len(signatures) >= RELEASED_BY
        if released:
            await store.release_brake(uow.connection, now=uow.now)
            log.warning("brake released", reason=brake.reason)
    if released:
        purger.wake_job("ask for due purges")
    return BrakeAnswer(
        engaged=not released,
        engaged_at=None if released else brake.engaged_at,
        reason=None if released else brake.reason,
        releases=[Signature(name=name, released_at=at) for name, at in signatures],
    )


def _purger(request: Request) -> Running[Any]:
    found: Running[Context] = running(request)
    return found
