"""The pages of faults: what staff find there, in any light, and what they never find."""

import random
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Literal

import httpx2
import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, expect

from services.config.data_map import DATA_MAP
from services.config.domain.error_reports import Agent, agent_of, fingerprint_of, report_of
from services.config.routes.faults import PATH
from services.config.store import errors as store
from services.config.store.errors import Taken
from tests.config.builders import Config, config_of
from tests.config.errors.events import CHROME, an_event
from tests.config.errors.site import Site, on_a_port
from tests.config.errors.tenants import APP, a_tenant
from tests.support.browser import browser
from tests.support.pages import overflow
from tests.support.stack import Migrated

__all__ = ["browser"]

FIREFOX = "Mozilla/5.0 (Windows NT 10.0; rv:144.0) Gecko/20100101 Firefox/144.0"
OTHER_APP = "com.example.charts"
SCHEMES: Final[tuple[Literal["light", "dark"], ...]] = ("light", "dark")


@pytest.fixture
async def config(emptied: Migrated, tmp_path: Path) -> AsyncIterator[Config]:
    """A config of its own, with the pages that are there in development."""
    async with config_of(await emptied(DATA_MAP), tmp_path, development=True) as opened:
        yield opened


def thrown(kind: str, value: str, *calls: str) -> dict[str, Any]:
    frames = [
        {"function": call, "filename": "https://a.example/js/main.js", "lineno": 7, "colno": 11}
        for call in calls
    ]
    return an_event(
        exception={"values": [{"type": kind, "value": value, "stacktrace": {"frames": frames}}]}
    )


async def fill(config: Config) -> None:
    """Some weeks of two apps with three tenants."""
    tenants = [(await a_tenant(config), APP), (await a_tenant(config), APP)]
    tenants.append((await a_tenant(config, app=OTHER_APP), OTHER_APP))
    chrome, firefox = agent_of(CHROME), agent_of(FIREFOX)
    often = thrown("TypeError", "Cannot read 'rows' of eve@customer.example", "load", "showTable")
    seldom = thrown("RangeError", "Invalid <b>date</b>", "start", "drawAxis")
    chance = random.Random(7)
    for day in range(30):
        weight = 2 + day // 4
        await see(
            config,
            tenants[0],
            often,
            chrome,
            release="reports@2.4.1",
            times=weight + chance.randrange(4),
        )
        await see(
            config,
            tenants[1],
            often,
            firefox,
            release="reports@2.5.0",
            times=1 + chance.randrange(3),
        )
        if day % 6 == 0:
            await see(config, tenants[2], seldom, firefox, release="charts@1.0", times=1)
        config.clock.advance(timedelta(days=1))
    config.clock.advance(timedelta(hours=-20))


async def see(
    config: Config,
    whose: tuple[Any, str],
    event: dict[str, Any],
    agent: Agent,
    *,
    release: str,
    times: int,
) -> None:
    tenant_id, app = whose
    reports = [
        report_of(
            event | {"event_id": None, "release": release},
            event_id=None,
            agent=agent,
            received_at=config.clock.now(),
            anonymise=lambda _: f"browser {number}".encode(),  # noqa: B023 - called at once
        )
        for number in range(times)
    ]
    taken = [Taken(tenant_id, app, fingerprint_of(app, each), each) for each in reports]
    async with config.units.begin() as uow:
        await uow.act_for(tenant_id)
        await store.add_reports(uow.connection, taken, now=uow.now)


async def look(config: Config, query: str = "") -> httpx2.Response:
    async with config.client() as client:
        return await client.get(f"{PATH}{query}")


async def test_faults_are_found_by_text_app_release_and_browser(config: Config) -> None:
    await fill(config)
    everything = (await look(config)).text
    assert everything.index("RangeError") > everything.index("TypeError")
    assert "Cannot read &#39;rows&#39; of [email]" in everything
    assert "Invalid &lt;b&gt;date&lt;/b&gt;" in everything
    assert "customer.example" not in everything
    for query, found in (
        ("?q=READ", {"TypeError"}),
        ("?q=drawaxis", {"RangeError"}),
        (f"?app={OTHER_APP}", {"RangeError"}),
        ("?release=reports@2.5.0", {"TypeError"}),
        ("?browser=Chrome", {"TypeError"}),
        ("?browser=Firefox&order=frequent", {"TypeError", "RangeError"}),
        ("?browser=Chrome&release=charts@1.0", set()),
        ("?q=%00%25_nothing", set()),
        ("?q=planted", set()),
    ):
        page = (await look(config, query)).text
        assert {each for each in ("TypeError", "RangeError") if f">{each}</a>" in page} == found
        assert ("Nothing of that kind was reported." in page) is (not found), query


async def test_one_fault_of_several_tenants_is_shown_as_one_with_its_calls(config: Config) -> None:
    await fill(config)
    listed = (await look(config, "?q=showTable")).text
    name = listed.partition('href="errors/')[2].partition('"')[0]
    page = (await look(config, f"/{name}")).text
    reports = await config.eraser.fetchval(
        "SELECT sum(reports)::int FROM error_groups WHERE fingerprint = $1", bytes.fromhex(name)
    )
    assert f"<dd>{reports:,}</dd>" in page
    assert "<dt>Tenants</dt><dd>2</dd>" in page
    for told in ("reports@2.4.1", "Firefox 144", "Windows", "showTable", ":7:11"):
        assert told in page
    assert page.index("<code>showTable") < page.index("<code>load")

    for nothing in ("00" * 16, "no-hex", "x" * 300):
        missing = await look(config, f"/{nothing}")
        assert (missing.status_code, "No such fault" in missing.text) == (404, True)


async def test_outside_development_there_is_no_such_page(emptied: Migrated, tmp_path: Path) -> None:
    async with config_of(await emptied(DATA_MAP), tmp_path) as config:
        assert (await look(config)).status_code == 404
        assert (await look(config, f"/{'00' * 16}")).status_code == 404


async def test_an_empty_database_says_so(config: Config) -> None:
    assert "Nothing of that kind was reported." in (await look(config)).text


async def test_the_keyboard_is_enough_and_axe_finds_nothing_in_any_light(
    config: Config, browser: Browser
) -> None:
    await fill(config)
    async with on_a_port(config.app, browser) as site:
        await _look_through(site)


async def _look_through(site: Site) -> None:
    page = await site.page(viewport={"width": 320, "height": 640})
    await page.goto(f"{site.url}{PATH}")
    await page.get_by_label("Text").focus()
    await page.keyboard.type("showTable")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=2)).to_have_text("TypeError")
    await page.get_by_role("link", name="TypeError").focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("TypeError")
    detail = page.url
    for address in (f"{site.url}{PATH}", f"{site.url}{PATH}?q=nothing", detail):
        await page.goto(address)
        for scheme in SCHEMES:
            await page.emulate_media(color_scheme=scheme)
            violations = (await Axe().run(page)).response["violations"]
            assert violations == [], (address, scheme)
            assert await overflow(page) == 0, address
    assert site.complaints == []
