"""Who of our staff looked: the part of "your data" that tells when, as what, why, and at what."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from fastapi import APIRouter, Request
from starlette.responses import Response

from chassis.staff.people import Role
from chassis.unit_of_work import UnitOfWork
from chassis.words import word
from services.config.context import Context
from services.config.domain.grants import Category
from services.config.routes.access import Config, Tenant, reading
from services.config.routes.screens.screen import Screens
from services.config.routes.screens.wording import WORDING
from services.config.store import looks as store

_SHOWN: Final = 20


@dataclass(frozen=True, slots=True)
class LookWords:
    """How the words of a look are said to its customer."""

    roles: Mapping[str, str]
    categories: Mapping[Category, str]


WORDS: Final = LookWords(
    roles={
        Role.SUPPORT.value: word("Our support"),
        Role.DEVELOPER.value: word("Our development"),
    },
    categories={
        Category.QUESTION: word("a question of yours"),
        Category.FAULT: word("something did not work"),
        Category.SECURITY: word("your data may have been in danger"),
    },
)


def add_to(router: APIRouter, screens: Screens, path: str) -> None:
    """Add the route of what follows to a router of screens."""

    async def more(
        request: Request, config: Config, tenant_id: Tenant, before: UUID | None = None
    ) -> Response:
        """Show the looks before one of them."""
        async with reading(config, tenant_id) as uow:
            shown = await latest_looks(uow, tenant_id, before=before)
        return screens.of(request).show("looks-rows.html", **shown, is_more=True)

    router.add_api_route(f"{path}/looks", more, methods=["GET"])


async def latest_looks(
    uow: UnitOfWork[Context], tenant_id: UUID, *, before: UUID | None = None
) -> Mapping[str, Any]:
    """Read what the template ``looks.html`` shows."""
    found = await store.of_tenant(uow.connection, tenant_id, before=before, limit=_SHOWN + 1)
    return {
        "looks": found[:_SHOWN],
        "looks_following": found[_SHOWN - 1].look_id if len(found) > _SHOWN else None,
        "look_words": WORDS,
        "look_kinds": WORDING,
    }
