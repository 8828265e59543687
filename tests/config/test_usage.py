"""Usage is counted by tenant for a day, and is then nobody's; what few did is shown to nobody."""

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, Final, Literal
from uuid import UUID, uuid4

import httpx2
import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, expect

from contracts.tenants import ClassState, Platform, TenantStatus
from services.config.data_map import DATA_MAP
from services.config.domain.usage import MOST_A_DAY, Cell, Feature, Size, show, size_of
from services.config.routes.statistics import PATH as PAGE
from services.config.routes.usage import PATH
from services.config.store import usage as store
from tests.config.builders import NOW, Config, config_of
from tests.config.errors.site import on_a_port
from tests.config.errors.tenants import APP, a_tenant
from tests.support.browser import browser
from tests.support.pages import overflow
from tests.support.stack import Migrated

__all__ = ["browser"]

DAY = timedelta(days=1)
SCHEMES: Final[tuple[Literal["light", "dark"], ...]] = ("light", "dark")


@pytest.fixture
async def config(emptied: Migrated, tmp_path: Path) -> AsyncIterator[Config]:
    """A config of its own, with the pages that are there in development."""
    async with config_of(await emptied(DATA_MAP), tmp_path, development=True) as opened:
        yield opened


def a_batch(feature: str = "queries", uses: int = 1, **others: Any) -> dict[str, Any]:
    given = {
        "batch_id": str(uuid4()),
        "uses": [{"feature": feature, "uses": uses}],
    }
    return given | others


async def tell(config: Config, tenant_id: UUID, batch: Any) -> httpx2.Response:
    async with config.client(tenant_id) as client:
        return await client.post(PATH, json=batch)


async def keep(config: Config, tenant_id: UUID, *, things: int) -> None:
    """Let a tenant keep so many things, as far as its total says."""
    async with config.units.begin() as uow:
        await uow.act_for(tenant_id)
        await uow.connection.execute(
            """
            INSERT INTO tenant_totals (tenant_id, things, changed_at) VALUES ($1, $2, $3)
            ON CONFLICT (tenant_id) DO UPDATE SET things = excluded.things
            """,
            tenant_id,
            things,
            NOW,
        )


@pytest.mark.parametrize(
    ("things", "size"),
    [(0, "0"), (1, "1-10"), (10, "1-10"), (11, "11-100"), (1000, "101-1000"), (1001, "1001+")],
)
def test_how_much_a_tenant_keeps_is_told_as_a_range(things: int, size: str) -> None:
    assert size_of(things) == size


async def counted(config: Config, tenant_id: UUID) -> list[dict[str, Any]]:
    rows = await config.eraser.fetch(
        "SELECT day, feature, app, size, uses FROM usage_counts WHERE tenant_id = $1 ORDER BY 1, 2",
        tenant_id,
    )
    return [dict(row) for row in rows]


async def kept(config: Config) -> list[Cell]:
    async with config.worker.acquire() as connection:
        return await store.cells(connection, since=date.min)


# -- the rule -------------------------------------------------------------------------------------


def cell(tenants: int, uses: int = 10, **others: Any) -> Cell:
    given: dict[str, Any] = {"day": NOW.date(), "app": APP, "feature": "queries", "size": "1-10"}
    return Cell(**(given | {"tenants": tenants, "uses": uses} | others))


def test_what_few_tenants_did_is_in_no_number() -> None:
    yesterday = NOW.date() - DAY
    found = show(
        [
            cell(4, 1000),
            cell(5, 7, day=yesterday),
            cell(4, 100, feature="export"),
            cell(9, 3, app="com.example.charts"),
        ]
    )
    assert set(found) == {(APP, "queries"), ("com.example.charts", "queries")}
    shown = found[APP, "queries"]
    assert (shown.uses, shown.by_day, shown.by_size) == (7, {yesterday: 7}, {"1-10": 7})


def test_sizes_are_shown_only_where_none_is_the_difference() -> None:
    enough = [cell(5, 10), cell(6, 20, size="11-100")]
    few = [cell(50, 300, day=NOW.date() - DAY), cell(1, 1, size="1001+", day=NOW.date() - DAY)]
    shown = show([*enough, *few])[APP, "queries"]
    assert shown.by_size == {"1-10": 10, "11-100": 20}
    assert shown.undivided == 301
    assert shown.uses == sum(shown.by_size.values()) + shown.undivided


