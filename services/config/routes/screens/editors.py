"""The editor of each kind: made, changed, copied and removed, and what to do when two change it at once."""

from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from fastapi import APIRouter, Request
from starlette.responses import Response

from chassis.identifiers import uuid7
from chassis.problems import Problem
from chassis.unit_of_work import UnitOfWork
from chassis.words import word
from services.config.context import Context
from services.config.domain.definitions import Definition
from services.config.domain.kinds import KIND_OF, Kind
from services.config.domain.parameters import ParameterType
from services.config.domain.things import Sort, Thing, references_of
from services.config.routes.access import Config, Tenant, reading, writing
from services.config.routes.changes import MOST_USERS, change, create, duplicate, find, remove
from services.config.routes.screens import forms
from services.config.routes.screens.comparing import compared
from services.config.routes.screens.forms import LABELS, Refused, Trouble
from services.config.routes.screens.lists import ListQuery, ListScreens
from services.config.routes.screens.screen import Form, Screen, Screens
from services.config.routes.screens.wording import WORDING
from services.config.store import history, things
from services.config.store.things import Wanted

_MOST_CHOICES: Final = 1_000
_PLURALS: Final = {name: kind.plural for name, kind in KIND_OF.items()}
# A template is tried with a converter before it, of which nothing is kept.
_PREVIEWED_WITH: Final = {"template": {"converter_id": "converter"}}
_TOO_MANY: Final = word(
    "You keep %(most)s things already, which is the most. Remove what is not needed."
)
TYPES: Final = {
    ParameterType.TEXT: word("text"),
    ParameterType.INTEGER: word("whole number"),
    ParameterType.NUMBER: word("number"),
    ParameterType.BOOLEAN: word("true or false"),
    ParameterType.DATE: word("date"),
}


