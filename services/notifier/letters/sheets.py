"""What a letter says in the language of whom it goes to: words from ``pages/``, laid out alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from services.notifier.domain.people import Language, Recipient


@dataclass(frozen=True, slots=True)
class Sheet:
    """A letter's words; ``sheet.txt`` and ``sheet.html`` lay the same blocks out.

    Each block has one of ``text``, ``list``, ``facts`` (label and value), ``code``, ``link``
    with its ``label``, or ``html`` with the same as ``plain``. ``ways_out`` are links with labels.
    """

    language: Language
    subject: str
    title: str
    greeting: str
    body: Sequence[Mapping[str, Any]]
    footer: Sequence[str]
    ways_out: Sequence[tuple[str, str]] = ()


class Sheets:
    """Fills in the words, which stand in ``<name>.<language>.jinja``.

    They know what was told and the settings below, and nothing of the recipient
    but the app's key; the name is in the greeting alone, which is escaped with the rest.
    Words to who may be no contact have a greeting and a footer of their own.
    """

    def __init__(
        self,
        *,
        vendor_name: str,
        address: str,
        data_location: str,
        privacy_policy_url: str | None,
        your_data_url: str | None,
    ) -> None:
        self._always = {
            "vendor_name": vendor_name,
            "address": address,
            "data_location": data_location,
            "privacy_policy_url": privacy_policy_url,
            "your_data_url": your_data_url,
        }
        self._words = Environment(
            loader=FileSystemLoader(Path(__file__).parent.parent / "pages"),
            autoescape=False,  # noqa: S701 - makes words, which sheet.html escapes
            undefined=StrictUndefined,
            auto_reload=False,
        )
        self._words.filters["named_by"] = _named_by
        self._common: Mapping[Language, Any] = {
            language: self._words.get_template(f"words.{language}.jinja").make_module(self._always)
            for language in Language
        }

    def sheet(self, name: str, told: Mapping[str, Any], recipient: Recipient) -> Sheet:
        """Put what is told into the words of the recipient's language."""
        language = recipient.language
        common = self._common[language]
        words: Any = self._words.get_template(f"{name}.{language}.jinja").make_module(
            {
                **self._always,
                **told,
                "app": recipient.addon_key,
                "words": common,
                "is_contact": bool(recipient.name),
            }
        )
        return Sheet(
            language=language,
            subject=words.subject,
            title=words.title,
            greeting=getattr(words, "greeting", None) or common.greeting(recipient.name),
            body=words.body,
            footer=getattr(words, "footer", common.footer),
            ways_out=getattr(words, "ways_out", ()),
        )


def _named_by(keys: Sequence[str], words: Mapping[str, str]) -> list[str]:
    return [words[key] for key in keys]
