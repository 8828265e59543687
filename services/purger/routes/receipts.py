"""Receipts for whoever has the code, and the ledger for whoever verifies it."""

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel
from starlette.responses import Response

from chassis.pages import wants_page
from chassis.problems import Problem
from chassis.service import Running, running
from contracts.ledger import LedgerEntry
from services.purger.context import Context
from services.purger.receipts import tell
from services.purger.routes.pages import Pages
from services.purger.store import ledger as store

_MOST_ENTRIES = 500


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


def receipts_router(pages: Pages, *, public_url: str) -> APIRouter:
    """Return the public routes; ``public_url`` is where others find them."""
    router = APIRouter()

    @router.get(
        "/receipts/{code}",
        response_model=ReceiptAnswer,
        responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}},
    )
    async def show_receipt(
        request: Request, code: Annotated[str, Path(max_length=128)]
    ) -> ReceiptAnswer | Response:
        """Show anyone who has the code what was erased; it holds no personal data.

        A browser gets a page, everybody else JSON.
        """
        async with _purger(request).units.begin() as uow:
            entries = await store.receipts_by_code(uow.connection, code)
            now = uow.now
        if wants_page(request):
            if not entries:
                return pages.page("no-receipt.html", {}, status=HTTPStatus.NOT_FOUND)
            shown = {"told": tell(entries, now=now), "code": code, "public_url": public_url}
            return pages.page("receipt.html", shown)
        if not entries:
            raise Problem(404, detail="There is no receipt under this code.")
        stages = [entry.receipt.stage for entry in entries if entry.receipt]
        return ReceiptAnswer(receipt_code=code, closed="closed" in stages, entries=entries)

    router.add_api_route(
        "/ledger/public-key", show_public_key, methods=["GET"], response_class=PlainTextResponse
    )
    router.add_api_route("/ledger/entries", show_entries, methods=["GET"])
    return router


async def show_public_key(request: Request) -> PlainTextResponse:
    """Give the keys that verify the ledger's signatures, in PEM, that of new entries first."""
    key = _purger(request).context.ledger_key()
    return PlainTextResponse(
        key.public_pem, media_type="application/x-pem-file", headers={"x-key-id": key.key_id}
    )


async def show_entries(
    request: Request, after: Annotated[int, Query(ge=0, le=2**53 - 1)] = 0
) -> LedgerPage:
    """Give the entries that follow a number, 500 at most; none when the end is reached."""
    async with _purger(request).units.begin() as uow:
        end = await store.ledger_end(uow.connection)
        entries = await store.ledger_entries(uow.connection, after=after, limit=_MOST_ENTRIES)
    return LedgerPage(entries=entries, head_number=end.number, head_hash=end.hash)


def _purger(request: Request) -> Running[Any]:
    found: Running[Context] = running(request)
    return found
