"""Finding out who left: real sites' answers over HTTP, real PostgreSQL, and days that pass."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import httpx2
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from chassis.clock import ManualClock
from chassis.egress import Egress
from chassis.unit_of_work import Units
from connect.product import ProductClient, Reached, Throttled, Unclear, Unknown
from contracts.purges import PurgeRequested
from contracts.tenants import DepartureKind, SubscriptionStatus, TenantStatus
from devstack.atlassian import Atlassian, Site, create_app
from services.installer import handlers
from services.installer.clients import Sites
from services.installer.domain.aliases import Alias, AliasKind, ForgeInstallation
from services.installer.domain.tenants import Installation
from services.installer.domain.timelines import Entry
from services.installer.door import (
    Door,
    hear_forge_installed,
    hear_forge_uninstalled,
    hear_installed,
    hear_uninstalled,
)
from services.installer.jobs.access import AccessFigures, AccessJobs
from services.installer.store import access as store
from services.installer.store import timelines
from tests.installer.conftest import APP, START, Database, Said, serving
from tests.support.chassis import suppressed

DAY = timedelta(days=1)
# A little longer than the jitter of a day lets a site wait.
DAY_AND_A_BIT = timedelta(hours=27)
LEASE = timedelta(minutes=10)


class Moody:
    """The stand-in's sites, where one can be told to answer something else; counts who is asked."""

    def __init__(self, sites: ASGIApp) -> None:
        self._sites = sites
        self.moods: dict[str, Response] = {}
        self.asked: Counter[str] = Counter()
        self.cookies: set[str] = set()
        self.before_answer: Callable[[], Awaitable[None]] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = scope["path"].split("/")[2]
        if "/addons/" in scope["path"]:
            self.asked[name] += 1
            if self.before_answer is not None:
                await self.before_answer()
        self.cookies.update(Request(scope).cookies)
        answer = self.moods.get(name, self._sites)
        await answer(scope, receive, send)


@dataclass
class World:
    """Customers' sites, and the jobs that ask them."""

    atlassian: Atlassian
    sites: Moody
    url: str
    units: Units[Door]
    database: Database
    clock: ManualClock
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        self.figures = AccessFigures(self.registry)
        self.jobs = self.worker()

    def client(self, *, at_once: int) -> httpx2.AsyncClient:
        return Egress.to(self.url).client(at_once=at_once, keeps_connections=False)

    def worker(self, *, at_once: int = 4) -> AccessJobs:
        """Another replica."""
        product = ProductClient(self.client(at_once=at_once), timeout_seconds=20)
        return AccessJobs(
            units=self.units,
            sites=Sites(product, per_second=10_000),
            figures=self.figures,
            at_once=at_once,
            lease=LEASE,
        )

    async def install(self, name: str) -> UUID:
        site = self.atlassian.site(name)
        await hear_installed(self.units, installation_of(site))
        self.atlassian.installed.add((site.client_key, APP))
        await store.adopt_tenants(self.units.pool, now=self.clock.now(), limit=1)
        return (await self.database.tenants(site.client_key))[-1]

    async def delete(self, *names: str) -> None:
        """Delete sites, which Atlassian says to nobody."""
        self.atlassian.deleted.update(names)

    async def days(self, count: int) -> None:
        """Let days pass, each of which asks everybody and draws the conclusions."""
        for _ in range(count):
            self.clock.advance(DAY_AND_A_BIT)
            await self.jobs.ask()
            await self.jobs.note_losses()

    async def report(self) -> None:
        """Note that the Marketplace's report was read to its end just now."""
        await self.database.owner.execute(
            "INSERT INTO licence_reports (report_id, began_at, began_wall_at, ended_at,"
            " claimed_until) VALUES ($1, $2, $2, $2, $2)",
            uuid4(),
            self.clock.now(),
        )

    async def licence(self, tenant_id: UUID, status: str, *, weak: bool = False) -> None:
        """Let the report have a licence of this tenant."""
        await self.database.owner.execute(
            """
            INSERT INTO licences (addon_key, number, hosting, status, licence_type, last_updated,
                                  first_seen_at, heard_at, tenant_id, matched_by, weak)
            VALUES ($1, $2, 'cloud', $3, 'commercial', $4, $5, $5, $6, 'sen', $7)
            ON CONFLICT (addon_key, number) DO UPDATE SET status = excluded.status
            """,
            APP,
            f"L-{tenant_id}",
            status,
            self.clock.now().date(),
            self.clock.now(),
            tenant_id,
            weak,
        )

    async def confirm(self, tenant_id: UUID) -> None:
        async with self.units.begin() as uow:
            assert await store.confirm_loss(uow.connection, tenant_id, by="kim", now=uow.now)

    async def release(self) -> None:
        async with self.units.begin() as uow:
            assert await store.release_hold(uow.connection, APP, by="kim", now=uow.now)

    async def said(self, tenant_id: UUID) -> list[str]:
        return [each.type for each in await self.database.said(tenant_id)]

    async def last_said(self, tenant_id: UUID) -> Said:
        return (await self.database.said(tenant_id))[-1]

    async def check(self, tenant_id: UUID, column: str) -> object:
        return await self.database.owner.fetchval(
            f"SELECT {column} FROM access_checks WHERE tenant_id = $1", tenant_id
        )

    async def last_seen_at(self, tenant_id: UUID) -> datetime:
        seen_at = await self.check(tenant_id, "last_seen_at")
        assert isinstance(seen_at, datetime)
        return seen_at

    def figure(self, line: str) -> bool:
        return line in generate_latest(self.registry).decode().splitlines()


