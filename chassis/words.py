"""The words of customers' screens: written in English where they are shown, said in the reader's language."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment

from chassis.pages import templates_in

_MOST_CHARACTERS: Final = 200


class Language(StrEnum):
    """A language that the screens speak; each but English has a catalogue beside the templates."""

    ENGLISH = "en"
    GERMAN = "de"


_TAGS: Final = frozenset(Language)


def language_of(accepted: str) -> Language:
    """Choose by an Accept-Language header (RFC 9110, 12.5.4); English where none of ours is in it."""
    best, rank = Language.ENGLISH, 0.0
    for each in accepted[:_MOST_CHARACTERS].lower().split(","):
        name, _, weight = each.partition(";q=")
        tag = name.strip().replace("_", "-").partition("-")[0]
        if tag in _TAGS and (quality := _quality(weight)) > rank:
            best, rank = Language(tag), quality
    return best


def _quality(weight: str) -> float:
    try:
        return float(weight) if weight else 1.0
    except ValueError:
        return 0.0


def word(text: str) -> str:
    """Mark a text of a program that is looked up when it is shown; a test asks for its translation."""
    return text


@dataclass(frozen=True, slots=True)
class Words:
    """One language: what a text of ours is in it."""

    language: Language
    catalogue: Mapping[str, str]
    folder: Path

    @classmethod
    def of(cls, language: Language, folder: Path) -> "Words":
        """Read the catalogue of a language, which lies beside the templates in a folder."""
        if language is Language.ENGLISH:
            return cls(language, {}, folder)
        tables = tomllib.loads((folder / f"{language}.toml").read_text("utf-8")).values()
        return cls(
            language, {text: said for table in tables for text, said in table.items()}, folder
        )

    def say(self, text: str, **values: Any) -> str:
        """Say a text, its ``%(name)s`` filled in; one without a translation stays English."""
        return self._found(text) % values

    def _found(self, text: str) -> str:
        return self.catalogue.get(text, text)

    def templates(self) -> Environment:
        """The templates of the screens, which speak this language by ``_`` and ``trans``."""
        environment = templates_in(self.folder)
        environment.add_extension("jinja2.ext.i18n")
        environment.install_gettext_callables(  # type: ignore[attr-defined]
            self._found, lambda one, many, n: self._found(one if n == 1 else many), newstyle=True
        )
        environment.globals["language"] = self.language.value
        return environment
