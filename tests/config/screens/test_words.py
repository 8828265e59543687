"""What the screens say, in every language they speak."""

import ast
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from chassis.words import Language, Words, language_of
from services.config.domain.kinds import KINDS
from services.config.routes.screens.screen import PAGES
from tests.support.words import texts_in

ROUTES = Path(__file__).parents[3] / "services" / "config" / "routes"
PROGRAMS = [
    *ROUTES.rglob("*.py"),
    ROUTES.parent / "archives" / "reader.py",
]


def in_programs() -> Iterator[str]:
    """The texts that a program marks by ``word``."""
    for path in PROGRAMS:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "word":
                assert isinstance(node.args[0], ast.Constant), path
                yield str(node.args[0].value)


def refusals() -> Iterator[str]:
    """What the API's routes may say, for every kind of things, and behind the name of a field."""
    for path in PROGRAMS:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
            elif isinstance(node, ast.JoinedStr):
                for kind in KINDS:
                    told = ast.unparse(node).replace("{kind.name}", kind.name)
                    told = told.replace("{self.kind.name}", kind.name).replace("{name}", kind.name)
                    yield ast.literal_eval(told.removeprefix("f")).removeprefix("{field}: ")


@pytest.mark.parametrize("language", [each for each in Language if each is not Language.ENGLISH])
def test_every_text_is_said_in_every_language_and_no_other(language: Language) -> None:
    told = tomllib.loads((PAGES / f"{language}.toml").read_text("utf-8"))
    assert set(told["words"]) == {*texts_in(PAGES), *in_programs()}
    assert set(told["problems"]) <= set(refusals())
    # Made of the data maps: a table's purpose and end are said in every language too.
    stores = json.loads((PAGES / "stores.json").read_text("utf-8"))
    assert set(told["stores"]) == {
        each[said] for each in stores for said in ("purpose", "retention")
    }
    for english, other in (told["stores"] | told["words"] | told["problems"]).items():
        assert other.strip()
        # What is filled in is filled in everywhere.
        assert set(re.findall(r"%\(\w+\)s", other)) >= set(re.findall(r"%\((?!num)\w+\)s", english))


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("", "en"),
        ("de", "de"),
        ("de-AT,de;q=0.9,en;q=0.8", "de"),
        ("de_DE,en", "de"),
        ("fr,en;q=0.5,de;q=0.7", "de"),
        ("fr", "en"),
        ("en,de", "en"),
        ("de;q=x,en;q=0.1", "en"),
        ("de;q=0", "en"),
        ("ä" * 10_000, "en"),
    ],
)
def test_the_language_is_the_best_of_those_that_a_browser_asks_for(
    accepted: str, language: str
) -> None:
    assert language_of(accepted) == language


def test_a_text_is_filled_in_and_counted() -> None:
    german = Words.of(Language.GERMAN, PAGES)
    assert german.say("Move %(name)s up", name="X") == "X nach oben schieben"
    text = '{{ ngettext("%(num)s is shown.", "%(num)s are shown.", n) }}'
    template = german.templates().from_string(text)
    assert [template.render(n=n) for n in (1, 2)] == ["1 wird gezeigt.", "2 werden gezeigt."]