def installation_of(site: Site) -> Installation:
    return Installation(
        addon_key=APP,
        product_type=site.product_type,
        client_key=site.client_key,
        base_url=site.base_url,
        service_entitlement_number=None,
        shared_secret=site.shared_secret,
        oauth_client_id=None,
    )


@pytest.fixture
async def world(
    database: Database, units: Units[Door], clock: ManualClock, http: httpx2.AsyncClient
) -> AsyncIterator[World]:
    def sites_of(atlassian: Atlassian) -> Moody:
        return Moody(create_app(atlassian, "http://127.0.0.1:1", [APP]))

    async with serving(address := _Address()) as url:
        atlassian = Atlassian(http, sites_at=url)
        address.app = sites_of(atlassian)
        yield World(atlassian, address.app, url, units, database, clock)


class _Address:
    """An application that is known only after its address."""

    app: Moody

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


# -- asking ----------------------------------------------------------------------------------


async def test_each_site_is_asked_once_a_day(world: World) -> None:
    for number in range(10):
        await world.install(f"site-{number}")
    await world.days(3)
    assert set(world.sites.asked.values()) == {3}
    assert len(world.sites.asked) == 10
    assert world.figure('keepword_sites_asked_total{answer="seen"} 30.0')


async def test_an_answer_tells_of_the_licence_and_the_cloud_id(world: World) -> None:
    tenant_id = await world.install("acme")
    await world.days(1)
    assert await world.check(tenant_id, "licence_active") is True
    assert await world.last_seen_at(tenant_id) == world.clock.now()
    aliases = await world.database.owner.fetch("SELECT * FROM aliases")
    assert [(each["tenant_id"], each["kind"], each["present"]) for each in aliases] == [
        (tenant_id, "cloud-id", False)
    ]
    assert aliases[0]["name"] == world.atlassian.site("acme").cloud_id
    assert await world.said(tenant_id) == ["tenant-installed", "tenant-updated"]
    await world.days(1)
    assert await world.said(tenant_id) == ["tenant-installed", "tenant-updated"]
    world.atlassian.end_licence(world.atlassian.site("acme"), APP)
    await world.days(1)
    assert await world.check(tenant_id, "licence_active") is False
    assert (await world.said(tenant_id))[2:] == ["subscription-ended"]


async def test_a_cloud_id_that_another_tenant_has_stays_there(world: World) -> None:
    first, second = await world.install("acme"), await world.install("globex")
    name = world.atlassian.site("globex").cloud_id
    await world.database.owner.execute(
        "INSERT INTO aliases VALUES ($1, 'cloud-id', $2, $3, true, false, $4)",
        first,
        APP,
        name,
        START,
    )
    await world.days(1)
    held = await world.database.owner.fetchval(
        "SELECT tenant_id FROM aliases WHERE name = $1", name
    )
    assert held == first
    assert await world.check(second, "losses") == 0


