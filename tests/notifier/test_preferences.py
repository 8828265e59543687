"""One click ends news, a page offers the rest, and nobody chooses for another."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from playwright.async_api import Browser, Page, expect

from contracts.suppressions import SuppressionState
from services.notifier.domain.campaigns import Kind
from services.notifier.domain.preferences import (
    Change,
    Choice,
    Link,
    Links,
    choices,
    decide_change,
)
from services.notifier.domain.suppressions import ALL_OPTIONAL, EVERYTHING, Reason
from services.notifier.store.suppressions import suppress, suppressions_of
from tests.connect.serving import serving
from tests.notifier.builders import Notifier
from tests.support.browser import browser

__all__ = ["browser"]

ADA = b"a" * 32
CAMPAIGN = UUID("0199a1b2-0000-7000-8000-000000000001")
ONE_CLICK = {"List-Unsubscribe": "One-Click"}
UPDATE, PRODUCT = Kind.PRODUCT_UPDATE, Kind.NEW_PRODUCT
DECLINED = {(UPDATE.value, Reason.OPTED_OUT)}


def links_of(notifier: Notifier) -> Links:
    return Links(notifier.keys.blind_index, "http://n.test")


async def standing(notifier: Notifier) -> set[tuple[str, Reason]]:
    async with notifier.units.begin() as uow:
        return await suppressions_of(uow.connection, ADA)


@pytest.fixture
async def client(notifier: Notifier) -> AsyncIterator[httpx2.AsyncClient]:
    async with notifier.client() as client:
        yield client


# -- the link -------------------------------------------------------------------------------------


def a_hash(purpose: str, value: bytes) -> bytes:
    return (purpose.encode() + value + b"x" * 32)[:32]


LINKS = Links(a_hash, "https://n.example/")


def test_a_link_is_one_address_that_tells_nothing_and_is_read_again() -> None:
    url = LINKS.unsubscribe_url(ADA, UPDATE, CAMPAIGN)
    address, _, token = url.rpartition("/")
    assert address == "https://n.example/unsubscribe"
    assert LINKS.read(token) == Link(ADA, UPDATE, CAMPAIGN)
    assert LINKS.preferences_url(ADA, UPDATE, CAMPAIGN).endswith(f"/preferences/{token}")
    assert len(url) < 250


def test_what_is_owed_to_everybody_has_no_such_link() -> None:
    with pytest.raises(ValueError, match="owed"):
        LINKS.unsubscribe_url(ADA, Kind.POLICY_CHANGE, CAMPAIGN)
    with pytest.raises(ValueError, match="index"):
        LINKS.unsubscribe_url(b"short", UPDATE, CAMPAIGN)


def test_a_link_made_under_another_key_is_none() -> None:
    others = Links(lambda purpose, value: a_hash(f"other {purpose}", value), "https://n.example")
    assert others.read(LINKS.token(ADA, UPDATE, CAMPAIGN)) is None


def test_every_changed_bit_of_a_token_is_seen() -> None:
    token = LINKS.token(ADA, UPDATE, CAMPAIGN)
    raw = urlsafe_b64decode(token + "=" * (-len(token) % 4))
    for at in range(len(raw) * 8):
        forged = bytearray(raw)
        forged[at // 8] ^= 1 << at % 8
        assert LINKS.read(urlsafe_b64encode(bytes(forged)).rstrip(b"=").decode()) is None


@given(
    st.one_of(
        st.text(max_size=300), st.binary(max_size=150).map(urlsafe_b64encode).map(bytes.decode)
    )
)
def test_no_text_is_read_as_a_link_of_ours(text: str) -> None:
    assert LINKS.read(text) is None


def test_one_link_has_one_spelling() -> None:
    token = LINKS.token(ADA, UPDATE, CAMPAIGN)
    assert all(LINKS.read(token + more) is None for more in ("=", "==", "A", " ", "%00"))


# -- the rule -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("against", "wanted", "fixed"),
    [
        (set(), (True, True, True), (False, False, False)),
        (DECLINED, (True, False, True), (False, False, False)),
        ({(ALL_OPTIONAL, Reason.OPTED_OUT)}, (False, False, False), (False, False, False)),
        ({(EVERYTHING, Reason.BOUNCED)}, (False, False, False), (True, True, True)),
        ({(ALL_OPTIONAL, Reason.COMPLAINED)}, (False, False, False), (True, True, True)),
    ],
    ids=["nothing", "one", "all", "bounced", "complained"],
)
def test_what_stands_against_writing_tells_what_somebody_gets(
    against: set[tuple[str, Reason]], wanted: tuple[bool, ...], fixed: tuple[bool, ...]
) -> None:
    shown = choices(against)
    assert [each.scope for each in shown] == ["new-product", "product-update", ALL_OPTIONAL]
    assert tuple(each.wanted for each in shown) == wanted
    assert tuple(each.fixed for each in shown) == fixed
    assert shown[0] == Choice("new-product", wanted[0], fixed[0])


@pytest.mark.parametrize(
    ("declined", "scope", "wanted", "change"),
    [
        (set(), UPDATE, False, Change(decline=frozenset({UPDATE}))),
        ({UPDATE}, UPDATE, False, Change()),
        ({UPDATE}, UPDATE, True, Change(accept=frozenset({UPDATE}))),
        (set(), UPDATE, True, Change()),
        ({UPDATE}, ALL_OPTIONAL, False, Change(decline=frozenset({ALL_OPTIONAL}))),
        (
            {UPDATE, ALL_OPTIONAL},
            ALL_OPTIONAL,
            True,
            Change(accept=frozenset({UPDATE, ALL_OPTIONAL})),
        ),
        (
            {ALL_OPTIONAL},
            UPDATE,
            True,
            Change(decline=frozenset({PRODUCT}), accept=frozenset({ALL_OPTIONAL})),
        ),
    ],
    ids=["stop", "stop again", "start", "start again", "stop all", "start all", "one after all"],
)
def test_a_choice_changes_what_it_says_and_nothing_else(
    declined: set[str], scope: str, wanted: bool, change: Change
) -> None:
    assert decide_change(declined, scope, wanted=wanted) == change


# -- one click ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [{"data": ONE_CLICK}, {"files": {"List-Unsubscribe": (None, "One-Click")}}],
    ids=["urlencoded", "form-data"],
)
async def test_one_click_ends_a_kind_of_news_once(
    notifier: Notifier, client: httpx2.AsyncClient, body: dict[str, Any]
) -> None:
    url = links_of(notifier).unsubscribe_url(ADA, UPDATE, CAMPAIGN)
    for _ in range(2):
        answer = await client.post(url, **body)
        assert answer.status_code == 200
        assert not answer.has_redirect_location
        assert "set-cookie" not in answer.headers
    assert await standing(notifier) == DECLINED
    [payload] = [
        row["payload"]
        for row in await notifier.worker.fetch("SELECT payload FROM outbox ORDER BY position")
    ]
    state = SuppressionState.decode(payload)
    assert state.recipient_index == ADA.hex()
    assert [(each.scope, each.reason) for each in state.suppressions] == [
        ("product-update", "opted-out")
    ]


async def test_to_look_changes_nothing(notifier: Notifier, client: httpx2.AsyncClient) -> None:
    links = links_of(notifier)
    for url in (
        links.unsubscribe_url(ADA, UPDATE, CAMPAIGN),
        links.preferences_url(ADA, UPDATE, CAMPAIGN),
    ):
        answer = await client.get(url)
        assert answer.status_code == 200
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "set-cookie" not in answer.headers
    assert await standing(notifier) == set()


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", None),
        (b"List-Unsubscribe=Maybe", "application/x-www-form-urlencoded"),
        (b'{"List-Unsubscribe": "One-Click"}', "application/json"),
        (b"\xff\xfe&&==", "application/x-www-form-urlencoded"),
        (b"--x\r\n\r\nOne-Click", "multipart/form-data; boundary=x"),
        (b"One-Click", "multipart/form-data"),
        (b"&".join(b"a=%d" % n for n in range(100)), "application/x-www-form-urlencoded"),
    ],
    ids=["nothing", "other", "json", "bytes", "nameless", "no boundary", "many"],
)
async def test_what_is_no_such_click_changes_nothing(
    notifier: Notifier, client: httpx2.AsyncClient, body: bytes, content_type: str | None
) -> None:
    url = links_of(notifier).unsubscribe_url(ADA, UPDATE, CAMPAIGN)
    headers = {"content-type": content_type} if content_type else {}
    assert (await client.post(url, content=body, headers=headers)).status_code == 400
    assert await standing(notifier) == set()


@pytest.mark.parametrize("page", ["unsubscribe", "preferences"])
async def test_a_forged_link_leads_to_nothing_and_hints_at_nothing(
    notifier: Notifier, client: httpx2.AsyncClient, page: str
) -> None:
    token = links_of(notifier).token(ADA, UPDATE, CAMPAIGN)
    forged = [token[:-1] + ("A" if token[-1] != "A" else "B"), token[:40], "nonsense"]
    answers = [await client.get(f"/{page}/{each}") for each in forged]
    answers += [await client.post(f"/{page}/{each}", data=ONE_CLICK) for each in forged]
    assert {answer.status_code for answer in answers} == {404}
    assert len({answer.text for answer in answers}) == 1
    assert await standing(notifier) == set()


async def test_what_somebody_chose_is_lifted_by_them_and_nothing_else_is(
    notifier: Notifier, client: httpx2.AsyncClient
) -> None:
    url = links_of(notifier).preferences_url(ADA, UPDATE, CAMPAIGN)
    async with notifier.units.begin() as uow:
        await suppress(uow, ADA, scope=EVERYTHING, reason=Reason.BOUNCED)
    for scope, wanted in ((UPDATE.value, "no"), (ALL_OPTIONAL, "no"), (ALL_OPTIONAL, "yes")):
        answer = await client.post(url, data={"scope": scope, "wanted": wanted})
        assert answer.status_code == 200
    assert await standing(notifier) == {(EVERYTHING, Reason.BOUNCED)}
    for scope, wanted in ((EVERYTHING, "no"), (UPDATE.value, "perhaps"), ("policy-change", "no")):
        answer = await client.post(url, data={"scope": scope, "wanted": wanted})
        assert answer.status_code == 400
    assert await standing(notifier) == {(EVERYTHING, Reason.BOUNCED)}


# -- in a browser ---------------------------------------------------------------------------------


@pytest.fixture
async def site(notifier: Notifier) -> AsyncIterator[str]:
    async with serving(notifier.app) as url:
        yield url


async def press(page: Page, name: str, *, nth: int = 0) -> None:
    """Reach a button by the keyboard alone, and press it."""
    button = page.get_by_role("button", name=name).nth(nth)
    for _ in range(12):
        await page.keyboard.press("Tab")
        if await button.evaluate("element => element === document.activeElement"):
            await page.keyboard.press("Enter")
            return
    raise AssertionError(f"no way to {name} by keyboard")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_somebody_chooses_by_keyboard_on_a_phone(
    notifier: Notifier, site: str, browser: Browser, scheme: Any
) -> None:
    context = await browser.new_context(color_scheme=scheme, viewport={"width": 320, "height": 640})
    page = await context.new_page()
    errors: list[str] = []
    page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    token = links_of(notifier).token(ADA, UPDATE, CAMPAIGN)

    await page.goto(f"{site}/unsubscribe/{token}")
    await press(page, "Unsubscribe")
    await expect(page.get_by_role("heading", name="You get no more of this")).to_be_visible()
    assert await standing(notifier) == DECLINED

    await page.get_by_role("link", name="Choose what you get").click()
    await press(page, "Send it again")
    await expect(page.get_by_role("status")).to_have_text("Saved.")
    assert await standing(notifier) == set()
    await press(page, "Stop", nth=2)
    await expect(page.get_by_text("You do not get it")).to_have_count(3)
    assert await standing(notifier) == {(ALL_OPTIONAL, Reason.OPTED_OUT)}

    width = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert await page.evaluate(width) == 0
    ground = await page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(31, 31, 33)")
    assert errors == []
    await context.close()
