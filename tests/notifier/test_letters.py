"""What letters look like and say, in both languages; golden files hold every word.

``python -m tests.notifier.specimens`` writes them anew after a change that is meant.
"""

import re
from itertools import product

import pytest
from playwright.async_api import Browser

from contracts.classes import TENANT_CLASSES, DataClass
from contracts.purges import ClockKind, LegalBasis, WishedBy
from contracts.tenants import Platform
from services.notifier.domain.lifecycle import Event, Facts, Word
from services.notifier.domain.people import Language
from services.notifier.letters.lifecycle import Notices
from tests.notifier.builders import NOW
from tests.notifier.specimens import (
    _STATIONERY,
    DESK,
    ENVELOPE,
    GOLDEN,
    PHONE,
    WORDS,
    draw,
    files,
    parts_of,
    reader,
    sheets_of,
    specimens,
    written,
)
from tests.support.browser import browser  # noqa: F401 - a fixture

every_language = pytest.mark.parametrize("language", list(Language))


def test_every_letter_is_its_golden_file() -> None:
    told = files()
    assert {path.name for path in GOLDEN.iterdir()} == set(told)
    for name, text in told.items():
        assert (GOLDEN / name).read_text("utf-8") == text, name


def test_text_and_page_say_the_same() -> None:
    for name, parts in specimens():
        text = parts.text.partition("\n-- \n")[0]
        page = re.sub(r"<style>.*?</style>", "", parts.html, flags=re.DOTALL)
        page = " ".join(re.sub(r"<[^>]+>", " ", page).replace("&#39;", "'").split())
        for word in re.findall(r"[\w/:.-]{4,}", text):
            assert word.rstrip(".:") in page or word.rstrip(".:") in parts.html, (name, word)
        # A link is never broken.
        lines = [line for line in parts.text.splitlines() if "://" not in line]
        assert max(map(len, lines)) <= 78, name


def test_no_letter_loads_anything() -> None:
    for name, parts in specimens():
        found = re.search(r"(?i)<(img|script|link|iframe|object)|src=|url\(|@import", parts.html)
        assert found is None, name


@every_language
def test_a_letter_without_addresses_of_pages_leads_to_a_person(language: Language) -> None:
    parts = written(WORDS["reminder"], language, your_data_url=None)
    assert "/your-data" not in parts.html
    assert "Your data" in " ".join(parts.text.split())


@every_language
def test_every_fact_has_its_words(language: Language) -> None:
    """No value that can come in leaves a letter unwritten, those of later versions neither."""
    dates = {"start_at": NOW, "erase_by": NOW}
    words = [
        *(Word(Event.WELCOME, Facts(platform=platform)) for platform in Platform),
        *(
            Word(Event.REMINDER, Facts(classes=TENANT_CLASSES, clock=clock, **dates))
            for clock in [*ClockKind, "later"]
        ),
        *(
            Word(Event.HOLD_PLACED, Facts(classes=(DataClass.ERRORS,), basis=basis))
            for basis in [*LegalBasis, "later"]
        ),
        Word(Event.HOLD_RELEASED, Facts(classes=(DataClass.ERRORS,))),
        *(
            Word(Event.ERASURE_ASKED, Facts(asked_by=by, **given))
            for by, given in product([*WishedBy, "later"], [dates, {}])
        ),
        *(Word(Event.ERASURE_WITHDRAWN, Facts(**given)) for given in (dates, {})),
        Word(Event.WELCOME_BACK, Facts()),
    ]
    notices = Notices(_STATIONERY, sheets_of(None))
    for word, app in product(words, ["com.example.app", None]):
        parts = parts_of(notices.write(word, reader(language, app), ENVELOPE))
        for text in (parts.subject, parts.text, parts.html):
            assert "None" not in text
            assert "{{" not in text


async def test_letters_are_no_wider_than_a_phone_and_ask_for_nothing(
    browser: Browser,  # noqa: F811 - the fixture
) -> None:
    letters = dict(specimens())
    for name in ("receipt.de", "hold-placed.de", "erasure-asked.en"):
        assert await draw(browser, letters[name].html, "dark", PHONE)
    light = await draw(browser, letters["receipt.en"].html, "light", DESK)
    dark = await draw(browser, letters["receipt.en"].html, "dark", DESK)
    assert light != dark