async def test_a_free_app_has_no_licence(world: World) -> None:
    tenant_id = await world.install("acme")
    world.sites.moods["acme"] = Response(f'{{"key": "{APP}"}}')
    await world.days(1)
    assert await world.check(tenant_id, "licence_active") is None
    assert await world.check(tenant_id, "licence_heard_at") is None
    assert await world.said(tenant_id) == ["tenant-installed"]


async def test_two_replicas_share_the_sites(world: World) -> None:
    for number in range(60):
        await world.install(f"site-{number}")
    world.clock.advance(DAY)
    replicas = [world.worker(at_once=2) for _ in range(2)]
    asked = await asyncio.gather(*(each.ask() for each in replicas))
    assert sum(asked) == 60
    assert all(asked)
    assert set(world.sites.asked.values()) == {1}


async def test_what_a_killed_replica_was_asking_is_asked_again(world: World) -> None:
    tenant_id = await world.install("acme")
    world.clock.advance(DAY)
    asked, never = asyncio.Event(), asyncio.Event()

    async def say_nothing() -> None:
        asked.set()
        await never.wait()

    world.sites.before_answer = say_nothing
    killed = asyncio.create_task(world.worker().ask())
    await asked.wait()
    killed.cancel()
    with pytest.raises(asyncio.CancelledError):
        await killed
    never.set()
    world.sites.before_answer = None
    assert await world.jobs.ask() == 0
    world.clock.advance(LEASE + timedelta(seconds=1))
    assert await world.jobs.ask() == 1
    assert await world.last_seen_at(tenant_id) == world.clock.now()


async def test_no_transaction_is_open_while_a_site_is_asked(world: World) -> None:
    await world.install("acme")
    world.clock.advance(DAY)
    states = list[str]()

    async def look() -> None:
        rows = await world.database.owner.fetch(
            "SELECT state FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        states.extend(row["state"] for row in rows)

    world.sites.before_answer = look
    assert await world.jobs.ask() == 1
    assert states
    assert "idle in transaction" not in states


async def test_nothing_is_kept_of_a_sites_cookies(world: World) -> None:
    await world.install("acme")
    world.sites.moods["acme"] = Response(
        f'{{"key": "{APP}"}}', headers={"set-cookie": "session=1; Path=/"}
    )
    await world.days(2)
    assert world.sites.cookies == set()
    client = world.client(at_once=1)
    await client.get(f"{world.url}/sites/acme/rest")
    assert not list(client.cookies.jar)


async def test_a_site_whose_secret_is_gone_is_not_asked(world: World) -> None:
    tenant_id = await world.install("acme")
    await world.database.owner.execute("DELETE FROM tenant_keys")
    await world.days(1)
    assert not world.sites.asked
    assert await world.check(tenant_id, "losses") == 0


# -- answers that say nothing ----------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        Response(status_code=503),
        Response(status_code=302, headers={"location": "https://elsewhere.example.com"}),
        Response("<html>", media_type="text/html"),
        Response(status_code=429, headers={"retry-after": "1800"}),
    ],
)
async def test_an_unclear_answer_counts_nothing_and_is_asked_for_again_soon(
    world: World, answer: Response
) -> None:
    tenant_id = await world.install("acme")
    world.sites.moods["acme"] = answer
    await world.days(1)
    due_at = await world.check(tenant_id, "due_at")
    assert isinstance(due_at, datetime)
    assert timedelta(hours=1) <= due_at - world.clock.now() <= timedelta(hours=1.25)
    await world.days(5)
    assert await world.check(tenant_id, "losses") == 0
    assert await world.last_seen_at(tenant_id) == START
    assert await world.database.status(tenant_id) == "installed"


async def test_an_unclear_answer_takes_no_loss_back(world: World) -> None:
    tenant_id = await world.install("acme")
    await world.delete("acme")
    await world.days(2)
    world.sites.moods["acme"] = Response(status_code=503)
    await world.days(2)
    assert await world.check(tenant_id, "losses") == 2


class ThrottledOnce:
    """Answers a first question with a pause."""

    def __init__(self) -> None:
        self.asked = 0

    async def licence(self, *_: str) -> Throttled | Reached:
        self.asked += 1
        return Throttled(timedelta(minutes=5)) if self.asked == 1 else Reached(None, None)


