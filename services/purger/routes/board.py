"""The board: what is due, running, held and late, and why."""

from http import HTTPStatus
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import Query, Request
from starlette.responses import Response

from chassis.service import Running, running
from chassis.staff.access import StaffRouter, allowed
from chassis.staff.people import Role
from services.purger import brake
from services.purger.board import Board, shown
from services.purger.context import Context, Work
from services.purger.domain.brake import LONGEST_NAME, LONGEST_REASON, RELEASED_BY
from services.purger.domain.watch import levels_reached
from services.purger.explanations import Explanation, explain
from services.purger.forecast import last_day, months_of, weeks_of
from services.purger.routes.pages import Pages
from services.purger.store import board as store_of_board
from services.purger.store import chain, forecast, holds, ledger, watch

_ROWS: Final = 25
_RECEIPTS: Final = 20
_READING: Final = (Role.SUPPORT, Role.PRIVACY, Role.OPERATOR)
_READERS: Final = allowed(*_READING)


def board_router(pages: Pages) -> StaffRouter:
    """Return the routes of the board."""
    router = StaffRouter()

    @router.get("/board", include_in_schema=False)
    @allowed(*_READING, page="Purges")
    async def show_board(
        request: Request, tenant: Annotated[str | None, Query(max_length=100)] = None
    ) -> Response:
        """Show what is due, running, held and late, and where asked for a tenant's purges."""
        tenant_id = _uuid(tenant)
        async with _purger(request).units.begin() as uow:
            board = await _read(uow)
            found = (
                await store_of_board.purges_of_tenant(uow.connection, tenant_id)
                if tenant_id
                else []
            )
        return pages.page(
            "board.html",
            {
                "board": board,
                "searched": tenant is not None and tenant.strip() != "",
                "tenant_id": tenant_id,
                "found": [shown(purge, now=board.now) for purge in found],
                "releases_needed": RELEASED_BY,
                "longest_name": LONGEST_NAME,
                "longest_reason": LONGEST_REASON,
            },
            status=HTTPStatus.OK,
        )

    @router.get("/tenants/{tenant_id}/purges")
    @_READERS
    async def show_purges(request: Request, tenant_id: UUID) -> list[Explanation]:
        """Say why each purge of a tenant has its dates."""
        async with _purger(request).units.begin() as uow:
            found = await store_of_board.purges_of_tenant(uow.connection, tenant_id)
        return [explain(purge.plan) for purge in found]

    return router


async def _read(uow: Work) -> Board:
    connection, now = uow.connection, uow.now
    standing = await brake.standing(connection)
    days = await forecast.due_by_day(connection, until=last_day(now))
    overdue = await store_of_board.open_purges(
        connection, erase_by_before=now, after=None, limit=_ROWS
    )
    swept = standing.brake.last
    return Board(
        now=now,
        phases=await watch.count_by_phase(connection),
        levels=await watch.count_by_level(connection, levels_reached(now), now=now),
        waiting=await store_of_board.count_waiting(connection, now=now),
        held=await holds.count_held(connection, now=now),
        brake=standing,
        swept_ago=None if swept is None else uow.wall - swept.wall_at,
        overdue=[shown(purge, now=now) for purge in overdue],
        running=[
            shown(purge, now=now)
            for purge in await store_of_board.running_purges(connection, limit=_ROWS)
        ],
        due=[
            shown(purge, now=now)
            for purge in await store_of_board.next_purges(connection, limit=_ROWS)
        ],
        weeks=weeks_of(days, now),
        months=months_of(days, now),
        receipts=await store_of_board.latest_receipts(connection, limit=_RECEIPTS),
        ledger_number=(await ledger.ledger_end(connection)).number,
        ledger_check=await chain.ledger_check(connection),
    )


def _uuid(text: str | None) -> UUID | None:
    try:
        return UUID((text or "").strip())
    except ValueError:
        return None


def _purger(request: Request) -> Running[Any]:
    found: Running[Context] = running(request)
    return found