@dataclass(frozen=True, slots=True)
class EditorScreens:
    """The routes of one kind's editor."""

    screens: Screens
    kind: Kind

    def add_to(self, router: APIRouter) -> None:
        """Add them to a router of screens."""
        base = f"/{self.kind.plural}"
        router.add_api_route(f"{base}/new", self.show_new, methods=["GET"])
        router.add_api_route(base, self.create, methods=["POST"])
        if "parameters" in self.kind.model.model_fields:
            router.add_api_route(f"{base}/parameters", self.parameters, methods=["POST"])
        router.add_api_route(f"{base}/{{thing_id}}", self.show, methods=["GET"])
        router.add_api_route(f"{base}/{{thing_id}}", self.save, methods=["PUT"])
        router.add_api_route(f"{base}/{{thing_id}}/duplicates", self.duplicate, methods=["POST"])
        router.add_api_route(f"{base}/{{thing_id}}/removal", self.show_removal, methods=["GET"])
        router.add_api_route(f"{base}/{{thing_id}}/removal", self.remove, methods=["POST"])

    async def show_new(self, request: Request, config: Config, tenant_id: Tenant) -> Response:
        """Show an empty form."""
        async with reading(config, tenant_id) as uow:
            choices = await self._choices(uow, tenant_id)
        return self._editor(self.screens.of(request), None, choices=choices)

    async def show(
        self, request: Request, config: Config, tenant_id: Tenant, thing_id: UUID
    ) -> Response:
        """Show a thing in its form, with what uses it and what it uses."""
        async with reading(config, tenant_id) as uow:
            present = await find(uow, tenant_id, self.kind, thing_id)
            return await self.shown(self.screens.of(request), uow, tenant_id, present)

    async def create(self, request: Request, config: Config, tenant_id: Tenant) -> Response:
        """Make a thing of what the form says, and show it."""
        screen, form = self.screens.of(request), await Form.of(request)
        try:
            async with writing(config, tenant_id) as uow:
                wanted = await self._wanted(screen, uow, tenant_id, form)
                made = await create(uow, tenant_id, self.kind, uuid7(uow.now), wanted)
                return await self.shown(screen, uow, tenant_id, made, said=word("It is saved."))
        except Refused as refused:
            return self._refused(screen, refused)
        except Problem as problem:
            return self._refused_by(screen, problem)

    async def save(
        self, request: Request, config: Config, tenant_id: Tenant, thing_id: UUID
    ) -> Response:
        """Change a thing to what the form says, unless somebody else has changed it meanwhile."""
        screen, form = self.screens.of(request), await Form.of(request)
        try:
            async with writing(config, tenant_id) as uow:
                present = await find(uow, tenant_id, self.kind, thing_id, lock=True)
                if str(present.version) != form["version"]:
                    return await self._conflict(screen, uow, tenant_id, present, form)
                wanted = await self._wanted(screen, uow, tenant_id, form)
                changed = await change(uow, tenant_id, self.kind, present, wanted)
                return await self.shown(screen, uow, tenant_id, changed, said=word("It is saved."))
        except Refused as refused:
            return self._refused(screen, refused)
        except Problem as problem:
            return self._refused_by(screen, problem)

    async def parameters(self, request: Request, config: Config, tenant_id: Tenant) -> Response:
        """Show the parameters of a query's text as it is now, with what was said of each."""
        form = await Form.of(request)
        async with reading(config, tenant_id) as uow:
            nature = await self._nature(uow, tenant_id, form)
        rows = forms.rows_of(form, nature)
        return self.screens.of(request).show("parameters.html", parameters=rows, types=TYPES)

    async def duplicate(
        self, request: Request, config: Config, tenant_id: Tenant, thing_id: UUID
    ) -> Response:
        """Make another one of the same, and show it."""
        async with writing(config, tenant_id) as uow:
            present = await find(uow, tenant_id, self.kind, thing_id)
            made = await duplicate(uow, tenant_id, self.kind, present)
            said = word("This is the copy. Give it a name of its own.")
            return await self.shown(self.screens.of(request), uow, tenant_id, made, said=said)

    async def show_removal(
        self, request: Request, config: Config, tenant_id: Tenant, thing_id: UUID
    ) -> Response:
        """Ask whether a thing is to go, or name what uses it."""
        async with reading(config, tenant_id) as uow:
            present = await find(uow, tenant_id, self.kind, thing_id)
            return await self._removal(self.screens.of(request), uow, tenant_id, present)

    async def remove(
        self, request: Request, config: Config, tenant_id: Tenant, thing_id: UUID
    ) -> Response:
        """Remove a thing as it was shown, and show the list; ask again where that has changed."""
        screen, form = self.screens.of(request), await Form.of(request)
        async with writing(config, tenant_id) as uow:
            present = await find(uow, tenant_id, self.kind, thing_id, lock=True)
            _, number = await things.users_of(uow.connection, tenant_id, thing_id, limit=1)
            if number or str(present.version) != form["version"]:
                said = word("It has changed since. Look again before you remove it.")
                return await self._removal(screen, uow, tenant_id, present, said=said)
            await remove(uow, tenant_id, present)
        said = screen.words.say(word("%(name)s is removed."), name=present.name)
        lists = ListScreens(self.screens, self.kind)
        return await lists.page(screen, config, tenant_id, ListQuery(), said=said)

    # -- what is shown ---------------------------------------------------------------------------

    async def shown(
        self,
        screen: Screen,
        uow: UnitOfWork[Context],
        tenant_id: UUID,
        present: Thing,
        *,
        said: str = "",
    ) -> Response:
        """Show a thing in its form, and say what has happened to it."""
        users, number = await things.users_of(
            uow.connection, tenant_id, present.thing_id, limit=MOST_USERS
        )
        wanted = references_of(self.kind, present.body)
        found = await things.found(uow.connection, tenant_id, wanted.values())
        pipeline = [
            (field, found.get(wanted[field]) if field in wanted else None)
            for field in sorted(self.kind.refers, key=_in_order)
        ]
        return self._editor(
            screen,
            present,
            choices=await self._choices(uow, tenant_id),
            users=users,
            number=number,
            pipeline=pipeline,
            said=screen.words.say(said),
        )

    def _editor(self, screen: Screen, present: Thing | None, **shown: Any) -> Response:
        told = (present.name, present.tags, present.body) if present else ("", [], {})
        plural = self.kind.plural
        otherwise: dict[str, Any] = {"users": [], "number": 0, "pipeline": [], "said": ""}
        return screen.show(
            f"editor-{self.kind.name}.html",
            kind=self.kind,
            wording=WORDING[self.kind.name],
            labels=LABELS,
            types=TYPES,
            plurals=_PLURALS,
            thing=present,
            value=forms.filled(self.kind, *told),
            area=plural,
            path=f"{plural}/{present.thing_id if present else 'new'}",
            **(otherwise | shown),
        )

    async def _removal(
        self,
        screen: Screen,
        uow: UnitOfWork[Context],
        tenant_id: UUID,
        present: Thing,
        *,
        said: str = "",
    ) -> Response:
        users, number = await things.users_of(
            uow.connection, tenant_id, present.thing_id, limit=MOST_USERS
        )
        return screen.show(
            "removal.html",
            kind=self.kind,
            thing=present,
            users=users,
            number=number,
            plurals=_PLURALS,
            area=self.kind.plural,
            path=f"{self.kind.plural}/{present.thing_id}/removal",
            said=screen.words.say(said),
        )

    async def _conflict(
        self,
        screen: Screen,
        uow: UnitOfWork[Context],
        tenant_id: UUID,
        present: Thing,
        form: Form,
    ) -> Response:
        """Show what the other has changed; the form stays in the page as it is."""
        version = int(form["version"]) if form["version"].isdecimal() else 0
        before = await history.version_of(uow.connection, tenant_id, present.thing_id, version)
        found = before and await compared(uow, tenant_id, self.kind, before, present)
        return screen.show(
            "conflict.html", status=412, thing=present, differences=found, labels=LABELS
        )

    def _refused(self, screen: Screen, refused: Refused) -> Response:
        return screen.show("refused.html", status=422, troubles=refused.troubles, labels=LABELS)

    def _refused_by(self, screen: Screen, problem: Problem) -> Response:
        """Show at its field why a form does not fit what is there; raises all other problems."""
        if problem.status != 409 or problem.detail is None:  # noqa: PLR2004 - HTTP's own number
            raise problem
        if problem.extensions.get("reason") == "too-many":
            most = problem.extensions["most"]
            return self._refused(
                screen, Refused(Trouble("", screen.words.say(_TOO_MANY, most=most)))
            )
        field, colon, rest = problem.detail.partition(": ")
        if not colon or field not in LABELS:
            field = "name" if problem.extensions.get("reason") == "name-taken" else ""
            rest = problem.detail
        return self._refused(screen, Refused(Trouble(field, screen.words.say(rest))))

    # -- what is read ----------------------------------------------------------------------------

    async def _wanted(
        self, screen: Screen, uow: UnitOfWork[Context], tenant_id: UUID, form: Form
    ) -> Definition:
        return forms.read(
            self.kind,
            form,
            screen.words,
            nature=await self._nature(uow, tenant_id, form),
            most_text=uow.context.limits.most_text_characters,
        )

    async def _nature(self, uow: UnitOfWork[Context], tenant_id: UUID, form: Form) -> str | None:
        """Say of which kind the datasource is that a query's form names."""
        if not self.kind.alike:
            return None
        (field,) = self.kind.alike
        thing_id = forms.id_in_form(form, field)
        found = await things.found(uow.connection, tenant_id, [thing_id] if thing_id else [])
        return str(found[thing_id].body["kind"]) if thing_id in found else "sql"

    async def _choices(self, uow: UnitOfWork[Context], tenant_id: UUID) -> dict[str, list[Thing]]:
        """List what each field of an id can mean."""
        wanted = Wanted(Sort.NAME)
        return {
            field: [
                thing
                for _, thing in await things.listed(
                    uow.connection,
                    tenant_id,
                    KIND_OF[name],
                    wanted,
                    after=None,
                    limit=_MOST_CHOICES,
                )
            ]
            for field, name in (
                dict(self.kind.refers) | _PREVIEWED_WITH.get(self.kind.name, {})
            ).items()
        }


def _in_order(field: str) -> int:
    """The way of an answer: from where it comes to what presents it."""
    return ("datasource_id", "converter_id", "template_id").index(field)