async def test_a_site_that_asks_for_a_pause_is_left_alone_by_all_its_tenants() -> None:
    product, seconds = ThrottledOnce(), 0.0
    sites = Sites(product, per_second=1_000, monotonic=lambda: seconds)  # type: ignore[arg-type]

    async def ask(url: str) -> object:
        return await sites.licence(url, APP, "secret")

    assert await ask("https://acme.atlassian.net") == Throttled(timedelta(minutes=5))
    seconds = 200.0
    assert await ask("https://acme.atlassian.net/wiki") == Throttled(timedelta(seconds=100))
    assert isinstance(await ask("https://globex.atlassian.net"), Reached)
    assert product.asked == 2
    seconds = 300.0
    assert isinstance(await ask("https://acme.atlassian.net"), Reached)


async def test_calls_are_spread_over_the_second(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = list[float]()

    async def wait(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", wait)
    seconds = 0.0
    sites = Sites(ThrottledOnce(), per_second=4, monotonic=lambda: seconds)  # type: ignore[arg-type]
    for name in "abc":
        await sites.licence(f"https://{name}.atlassian.net", APP, "secret")
    seconds = 10.0
    await sites.licence("https://d.atlassian.net", APP, "secret")
    assert waits == [0.25, 0.5]


async def test_a_site_that_others_could_overhear_is_not_asked() -> None:
    sites = Sites(ThrottledOnce(), per_second=1_000)  # type: ignore[arg-type]
    assert await sites.licence("http://acme.example.com", APP, "s") == Unclear(
        Unknown.NO_CONNECTION
    )


# -- leaving ---------------------------------------------------------------------------------


async def test_a_site_that_was_deleted_left_when_it_was_last_seen(world: World) -> None:
    tenant_id = await world.install("acme")
    await world.days(1)
    seen_at = world.clock.now()
    await world.licence(tenant_id, "inactive")
    await world.delete("acme")
    await world.days(3)
    await world.report()
    assert await world.database.status(tenant_id) == "installed"
    await world.days(1)
    left, said = (await world.database.said(tenant_id))[-2:]
    assert (left.type, said.type) == ("tenant-uninstalled", "subscription-ended")
    departure = said.state.departure
    assert departure is not None
    assert (departure.how, departure.at) == (DepartureKind.ACCESS_LOST, seen_at)
    assert said.state.status is TenantStatus.UNINSTALLED
    assert said.state.subscription.status is SubscriptionStatus.ENDED


@pytest.mark.parametrize("weak", [True, False])
async def test_a_licence_that_runs_keeps_a_tenant(world: World, weak: bool) -> None:
    tenant_id = await world.install("acme")
    await world.licence(tenant_id, "active", weak=weak)
    await world.delete("acme")
    await world.days(1)
    await world.report()
    await world.days(6)
    assert await world.database.status(tenant_id) == "installed"
    await world.licence(tenant_id, "inactive")
    await world.report()
    await world.jobs.note_losses()
    assert await world.database.status(tenant_id) == "uninstalled"


async def test_without_a_report_a_person_has_to_confirm(world: World) -> None:
    tenant_id = await world.install("acme")
    await world.delete("acme")
    await world.days(6)
    assert await world.database.status(tenant_id) == "installed"
    await world.confirm(tenant_id)
    await world.jobs.note_losses()
    assert await world.database.status(tenant_id) == "uninstalled"


async def test_a_persons_word_does_not_shorten_the_days(world: World) -> None:
    tenant_id = await world.install("acme")
    await world.delete("acme")
    await world.days(1)
    await world.confirm(tenant_id)
    await world.days(1)
    assert await world.database.status(tenant_id) == "installed"
    await world.days(2)
    assert await world.database.status(tenant_id) == "uninstalled"


async def test_an_answer_while_access_is_lost_begins_the_count_again(world: World) -> None:
    tenant_id = await world.install("acme")
    await world.delete("acme")
    await world.days(2)
    world.atlassian.deleted.clear()
    await world.days(1)
    assert await world.check(tenant_id, "losses") == 0
    await world.delete("acme")
    await world.report()
    await world.days(2)
    assert await world.database.status(tenant_id) == "installed"
    assert await world.check(tenant_id, "losses") == 2


async def gone(world: World, name: str = "acme") -> UUID:
    """A tenant of whom we think that it left."""
    tenant_id = await world.install(name)
    await world.delete(name)
    await world.days(4)
    await world.report()
    await world.confirm(tenant_id)
    await world.jobs.note_losses()
    assert await world.database.status(tenant_id) == "uninstalled"
    return tenant_id


async def test_an_answer_after_the_departure_takes_it_back(world: World) -> None:
    tenant_id = await gone(world)
    await world.days(2)
    world.atlassian.deleted.clear()
    await world.days(1)
    back, said = (await world.database.said(tenant_id))[-2:]
    assert (back.type, back.state.status) == ("tenant-installed", TenantStatus.INSTALLED)
    assert said.state.departure is None
    # What the site says of its licence counts again.
    assert said.state.subscription.status is SubscriptionStatus.ACTIVE
    entries = await timelines.timeline_of(world.units.pool, tenant_id)
    assert [entry.what for entry in entries] == [Entry.ACCESS_LOST, Entry.ACCESS_BACK]
    assert await world.check(tenant_id, "losses") == 0
    await world.days(1)
    assert await world.database.status(tenant_id) == "installed"


async def test_nothing_takes_a_purge_back(world: World) -> None:
    tenant_id = await gone(world)
    tenant = (await world.last_said(tenant_id)).state
    request = PurgeRequested(
        purge_id=uuid4(),
        step="accept",
        tenant_id=tenant_id,
        tenant_version=tenant.version,
        classes=tuple(tenant.classes),
    )
    async with world.units.begin() as uow:
        await handlers.decide_purge(request, uow)
    world.atlassian.deleted.clear()
    world.sites.asked.clear()
    await world.days(2)
    assert not world.sites.asked
    assert await world.database.status(tenant_id) == "purging"


async def test_a_purge_that_begins_while_a_site_answers_goes_on(world: World) -> None:
    tenant_id = await gone(world)
    world.atlassian.deleted.clear()

    async def begin() -> None:
        await world.database.owner.execute("UPDATE tenants SET status = 'purging'")

    world.sites.before_answer = begin
    await world.days(1)
    assert world.sites.asked["acme"]
    assert await world.database.status(tenant_id) == "purging"
    assert await world.database.owner.fetchval("SELECT count(*) FROM aliases") == 0


async def test_nothing_is_written_behind_the_guard(world: World) -> None:
    tenant_id = await world.install("acme")
    await world.database.owner.execute(
        "INSERT INTO erased_tenants VALUES ($1, 'installation', 1, $1, $2)", tenant_id, START
    )
    await world.days(1)
    assert world.sites.asked["acme"]
    assert await world.database.owner.fetchval("SELECT count(*) FROM aliases") == 0
    assert await world.check(tenant_id, "licence_active") is None
    counted = suppressed(world.units)
    assert counted.keys() == {("job", "installation")}


async def test_who_uninstalls_meanwhile_left_by_that(world: World) -> None:
    tenant_id = await world.install("acme")
    client_key = world.atlassian.site("acme").client_key
    await world.delete("acme")
    await world.days(3)
    uninstalled_at = world.clock.now()
    await hear_uninstalled(world.units, APP, client_key)
    await world.report()
    await world.days(3)
    departure = (await world.last_said(tenant_id)).state.departure
    assert departure is not None
    assert (departure.how, departure.at) == (DepartureKind.UNINSTALLED, uninstalled_at)
    assert await world.check(tenant_id, "losses") == 0


async def test_a_site_that_uninstalls_while_it_is_asked_is_not_revived(world: World) -> None:
    tenant_id = await world.install("acme")

    async def uninstall() -> None:
        client_key = world.atlassian.site("acme").client_key
        await hear_uninstalled(world.units, APP, client_key)

    world.sites.before_answer = uninstall
    await world.days(1)
    assert await world.database.status(tenant_id) == "uninstalled"


async def test_who_comes_back_is_counted_anew(world: World) -> None:
    tenant_id = await world.install("acme")
    site = world.atlassian.site("acme")
    await world.delete("acme")
    await world.days(3)
    await hear_uninstalled(world.units, APP, site.client_key)
    world.clock.advance(90 * DAY)
    await hear_installed(world.units, installation_of(site))
    back_at = world.clock.now()
    await world.report()
    await world.days(2)
    assert await world.check(tenant_id, "losses") == 2
    assert await world.last_seen_at(tenant_id) == back_at
    assert await world.database.status(tenant_id) == "installed"


ON_FORGE = ForgeInstallation(APP, "ari:installation", None, "jira")


async def test_a_tenant_that_connect_refuses_stays_while_it_is_on_forge(world: World) -> None:
    tenant_id = await world.install("acme")
    cloud_id = world.atlassian.site("acme").cloud_id
    await world.days(1)
    await hear_forge_installed(
        world.units, replace(ON_FORGE, cloud_id=cloud_id), Entry.FORGE_INSTALLED
    )
    await world.delete("acme")
    await world.days(1)
    await world.report()
    await world.confirm(tenant_id)
    await world.days(4)
    assert await world.database.status(tenant_id) == "installed"
    assert (await store.count_losses(world.units.pool, now=world.clock.now())) == []
    # Now Connect is all that is left of it, and is asked from here on as anybody is.
    await hear_forge_uninstalled(world.units, ON_FORGE)
    await world.report()
    await world.days(4)
    await world.confirm(tenant_id)
    await world.days(1)
    assert await world.database.status(tenant_id) == "uninstalled"


async def test_a_name_on_forge_that_connect_told_keeps_nobody(world: World) -> None:
    site = world.atlassian.site("acme")
    alias = Alias(AliasKind.FORGE_INSTALLATION, APP, "ari:installation")
    await hear_installed(world.units, installation_of(site), forge=alias)
    (tenant_id,) = await world.database.tenants(site.client_key)
    await store.adopt_tenants(world.units.pool, now=world.clock.now(), limit=1)
    await world.delete("acme")
    await world.days(1)
    await world.confirm(tenant_id)
    await world.days(4)
    assert await world.database.status(tenant_id) == "uninstalled"


async def test_tenants_that_are_on_forge_alone_are_not_asked(world: World) -> None:
    await hear_forge_installed(world.units, ON_FORGE, Entry.FORGE_INSTALLED)
    await world.days(2)
    assert await world.database.owner.fetchval("SELECT count(*) FROM access_checks") == 0


# -- mass loss -------------------------------------------------------------------------------


async def test_many_lost_at_once_are_held_until_a_person_releases_them(world: World) -> None:
    names = [f"site-{number}" for number in range(30)]
    tenants = [await world.install(name) for name in names]
    await world.delete(*names[:12])
    await world.days(1)
    assert world.figure(f'keepword_access_holds{{addon_key="{APP}"}} 1.0')
    for tenant_id in tenants[:12]:
        await world.confirm(tenant_id)
    await world.days(5)

    async def left() -> int:
        count: int = await world.database.owner.fetchval(
            "SELECT count(*) FROM tenants WHERE departed_how = 'access-lost'"
        )
        return count

    assert await left() == 0
    await world.release()
    assert await world.jobs.note_losses() == 12
    assert await left() == 12
    assert world.figure(f'keepword_access_holds{{addon_key="{APP}"}} 0.0')
    # The next one needs losses of its own.
    await world.delete(*names[12:21])
    await world.days(1)
    assert await store.open_holds(world.units.pool) == []
    await world.delete(names[21])
    await world.days(1)
    assert [hold.losses for hold in await store.open_holds(world.units.pool)] == [10]


async def test_a_few_of_many_are_not_held(world: World) -> None:
    names = [f"site-{number}" for number in range(20)]
    for name in names:
        await world.install(name)
    await world.delete(*names[:9])
    await world.days(1)
    assert await store.open_holds(world.units.pool) == []


async def test_no_host_and_no_secret_is_logged(
    world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    await world.install("acme")
    await world.days(1)
    await world.delete("acme")
    await world.days(4)
    out, err = capfd.readouterr()
    for said in (out, err):
        assert "127.0.0.1" not in said
        assert world.atlassian.site("acme").shared_secret not in said
