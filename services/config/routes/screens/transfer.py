"""Export and import: everything as one file, and back, with what would change before it does."""

from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from chassis.problems import Problem
from chassis.words import Words, word
from services.config.archives.reader import ArchiveRefused
from services.config.domain.imports import Action, Reason, Step, counts, fingerprint
from services.config.routes.access import Config, Tenant, reading, writing
from services.config.routes.imports import MOST_BYTES, do_import, planned_import, sent_archive
from services.config.routes.screens.screen import PATH, Screens

AREA: Final = "transfer"
LARGER_BODIES: Final = {
    f"{PATH}/{AREA}/preview": MOST_BYTES,
    f"{PATH}/{AREA}/import": MOST_BYTES,
}
_MOST_TOLD: Final = 200
_UNPROCESSABLE: Final = 422

_FILE_REFUSED: Final = word("The file is refused: %(why)s.")
_REASONS: Final = {
    Reason.TWICE: word("It is in the file twice."),
    Reason.ANOTHER_KIND: word("Here this is a thing of another kind."),
    Reason.NAME_TAKEN: word("Here another one has this name: rename one of them."),
    Reason.NATURE: word("It is of another kind of system here, which never changes."),
    Reason.MISSING: word("It refers to something that is neither in the file nor here."),
    Reason.UNLIKE: word("It refers to a datasource of another kind of system."),
    Reason.BLOCKED: word("It refers to something that is in conflict."),
}
_ACTIONS: Final = {
    Action.CREATE: word("Is created"),
    Action.REPLACE: word("Is replaced; its present version stays in its history"),
    Action.SKIP: word("Is here already, and the same"),
    Action.CONFLICT: word("Is in conflict"),
}


def _told(words: Words, refused: Problem) -> str | None:
    """Say in a reader's language why a file was refused."""
    cause = refused.__cause__
    if not isinstance(cause, ArchiveRefused):
        return refused.detail
    return words.say(_FILE_REFUSED, why=words.say(cause.text, **cause.values))


def add_to(router: APIRouter, screens: Screens) -> None:
    """Add the routes to a router of screens."""

    async def show(request: Request, config: Config, tenant_id: Tenant) -> Response:
        """Show what can be done."""
        async with reading(config, tenant_id):
            return screens.of(request).show("transfer.html", path=AREA, area=AREA)

    async def preview(request: Request, config: Config, tenant_id: Tenant) -> Response:
        """Show what the sent archive would change; store nothing."""
        try:
            imported = await sent_archive(request, config.context)
        except Problem as refused:
            return _refused(request, refused)
        async with reading(config, tenant_id) as uow:
            steps = await planned_import(uow, tenant_id, imported)
        return _planned(request, steps)

    async def apply(
        request: Request,
        config: Config,
        tenant_id: Tenant,
        preview: Annotated[str, Query(pattern="^[0-9a-f]{64}$")],
    ) -> Response:
        """Do what was shown, or show anew what it would be by now."""
        try:
            imported = await sent_archive(request, config.context)
        except Problem as refused:
            return _refused(request, refused)
        async with writing(config, tenant_id, alone=True) as uow:
            steps = await planned_import(uow, tenant_id, imported)
            told = counts(steps)
            if fingerprint(steps) != preview or told[Action.CONFLICT]:
                return _planned(request, steps, changed=True)
            await do_import(uow, tenant_id, steps)
        return screens.of(request).show("import-done.html", counts=told)

    def _planned(request: Request, steps: list[Step], *, changed: bool = False) -> Response:
        told = [step for step in steps if step.action is not Action.SKIP]
        # What needs a person comes first.
        told.sort(key=lambda step: step.action is not Action.CONFLICT)
        return screens.of(request).show(
            "import-preview.html",
            steps=told[:_MOST_TOLD],
            left_out=max(0, len(told) - _MOST_TOLD),
            counts=counts(steps),
            actions=_ACTIONS,
            reasons=_REASONS,
            preview=fingerprint(steps),
            changed=changed,
        )

    def _refused(request: Request, refused: Problem) -> Response:
        if refused.status != _UNPROCESSABLE:
            raise refused
        screen = screens.of(request)
        return screen.show("import-refused.html", detail=_told(screen.words, refused))

    router.add_api_route(f"/{AREA}", show, methods=["GET"])
    router.add_api_route(f"/{AREA}/preview", preview, methods=["POST"])
    router.add_api_route(f"/{AREA}/import", apply, methods=["POST"])