def test_no_two_numbers_differ_by_what_is_left_out() -> None:
    """Whatever the days hold, each number of one who was alone can be changed and nobody sees it."""
    chance = Random(7)
    for _ in range(200):
        cells = [
            cell(chance.randrange(1, 9), chance.randrange(1, 50), day=NOW.date() - n * DAY, size=s)
            for n in range(4)
            for s in list(Size)[: chance.randrange(1, 5)]
        ]
        few = [each for each in cells if each.tenants < 5]
        by_day = {each.day: sum(e.tenants for e in cells if e.day == each.day) for each in cells}
        for each in few:
            if by_day[each.day] >= 5:
                # Its day is shown as a whole, so it may grow while another shrinks.
                other = next((e for e in cells if e.day == each.day and e is not each), None)
                assert other is not None
                moved = [
                    cell(
                        e.tenants,
                        e.uses + {id(each): 1, id(other): -1}.get(id(e), 0),
                        day=e.day,
                        size=e.size,
                    )
                    for e in cells
                ]
            else:
                moved = [
                    cell(e.tenants, e.uses + (e is each), day=e.day, size=e.size) for e in cells
                ]
            assert show(moved) == show(cells)


# -- the door -------------------------------------------------------------------------------------


async def test_a_batch_counts_once_on_the_day_on_which_it_comes(config: Config) -> None:
    tenant_id, other = await a_tenant(config), await a_tenant(config)
    # What stands twice counts together.
    uses = [{"feature": "queries", "uses": 1}] * 2 + [{"feature": "preview", "uses": 9}]
    batch = a_batch() | {"uses": uses}
    for _ in range(3):
        assert (await tell(config, tenant_id, batch)).status_code == 204
    await keep(config, tenant_id, things=10)
    await tell(config, tenant_id, a_batch(uses=3))
    # An id that another has made up too is another batch.
    await tell(config, other, batch)
    today = NOW.date()
    assert await counted(config, tenant_id) == [
        {"day": today, "feature": "preview", "app": APP, "size": "0", "uses": 9},
        {"day": today, "feature": "queries", "app": APP, "size": "1-10", "uses": 5},
    ]
    assert [row["uses"] for row in await counted(config, other)] == [9, 2]


