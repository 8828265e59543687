"""How a campaign goes: a page that stays fresh, with what pauses, resumes and stops it."""

from http import HTTPStatus
from typing import Final

import structlog
from fastapi import Request
from starlette.responses import Response

from chassis.pages import form_of, id_in, see
from chassis.staff.access import StaffRouter, allowed
from chassis.staff.people import Role, said_by
from services.notifier import news
from services.notifier.domain.news import Act, NewsRefused, name_of
from services.notifier.routes.staff import EditorPages, notifier_of
from services.notifier.store import campaigns
from services.notifier.store import news as store

log = structlog.get_logger(__name__)

_ACTS: Final = {"pause": Act.PAUSED, "resume": Act.RESUMED, "stop": Act.STOPPED}


class CampaignPages:
    """The pages of campaigns."""

    def __init__(self, pages: EditorPages) -> None:
        self._pages = pages

    def router(self) -> StaffRouter:
        """Return the routes."""
        router = StaffRouter(prefix="/staff/campaigns", include_in_schema=False)
        router.add_api_route("/{campaign}", self.show, methods=["GET"], response_model=None)
        router.add_api_route(
            "/{campaign}/{verb}", self.steer, methods=["POST"], response_model=None
        )
        return router

    @allowed(Role.MARKETING, Role.PRIVACY, Role.OPERATOR)
    async def show(self, request: Request, campaign: str) -> Response:
        """Show how far a campaign has come, how fast it goes, and who did what with it."""
        return await self._show(request, campaign, problem=None, by="")

    @allowed(Role.MARKETING, Role.PRIVACY, Role.OPERATOR)
    async def steer(self, request: Request, campaign: str, verb: str) -> Response:
        """Pause, resume or stop a campaign, by name."""
        form = await form_of(request)
        campaign_id, act = id_in(campaign), _ACTS.get(verb)
        if campaign_id is None or act is None:
            return self._pages.nothing("There is no such campaign.")
        notifier, by = notifier_of(request), form.get("by", "")
        try:
            async with notifier.units.begin() as uow:
                await news.steer(uow, campaign_id, act, by=name_of(said_by(by)))
        except NewsRefused as refused:
            return await self._show(request, campaign, problem=str(refused), by=by)
        log.warning("campaign steered", campaign_id=campaign_id, act=act)
        notifier.wake_job("mail")
        return see(f"../{campaign_id}")

    async def _show(
        self,
        request: Request,
        campaign: str,
        *,
        problem: str | None,
        by: str,
    ) -> Response:
        campaign_id = id_in(campaign)
        async with notifier_of(request).units.begin() as uow:
            now = uow.now
            course = campaign_id and await campaigns.course_of(uow.connection, campaign_id, now=now)
            if campaign_id is None or course is None:
                return self._pages.nothing("There is no such campaign.")
            kept = await store.find(uow.connection, campaign_id)
            acts = await store.acts(uow.connection, campaign_id)
        shown = {
            "campaign_id": campaign_id,
            "course": course,
            "kept": kept,
            "acts": acts,
            "now": now,
            "problem": problem,
            "by": by,
        }
        status = HTTPStatus.OK if problem is None else HTTPStatus.CONFLICT
        return self._pages.page("campaign.html", shown, status=status)
