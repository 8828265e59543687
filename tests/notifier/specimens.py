"""One letter of every sort, in both languages, and the files and pictures that show them.

``python -m tests.notifier.specimens`` writes the golden files anew, with ``--screens`` the pictures
in ``docs/screens/`` as well.
"""

import asyncio
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from email import message_from_bytes, policy
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from PIL import Image
from playwright.async_api import Browser, ViewportSize, async_playwright

from chassis.erasure import NOBODY
from chassis.signing import TokenSigner
from contracts.classes import TENANT_CLASSES, DataClass
from contracts.tenants import Platform
from services.notifier.domain.campaigns import Kind
from services.notifier.domain.lifecycle import Event, Facts, Word
from services.notifier.domain.news import News, Segment, Words
from services.notifier.domain.people import Language, Recipient
from services.notifier.domain.policies import Revision, campaign_of
from services.notifier.domain.receipts import Receipt
from services.notifier.domain.requests import AnswerLinks, PersonRequest, RequestKind, due_on
from services.notifier.letters.letter import Envelope, Letter, Stationery, Unsubscribing
from services.notifier.letters.lifecycle import ExportLinks, Notices
from services.notifier.letters.news import NewsLetters
from services.notifier.letters.policies import PolicyChanges
from services.notifier.letters.receipts import Receipts
from services.notifier.letters.requests import RequestLetters
from services.notifier.letters.sheets import Sheets
from tests.notifier.builders import CODE, NOW, PURGER, SENDER, a_receipt, a_step
from tests.support.browser import chromium

GOLDEN: Final = Path(__file__).parent / "golden"
SCREENS: Final = Path(__file__).parents[2] / "docs" / "screens"
ENVELOPE: Final = Envelope("<1@vendor.example>", NOW)

_STATIONERY: Final = Stationery(sender=SENDER, vendor_name="Vendor Ltd.")
_NOTIFIER: Final = "https://notifier.vendor.example"
_START: Final = datetime(2027, 4, 14, tzinfo=UTC)
_END: Final = datetime(2027, 4, 28, tzinfo=UTC)
_DATES: Final = {"start_at": _START, "erase_by": _END}
_TO_REMIND: Final = Facts(classes=TENANT_CLASSES, clock="uninstalled", **_DATES)

WORDS: Final[Mapping[str, Word]] = {
    "welcome": Word(Event.WELCOME, Facts(platform=Platform.CONNECT)),
    "welcome-forge": Word(Event.WELCOME, Facts(platform=Platform.FORGE)),
    "reminder": Word(Event.REMINDER, _TO_REMIND),
    "reminder-export": Word.of(Event.REMINDER, _TO_REMIND, NOBODY, f"{UUID(int=9)}/reminder-30"),
    "reminder-forge-content": Word(
        Event.REMINDER, Facts(classes=(DataClass.CONTENT,), clock="forge-content", **_DATES)
    ),
    "welcome-back": Word(Event.WELCOME_BACK, Facts()),
    "hold-placed": Word(
        Event.HOLD_PLACED,
        Facts(classes=(DataClass.CONTENT, DataClass.TICKETS), basis="legal-claims"),
    ),
    "hold-released": Word(
        Event.HOLD_RELEASED, Facts(classes=(DataClass.CONTENT, DataClass.TICKETS), **_DATES)
    ),
    "erasure-asked": Word(
        Event.ERASURE_ASKED,
        Facts(asked_by="customer", start_at=NOW, erase_by=_END),
    ),
    "erasure-withdrawn": Word(Event.ERASURE_WITHDRAWN, Facts()),
}


def sheets_of(your_data_url: str | None = "https://apps.vendor.example/your-data") -> Sheets:
    """The words, as a vendor sets them."""
    return Sheets(
        vendor_name="Vendor Ltd.",
        address=SENDER,
        data_location="San Francisco, USA",
        privacy_policy_url="https://vendor.example/privacy",
        your_data_url=your_data_url,
    )


NEWS: Final = News(
    NOBODY,
    Kind.PRODUCT_UPDATE,
    {
        Language.ENGLISH: Words(
            "Exports take half the time",
            "Large tables are **exported in parts** now.\n\n## What to do\n\n"
            "* Nothing: it works as before.\n* Where you use our API, read "
            "[how to fetch parts](https://vendor.example/parts).\n\n"
            "> Thank you to everybody who told us.\n",
        ),
        Language.GERMAN: Words(
            "Exporte dauern halb so lang",
            "Große Tabellen werden jetzt **in Teilen exportiert**.\n\n## Was zu tun ist\n\n"
            "* Nichts: alles geht wie bisher.\n* Nutzen Sie unsere API, lesen Sie, "
            "[wie man Teile abruft](https://vendor.example/teile).\n\n"
            "> Danke an alle, die uns geschrieben haben.\n",
        ),
    },
    Segment(),
)
DECLINED_AT: Final = Unsubscribing(
    NEWS.kind,
    f"{_NOTIFIER}/unsubscribe/token",
    f"{_NOTIFIER}/preferences/token",
)


REVISION: Final = Revision(
    number=2,
    campaign_id=campaign_of(2),
    text_hash="0" * 64,
    summary={
        Language.ENGLISH: "We keep browsers' error reports for 90 days; until now it was a year.",
        Language.GERMAN: "Fehlerberichte aus Browsern behalten wir 90 Tage, bisher war es ein Jahr.",
    },
    published_at=NOW,
    effective_at=datetime(2027, 1, 1, tzinfo=UTC),
    early_because=None,
)


class Parts(NamedTuple):
    """What a reader sees of a letter."""

    subject: str
    text: str
    html: str


