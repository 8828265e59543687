"""Rows for people and for programs."""

import json
from datetime import UTC, datetime
from io import StringIO
from uuid import uuid4

import pytest
from rich.console import Console

from cli.rows import show_rows

AT = datetime(2026, 11, 23, 12, tzinfo=UTC)
LETTER = uuid4()
ROW = {"letter": LETTER, "at": AT, "states": {"open": 2}, "why": "[b]x[/b]", "who": None, "more": 1}


def test_a_program_gets_every_field_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    show_rows(Console(file=StringIO()), ("letter", "at"), [ROW])
    told = json.loads(capsys.readouterr().out)
    assert told == {
        **ROW,
        "letter": str(LETTER),
        "at": "2026-11-23T12:00:00+00:00",
    }


def test_a_person_gets_a_table_from_which_an_id_can_be_copied() -> None:
    said = StringIO()
    console = Console(file=said, force_terminal=True, width=100, color_system=None)
    show_rows(console, ("letter", "at", "states", "why", "who"), [ROW])
    for words in (str(LETTER), "2026-11-23 12:00:00", "open 2", "[b]x[/b]"):
        assert words in said.getvalue()
    show_rows(console, ("letter",), [])
    assert said.getvalue().count("letter") == 1