async def test_whoever_loops_is_counted_up_to_a_bound(config: Config) -> None:
    tenant_id = await a_tenant(config)
    for _ in range(MOST_A_DAY // 1000 + 2):
        await tell(config, tenant_id, a_batch(uses=1000))
    assert [row["uses"] for row in await counted(config, tenant_id)] == [MOST_A_DAY]


@pytest.mark.parametrize(
    "wrong",
    [
        {"feature": "eve@customer.example"},
        {"uses": 0},
        {"uses": -1},
        {"uses": 1001},
        {"uses": 10**30},
        {"uses": 1.5},
        {"size": "11-100"},
        {"batch_id": "no id"},
        {"uses": []},
        {"uses": [{"feature": "queries", "uses": 1, "who": "eve"}]},
        {"day": "2020-01-01"},
        {"url": "https://customer.example/"},
    ],
)
async def test_what_is_not_of_the_list_is_refused_whole(
    config: Config, wrong: dict[str, Any]
) -> None:
    tenant_id = await a_tenant(config)
    feature, uses = wrong.pop("feature", "queries"), wrong.pop("uses", 1)
    batch = a_batch(feature, uses if not isinstance(uses, list) else 1, **wrong)
    if isinstance(uses, list):
        batch["uses"] = uses
    answer = await tell(config, tenant_id, batch)
    assert answer.status_code in {400, 422}, answer.text
    assert "customer.example" not in answer.text
    assert await counted(config, tenant_id) == []


async def test_nothing_is_counted_of_who_is_not_served(config: Config) -> None:
    forge = await a_tenant(config, platform=Platform.FORGE)
    gone = await a_tenant(config, status=TenantStatus.UNINSTALLED)
    going = await a_tenant(config, content=ClassState.PURGING)
    for tenant_id, status in ((forge, 403), (gone, 403), (going, 410), (uuid4(), 503)):
        assert (await tell(config, tenant_id, a_batch())).status_code == status
        assert await counted(config, tenant_id) == []
    async with config.client() as client:
        assert (await client.post(PATH, json=a_batch())).status_code == 401


async def test_a_purge_takes_what_names_the_tenant(config: Config) -> None:
    tenant_id, neighbour = await a_tenant(config), await a_tenant(config)
    for each in (tenant_id, neighbour):
        await tell(config, each, a_batch())
    await config.order_erasure(tenant_id)
    assert (await tell(config, tenant_id, a_batch())).status_code == 410
    await config.erase()
    assert await counted(config, tenant_id) == []
    assert len(await counted(config, neighbour)) == 1
    left = await config.eraser.fetchval(
        "SELECT count(*) FROM usage_batches WHERE tenant_id = $1", tenant_id
    )
    assert left == 0
    config.clock.advance(2 * DAY)
    await store.roll_up(config.worker, now=config.clock.now())
    assert [each.tenants for each in await kept(config)] == [1]


# -- statistics -----------------------------------------------------------------------------------


async def test_a_day_that_is_over_names_no_tenant(config: Config) -> None:
    tenants = [await a_tenant(config) for _ in range(6)]
    for number, tenant_id in enumerate(tenants):
        await keep(config, tenant_id, things=3 if number else 11)
        await tell(config, tenant_id, a_batch(uses=10))
    end = datetime.combine(NOW.date() + DAY, datetime.min.time(), UTC)

    assert await store.roll_up(config.worker, now=end + timedelta(minutes=59)) == 0
    assert await store.roll_up(config.worker, now=end + timedelta(hours=1)) == 6
    assert await store.roll_up(config.worker, now=end + timedelta(hours=1)) == 0
    assert {(each.size, each.tenants, each.uses) for each in await kept(config)} == {
        ("1-10", 5, 50),
        ("11-100", 1, 10),
    }
    for tenant_id in tenants:
        assert await counted(config, tenant_id) == []
    # Ids of batches stay their day, and statistics three years.
    assert await config.eraser.fetchval("SELECT count(*) FROM usage_batches") == 7
    await store.roll_up(config.worker, now=NOW + timedelta(hours=25))
    assert await config.eraser.fetchval("SELECT count(*) FROM usage_batches") == 1
    await store.roll_up(config.worker, now=NOW + store.KEPT + DAY)
    assert await kept(config) == []


async def fill(config: Config) -> None:
    """Three weeks of usage, as it is kept."""
    chance = Random(7)
    for number in range(21):
        day = NOW.date() - (number + 1) * DAY
        for feature, most in ((Feature.QUERIES, 90), (Feature.PREVIEW, 40), (Feature.EXPORT, 6)):
            for size in (Size.TEN, Size.HUNDRED):
                tenants = chance.randrange(most // 3, most)
                await config.worker.execute(
                    "INSERT INTO usage_days VALUES ($1, $2, $3, $4, $5, $6)",
                    day,
                    APP,
                    feature,
                    size,
                    tenants,
                    tenants * chance.randrange(1, 9),
                )


async def look(config: Config, **query: str) -> str:
    async with config.client() as client:
        answer = await client.get(PAGE, params=query)
    assert answer.status_code == 200
    return answer.text


async def test_the_page_shows_by_app_feature_and_period(config: Config) -> None:
    assert "Nothing can be shown" in await look(config)
    await fill(config)
    everything = await look(config)
    assert everything.count("<section") == 3
    assert (await look(config, feature="queries", app=APP)).count("<section") == 1
    assert "Nothing can be shown" in await look(config, app="com.example.none")
    week = await look(config, days="7", feature="queries")
    sums = sum(each.uses for each in await kept(config) if each.feature == "queries")
    assert f"<dd>{sums:,}</dd>" in everything
    assert f"<dd>{sums:,}</dd>" not in week
    assert week.count('<th scope="row">') == 7
    assert "30 days" in await look(config, days="9999999")


async def test_outside_development_there_is_no_such_page(emptied: Migrated, tmp_path: Path) -> None:
    async with config_of(await emptied(DATA_MAP), tmp_path) as config, config.client() as client:
        assert (await client.get(PAGE)).status_code == 404


async def test_the_keyboard_is_enough_and_axe_finds_nothing_in_any_light(
    config: Config, browser: Browser
) -> None:
    await fill(config)
    async with on_a_port(config.app, browser) as site:
        page = await site.page(viewport={"width": 320, "height": 640})
        await page.goto(f"{site.url}{PAGE}")
        await page.get_by_label("Feature").focus()
        await page.keyboard.type("preview")
        await page.get_by_role("button", name="Show").press("Enter")
        await expect(page.get_by_role("heading", level=2)).to_have_text(f"preview in {APP}")
        await page.get_by_text("as a table").focus()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("table")).to_be_visible()
        for scheme in SCHEMES:
            await page.emulate_media(color_scheme=scheme)
            assert (await Axe().run(page)).response["violations"] == []
            assert await overflow(page) == 0
        assert site.complaints == []