def parts_of(letter: Letter) -> Parts:
    """Read a letter as a program for mail does."""
    message = message_from_bytes(letter.content, policy=policy.default)
    text, html = message.get_body(("plain",)), message.get_body(("html",))
    assert text is not None
    assert html is not None
    told = (part.get_content().replace("\r\n", "\n") for part in (text, html))
    return Parts(message["Subject"], *told)


# Anybody can read it, so it opens nothing: the golden files are always signed alike.
_SPECIMEN_KEY: Final = Ed25519PrivateKey.from_private_bytes(b"a key for specimens of letters! ")


def links_of(folder: Path) -> ExportLinks:
    """Links to exports, signed by a key that everybody has."""
    path = folder / "exports.pem"
    path.write_bytes(_SPECIMEN_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return ExportLinks(TokenSigner.load(path), "https://config.vendor.example/")


def written(word: Word, language: Language, **others: str | None) -> Parts:
    """Write one notice to Ada, who is the technical contact."""
    with TemporaryDirectory() as folder:
        notices = Notices(_STATIONERY, sheets_of(**others), links_of(Path(folder)))
        return parts_of(notices.write(word, reader(language), ENVELOPE))


def reader(language: Language, app: str | None = "com.example.app") -> Recipient:
    """Somebody to write to."""
    return Recipient("Ada Ex", "ada@customer.example", app, language, is_technical=True)


def specimens() -> Iterator[tuple[str, Parts]]:
    """Give every letter with its name."""
    receipts = Receipts(_STATIONERY, sheets_of(), PURGER)
    still_open = a_step("erase-config", "config", {DataClass.ERRORS: 0}, open=True)
    receipt = Receipt(CODE, (*a_receipt().steps[:1], *a_receipt().steps[2:], still_open))
    for language in Language:
        for name, word in WORDS.items():
            yield f"{name}.{language}", written(word, language)
        letter = receipts.write(receipt, reader(language), ENVELOPE)
        yield f"receipt.{language}", parts_of(letter)
        letter = PolicyChanges(_STATIONERY, sheets_of(), _NOTIFIER).write(
            REVISION, reader(language), ENVELOPE
        )
        yield f"policy-change.{language}", parts_of(letter)
        for kind in (RequestKind.ACCESS, RequestKind.ERASURE):
            yield f"request-{kind}.{language}", parts_of(_request(kind, language))
        news = NewsLetters(_STATIONERY, sheets_of())
        letter = news.write(NEWS, reader(language), replace(ENVELOPE, unsubscribing=DECLINED_AT))
        yield f"news.{language}", parts_of(letter)


def _request(kind: RequestKind, language: Language) -> Letter:
    request = PersonRequest(UUID(int=7), kind, b"a" * 32, NOW, due_on(NOW))
    links = AnswerLinks(lambda *_: b"x" * 32, _NOTIFIER)
    letters = RequestLetters(_STATIONERY, sheets_of())
    return letters.write(request, links, "ada@customer.example", language, ENVELOPE)


def files() -> dict[str, str]:
    """Name the golden files and say what is in them."""
    found = {}
    for name, parts in specimens():
        found[f"{name}.txt"] = f"Subject: {parts.subject}\n\n{parts.text}"
        found[f"{name}.html"] = parts.html
    return found


# -- pictures ----------------------------------------------------------------------------------

DESK: Final = ViewportSize(width=720, height=400)
PHONE: Final = ViewportSize(width=375, height=400)

PICTURES: Final = (
    ("welcome.en", "light", DESK),
    ("welcome.de", "dark", PHONE),
    ("reminder.en", "light", DESK),
    ("reminder.de", "dark", DESK),
    ("reminder.en", "light", PHONE),
    ("reminder-export.en", "light", DESK),
    ("reminder-export.de", "dark", PHONE),
    ("hold-placed.de", "light", DESK),
    ("erasure-asked.en", "dark", PHONE),
    ("welcome-back.en", "light", PHONE),
    ("receipt.en", "light", DESK),
    ("receipt.de", "dark", PHONE),
    ("policy-change.en", "light", DESK),
    ("policy-change.de", "dark", PHONE),
    ("request-access.en", "light", DESK),
    ("news.en", "light", DESK),
    ("news.de", "dark", PHONE),
)


async def draw(browser: Browser, html: str, scheme: str, size: ViewportSize) -> bytes:
    """Photograph a letter; raises ``AssertionError`` where it asks for anything or is too wide."""
    context = await browser.new_context(
        viewport=size, color_scheme="dark" if scheme == "dark" else "light"
    )
    page = await context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await page.set_content(html)
    width = await page.evaluate("document.documentElement.scrollWidth")
    picture = await page.screenshot(full_page=True)
    await context.close()
    assert asked == []
    assert width <= size["width"]
    return picture


async def _photograph() -> None:
    letters = dict(specimens())
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium())
        for name, scheme, size in PICTURES:
            shape = "phone" if size is PHONE else "desk"
            picture = await draw(browser, letters[name].html, scheme, size)
            file = SCREENS / f"mail-{name.replace('.', '-')}-{scheme}-{shape}.png"
            # A letter has few colours: so it takes a third of the room.
            Image.open(BytesIO(picture)).quantize(64).save(file, optimize=True)
        await browser.close()


def write_golden_files() -> None:
    """Make the golden files say what the letters say, and no others be there."""
    GOLDEN.mkdir(exist_ok=True)
    told = files()
    for old in GOLDEN.iterdir():
        if old.name not in told and re.search(r"\.(en|de)\.(txt|html)$", old.name):
            old.unlink()
    for name, text in told.items():
        (GOLDEN / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write_golden_files()
    if "--screens" in sys.argv:
        SCREENS.mkdir(exist_ok=True)
        asyncio.run(_photograph())
