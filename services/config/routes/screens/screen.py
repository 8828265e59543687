"""What all screens have in common: the reader's language, forms, and how a refusal is worded."""

import json
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from jinja2 import Environment
from starlette.responses import Response

from chassis.problems import Problem
from chassis.words import Language, Words, language_of
from services.config.routes.screens.comparing import near, told

PATH: Final = "/screens"
PAGES: Final = Path(__file__).parents[2] / "pages" / "app"

_Handler = Callable[[Request], Coroutine[Any, Any, Response]]


@dataclass(frozen=True, slots=True)
class Screen:
    """One language's templates, to answer one person with."""

    words: Words
    templates: Environment

    def show(self, template: str, *, status: int = 200, **shown: Any) -> Response:
        """Answer with a fragment; ``shown`` is what its template asks for."""
        content = self.templates.get_template(template).render(shown)
        return Response(content, status_code=status, media_type="text/html")


class Screens:
    """The templates, in every language."""

    def __init__(self) -> None:
        self._of = {language: _screen(Words.of(language, PAGES)) for language in Language}

    @property
    def templates(self) -> Environment:
        """The templates in English, for what nobody reads."""
        return self._of[Language.ENGLISH].templates

    def of(self, request: Request) -> Screen:
        """Return the screen for who asks: their language is that of the request."""
        return self._of[language_of(request.headers.get("accept-language", ""))]

    def router(self) -> APIRouter:
        """Return a router whose problems are told in the language of who asks."""
        of = self.of

        class Route(APIRoute):
            def get_route_handler(self) -> _Handler:
                handler = super().get_route_handler()

                async def told(request: Request) -> Response:
                    try:
                        return await handler(request)
                    except Problem as problem:
                        if problem.detail is not None:
                            problem.detail = of(request).words.say(problem.detail)
                        raise

                return told

        return APIRouter(prefix=PATH, route_class=Route, include_in_schema=False)


def _screen(words: Words) -> Screen:
    templates = words.templates()
    templates.filters |= {"told": told, "near": near}
    return Screen(words, templates)


@dataclass(frozen=True, slots=True)
class Form:
    """What a form of a screen holds: each name with its values, in the order of the page."""

    values: Mapping[str, tuple[str, ...]]

    @classmethod
    async def of(cls, request: Request) -> "Form":
        """Read what ``app.js`` sends of a form: a list of pairs as JSON; raises ``Problem``."""
        try:
            pairs = json.loads(await request.body())
            found: dict[str, list[str]] = {}
            for name, value in pairs:
                if not isinstance(name, str) or not isinstance(value, str):
                    raise TypeError  # noqa: TRY301 - one way out for whatever is no form
                found.setdefault(name, []).append(value)
        except (ValueError, TypeError, RecursionError):
            raise Problem(400, detail="That is not a form of ours.") from None
        return cls({name: tuple(values) for name, values in found.items()})

    def __getitem__(self, name: str) -> str:
        """The first value of a name; empty where there is none."""
        return self.all(name)[0] if self.all(name) else ""

    def all(self, name: str) -> tuple[str, ...]:
        """All values of a name."""
        return self.values.get(name, ())
