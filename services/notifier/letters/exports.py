"""What is kept of a person, as JSON for programs and as PDF for reading."""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pymupdf_fonts
from fpdf import FPDF
from fpdf.enums import TableBordersLayout
from fpdf.fonts import TTFFont

from services.notifier.domain.requests import ELSEWHERE, RIGHTS, SOURCE, Export, Place

_TITLE: Final = "What we keep about you"
_FAMILY: Final = "noto"
_FONTS: Final = {"": "notos", "B": "notosbo"}


def as_json(export: Export) -> bytes:
    """Write all of it, in UTF-8; the keys are stable, and new ones may come."""
    return json.dumps(export.told(), ensure_ascii=False, indent=2).encode()


def as_pdf(export: Export) -> bytes:
    """Write all of it on sheets of A4; takes a moment, so call it in a thread.

    It has Latin, Greek and Cyrillic letters. Any other character stands as its number, such as
    [U+5C71]; the JSON has it as it is.
    """
    # What is kept of a font is logged by its letters, which are those of a name.
    logging.getLogger("fontTools.subset").setLevel(logging.ERROR)
    # The library takes fonts from files alone.
    with TemporaryDirectory() as folder:
        sheets = _Sheets(f"{export.controller} · {export.reference}")
        for style, name in _FONTS.items():
            path = Path(folder) / f"{name}.ttf"
            path.write_bytes(pymupdf_fonts.fontbuffers[name]())
            sheets.add_font(_FAMILY, style, path)
        sheets.set_title(_TITLE)
        sheets.set_lang("en")
        sheets.set_creation_date(export.made_at)
        sheets.add_page()
        sheets.line_of(_TITLE, size=18)
        for chapter in _chapters(export):
            sheets.write_chapter(chapter)
        return bytes(sheets.output())


@dataclass(frozen=True, slots=True)
class _Chapter:
    """A title, paragraphs, and facts as label and value, those of one thing together."""

    title: str
    texts: Sequence[str]
    facts: Sequence[Sequence[tuple[str, str]]]


def _chapters(export: Export) -> Iterator[_Chapter]:
    kept = export.kept
    about = [
        ("Request", export.reference),
        ("Made", _moment(export.made_at)),
        ("By", f"{export.controller}, {export.contact}"),
        ("Stored in", export.data_location),
    ]
    yield _Chapter("About this copy", (SOURCE, ELSEWHERE, RIGHTS), (about,))
    yield _Chapter("Where you are a contact", (), [list(_facts_of(place)) for place in kept.places])
    messages = [
        (
            _moment(sent.planned_at),
            f"{sent.kind}: {sent.state}"
            + (f", accepted {_moment(sent.accepted_at)}" if sent.accepted_at else ""),
        )
        for sent in kept.messages
    ]
    yield _Chapter("Messages to you", (), _some(messages))
    told = [(_moment(at), f"revision {number}: {outcome}") for number, outcome, at in kept.told]
    yield _Chapter("Changes of our privacy policy, and whether you were told", (), _some(told))
    against = [(_moment(since), f"{scope}: {reason}") for scope, reason, since in kept.suppressions]
    yield _Chapter("What is not sent to you", (), _some(against))
    requests = [
        (
            _moment(each.received_at),
            f"{each.kind}, {each.reference}, "
            + (f"answered {_moment(each.answered_at)}" if each.answered_at else "open"),
        )
        for each in kept.requests
    ]
    yield _Chapter("Your requests", (), _some(requests))
    stores = [(each.name, f"{each.purpose}; kept: {each.retention}") for each in export.stores]
    yield _Chapter("What for, and until when", (), (stores,))


def _some(facts: Sequence[tuple[str, str]]) -> Sequence[Sequence[tuple[str, str]]]:
    return (facts,) if facts else ()


def _facts_of(place: Place) -> Iterator[tuple[str, str]]:
    unreadable = "cannot be read any more, as its key is destroyed"
    if place.card.name != "":
        yield "Name", place.card.name or unreadable
    yield "Address", place.card.address or unreadable
    yield "Language", place.language.value
    yield "Contact as", ", ".join(place.roles)
    if place.gets_receipts:
        yield "Named to get", "the receipt of an erasure, by an administrator of the customer's"
    yield "Since", _moment(place.since)
    yield "App", ", ".join(filter(None, (place.app, place.product, place.edition, place.region)))
    if place.licences:
        yield "Licences", ", ".join(f"{number} ({role})" for number, role in place.licences)


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"


class _Sheets(FPDF):
    """Sheets of A4 in one family of letters, with numbered pages."""

    def __init__(self, foot: str) -> None:
        super().__init__()
        self._foot = foot

    def footer(self) -> None:
        """Write what it is about and which page this is."""
        self.set_y(-15)
        self.set_font(_FAMILY, "", 8)
        self.cell(0, 5, self._legible(f"{self._foot} · page {self.page_no()} of {{nb}}"))

    def line_of(self, text: str, *, size: int) -> None:
        """Write one line in bold."""
        self.set_font(_FAMILY, "B", size)
        self.multi_cell(
            0, size / 1.8, self._legible(text), align="L", new_x="LMARGIN", new_y="NEXT"
        )

    def write_chapter(self, chapter: _Chapter) -> None:
        """Write a chapter; one without facts says that there is nothing."""
        self.ln(5)
        self.line_of(chapter.title, size=13)
        self.set_font(_FAMILY, "", 10)
        for text in chapter.texts:
            self.multi_cell(0, 5.5, self._legible(text), align="L", new_x="LMARGIN", new_y="NEXT")
            self.ln(1.5)
        if not chapter.facts:
            self.multi_cell(0, 5.5, "Nothing.", new_x="LMARGIN", new_y="NEXT")
        for facts in chapter.facts:
            with self.table(
                borders_layout=TableBordersLayout.HORIZONTAL_LINES,
                col_widths=(1, 3),
                first_row_as_headings=False,
                line_height=5.5,
                text_align="LEFT",
            ) as table:
                for fact in facts:
                    table.row([self._legible(told) for told in fact])
            self.ln(3)

    def _legible(self, text: str) -> str:
        font = self.fonts[_FAMILY]
        assert isinstance(font, TTFFont)
        known = font.cmap
        return "".join(one if ord(one) in known else f"[U+{ord(one):04X}]" for one in text)
