"""The report is read whole or said to be missing, without its people, however the Marketplace behaves."""

import json
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from connect.marketplace import (
    EXPORT_CEILING,
    Hosting,
    LicenceRow,
    LicenceStatus,
    MarketplaceReports,
    Named,
    NoPerson,
    Person,
    ReportAway,
    ReportRefused,
    Trouble,
)
from devstack.atlassian import Atlassian, create_app
from devstack.atlassian.marketplace import ACCOUNT, DEVELOPER_ID, TOKEN
from tests.connect.serving import serving

OFFICIAL = (
    Path(__file__).parents[2].parent
    / "shared"
    / "vectors"
    / "marketplace-privacy-forge-samples.json"
)
APP = "com.example.app"
ROW = {
    "addonLicenseId": "1",
    "licenseId": "SEN-1",
    "addonKey": APP,
    "hosting": "Cloud",
    "lastUpdated": "2026-08-28",
    "licenseType": "COMMERCIAL",
    "status": "active",
}
REPORTS = f"/rest/3/reporting/developer-space/{DEVELOPER_ID}/licenses"


class Waits:
    """Sleeps without sleeping, and keeps for how long it was asked to."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


class Marketplace:
    """The stand-in's reports on a port, and a client of theirs that never really waits."""

    def __init__(self, atlassian: Atlassian, http: httpx2.AsyncClient, url: str) -> None:
        self.stand_in = atlassian.marketplace
        self.http = http
        self.url = url
        self.waits = Waits()
        self.reports = _reports(http, url, self.waits)

    async def holds(self, rows: list[dict[str, Any]]) -> None:
        await self.http.post(f"{self.url}/marketplace/licences", json=rows)

    async def has(self, **faults: Any) -> None:
        await self.http.post(f"{self.url}/marketplace/faults", json=faults)


def _reports(
    http: httpx2.AsyncClient, url: str, waits: Waits, *, token: str = TOKEN
) -> MarketplaceReports:
    return MarketplaceReports(
        http,
        url,
        DEVELOPER_ID,
        ACCOUNT,
        SecretStr(token),
        sleep=waits,
        now=lambda: 1_795_000_000.0,
    )


async def _all(
    reports: MarketplaceReports, since: date | None = None
) -> tuple[list[LicenceRow], int]:
    rows, unreadable = list[LicenceRow](), 0
    async for batch in reports.licences(since):
        rows += batch.rows
        unreadable += batch.unreadable
    return rows, unreadable


def _rows(count: int, **fields: Any) -> list[dict[str, Any]]:
    return [
        ROW | {"addonLicenseId": f"{n:06}", "licenseId": f"SEN-{n}"} | fields for n in range(count)
    ]


def _numbers(rows: list[LicenceRow]) -> list[str | None]:
    return [row.addon_licence_id for row in rows]


@pytest.fixture
async def marketplace(http: httpx2.AsyncClient) -> AsyncIterator[Marketplace]:
    atlassian = Atlassian(http)
    async with serving(create_app(atlassian, "http://127.0.0.1", [APP])) as url:
        yield Marketplace(atlassian, http, url)


async def test_an_export_is_waited_for_and_read(marketplace: Marketplace) -> None:
    await marketplace.holds(_rows(120))
    await marketplace.has(polls_in_progress=3)

    rows, unreadable = await _all(marketplace.reports)

    assert _numbers(rows) == [f"{n:06}" for n in range(120)]
    assert unreadable == 0
    assert marketplace.waits.seconds == [2, 4, 8]


async def test_an_empty_report_has_no_rows(marketplace: Marketplace) -> None:
    assert await _all(marketplace.reports) == ([], 0)


async def test_only_what_changed_since_a_day_is_asked_for(marketplace: Marketplace) -> None:
    await marketplace.holds(
        [
            ROW | {"addonLicenseId": "old", "lastUpdated": "2026-08-27"},
            ROW | {"addonLicenseId": "same day", "lastUpdated": "2026-08-28"},
            ROW | {"addonLicenseId": "new", "lastUpdated": "2026-08-29"},
        ]
    )

    for refused in (False, True):
        await marketplace.has(exports_refused=refused)
        rows, _ = await _all(marketplace.reports, date(2026, 8, 28))
        assert _numbers(rows) == ["same day", "new"]


@pytest.mark.parametrize("faults", [{"exports_refused": True}, {"failed_exports": 1}])
async def test_where_there_is_no_export_every_page_is_read(
    faults: dict[str, Any], marketplace: Marketplace
) -> None:
    await marketplace.holds(_rows(101))
    await marketplace.has(**faults)

    rows, _ = await _all(marketplace.reports)

    assert _numbers(rows) == [f"{n:06}" for n in range(101)]


async def test_being_throttled_is_waited_out_for_as_long_as_asked(
    marketplace: Marketplace,
) -> None:
    await marketplace.holds(_rows(1))
    await marketplace.has(throttled=2, retry_after="30", polls_in_progress=0)

    rows, _ = await _all(marketplace.reports)

    assert len(rows) == 1
    assert marketplace.waits.seconds == [30, 30]


async def test_a_wait_that_is_too_long_is_left_to_the_caller(marketplace: Marketplace) -> None:
    await marketplace.has(throttled=1, retry_after="Wed, 18 Nov 2026 11:26:40 GMT")

    with pytest.raises(ReportAway) as away:
        await _all(marketplace.reports)

    assert (away.value.trouble, away.value.retry_after) == (
        Trouble.THROTTLED,
        timedelta(minutes=20),
    )
    assert marketplace.waits.seconds == []


async def test_faults_are_waited_out_a_few_times(marketplace: Marketplace) -> None:
    await marketplace.holds(_rows(1))
    await marketplace.has(broken=5, polls_in_progress=0)

    rows, _ = await _all(marketplace.reports)

    assert len(rows) == 1
    assert marketplace.waits.seconds == [1, 2, 4, 8, 16]


async def test_faults_without_end_mean_that_the_report_is_away(marketplace: Marketplace) -> None:
    await marketplace.has(broken=100)

    with pytest.raises(ReportAway) as away:
        await _all(marketplace.reports)

    assert away.value.trouble is Trouble.SERVER_FAULT
    assert marketplace.stand_in.requests == 6


async def test_an_export_that_never_ends_is_given_up(marketplace: Marketplace) -> None:
    await marketplace.has(polls_in_progress=10_000)

    with pytest.raises(ReportAway) as away:
        await _all(marketplace.reports)

    assert away.value.trouble is Trouble.EXPORT_TOO_SLOW
    assert sum(marketplace.waits.seconds) == EXPORT_CEILING.total_seconds()


async def test_another_account_is_refused_at_once(
    marketplace: Marketplace, http: httpx2.AsyncClient
) -> None:
    waits = Waits()

    with pytest.raises(ReportRefused) as refused:
        await _all(_reports(http, marketplace.url, waits, token="another-token"))

    assert refused.value.status == 401
    assert waits.seconds == []
    assert "another-token" not in f"{refused.value!r}{refused.value}"


async def test_a_marketplace_that_nobody_answers_for_is_away(http: httpx2.AsyncClient) -> None:
    async with serving(Starlette()) as gone:
        pass

    with pytest.raises(ReportAway) as away:
        await _all(_reports(http, gone, Waits()))

    assert away.value.trouble is Trouble.NO_CONNECTION
    assert away.value.__cause__ is None


async def test_what_the_marketplace_writes_for_nothing_is_nothing(
    marketplace: Marketplace,
) -> None:
    await marketplace.holds(
        [
            ROW
            | {
                "cloudId": "null",
                "cloudSiteHostname": "",
                "maintenanceStartDate": None,
                "maintenanceEndDate": "null\r",
                "appEntitlementId": "NULL",
                "appEntitlementNumber": "E-AAA-BBB-CCC-DDD\r",
                "hosting": "Data Center",
                "status": "cancelled\r",
            }
        ]
    )

    (row,), _ = await _all(marketplace.reports)

    assert row.cloud_id is row.cloud_site_hostname is row.app_entitlement_id is None
    assert row.maintenance_start_date is row.maintenance_end_date is None
    assert row.app_entitlement_number == "E-AAA-BBB-CCC-DDD"
    assert (row.hosting, row.status) == (Hosting.DATA_CENTER, LicenceStatus.CANCELLED)


async def test_a_row_that_cannot_be_read_is_counted_and_takes_nothing_down(
    marketplace: Marketplace,
) -> None:
    broken: list[dict[str, Any]] = [
        {"addonKey": ""},
        {"addonKey": "null\r"},
        {"status": "asleep"},
        {"status": None},
        {"hosting": "Moon"},
        {"lastUpdated": "", "maintenanceEndDate": "soon"},
        {"cloudSiteHostname": "a\0b"},
        {"cloudSiteHostname": "a" * 256},
        {"licenseId": 7},
    ]
    await marketplace.holds(
        [ROW | fields | {"addonLicenseId": str(n)} for n, fields in enumerate(broken)]
        + [ROW | {"addonLicenseId": "good"}]
    )

    for refused in (False, True):
        await marketplace.has(exports_refused=refused)
        rows, unreadable = await _all(marketplace.reports)
        assert _numbers(rows) == ["good"]
        assert unreadable == len(broken)


async def test_no_person_is_kept_and_no_customer_is_shown(marketplace: Marketplace) -> None:
    await marketplace.holds(
        [
            ROW
            | {
                "cloudId": "00000000-0000-4000-8000-0000000000AA",
                "cloudSiteHostname": "Customer.atlassian.net",
                "contactDetails": {"technicalContact": {"email": "person@customer.example"}},
                "partnerDetails": {"billingContact": {"email": "person@partner.example"}},
            }
        ]
    )

    (row,), _ = await _all(marketplace.reports)

    assert "person@" not in row.model_dump_json()
    assert row.cloud_id == "00000000-0000-4000-8000-0000000000aa"
    assert row.cloud_site_hostname == "customer.atlassian.net"
    for private in ("SEN-1", row.cloud_id, "customer"):
        assert private not in repr(row)


ADA = {"email": "ada@customer.example", "name": "Ada"}


@pytest.mark.parametrize(
    ("contact", "named"),
    [
        (ADA | {"phone": "+1 555", "city": "Paris"}, Person("Ada", "ada@customer.example")),
        ({"email": "ada@customer.example\r", "name": "null"}, Person("", "ada@customer.example")),
        (None, NoPerson.ABSENT),
        ("null", NoPerson.ABSENT),
        ({"name": "Ada"}, NoPerson.ABSENT),
        ({"email": "RTBF"}, NoPerson.ERASED),
        ({"email": "ada@customer.example", "name": "RTBF"}, NoPerson.ERASED),
        ("ada@customer.example", NoPerson.UNREADABLE),
        ({"email": 7}, NoPerson.UNREADABLE),
        ({"email": "a\nBcc: b@c.example"}, NoPerson.UNREADABLE),
        ({"email": "a" * 321}, NoPerson.UNREADABLE),
    ],
    ids=[
        "whole",
        "bare",
        "none",
        "null",
        "no address",
        "erased",
        "erased name",
        "text",
        "number",
        "two lines",
        "long",
    ],
)
async def test_people_are_read_where_they_are_asked_for(
    marketplace: Marketplace, contact: Any, named: Named
) -> None:
    details = {"country": "Germany", "region": "EMEA", "technicalContact": contact}
    partner = {"billingContact": {"email": "paul@partner.example", "name": "Paul"}}
    await marketplace.holds(
        [
            ROW
            | {
                "contactDetails": details,
                "partnerDetails": partner,
                "parentProductName": "Jira",
                "parentProductEdition": "Pending",
            }
        ]
    )
    [row] = [row async for batch in marketplace.reports.people() for row in batch.rows]

    assert (row.technical, row.billing) == (named, NoPerson.ABSENT)
    assert row.partner == Person("Paul", "paul@partner.example")
    assert (row.country, row.region) == ("Germany", "EMEA")
    assert (row.parent_product_name, row.parent_product_edition) == ("Jira", None)
    assert "@" not in repr(row)
    assert "Germany" not in repr(row)
    assert "Paris" not in row.model_dump_json(warnings=False)


@pytest.mark.skipif(not OFFICIAL.exists(), reason="Atlassian's samples are not here")
async def test_sampled_rows_are_read(marketplace: Marketplace) -> None:
    samples = json.loads(OFFICIAL.read_text())
    await marketplace.holds(
        [samples["licenceRow"]["body"], samples["licenceRowErasedContact"]["body"]]
    )

    (full, erased), unreadable = await _all(marketplace.reports)

    assert unreadable == 0
    assert full == LicenceRow(
        addon_key=APP,
        status=LicenceStatus.ACTIVE,
        hosting=Hosting.CLOUD,
        licence_type="COMMERCIAL",
        last_updated=date(2026, 8, 28),
        maintenance_start_date=date(2026, 1, 1),
        maintenance_end_date=date(2027, 1, 1),
        addon_licence_id="12345678",
        licence_id="SEN-12345678",
        app_entitlement_id="00000000-0000-4000-8000-000000000001",
        app_entitlement_number="E-AAA-BBB-CCC-DDD",
        cloud_id="00000000-0000-4000-8000-0000000000aa",
        cloud_site_hostname="example-tenant.atlassian.net",
    )
    assert (erased.hosting, erased.last_updated) == (None, None)


class OddMarketplace:
    """A Marketplace whose answers are each given by the test."""

    def __init__(self) -> None:
        self.start: Callable[[], Response] = lambda: JSONResponse({"export": {"id": "7"}})
        self.status: Callable[[], Response] = lambda: JSONResponse(
            {"export": {"id": "7", "status": "COMPLETED"}}
        )
        self.download: Callable[[], Response] = lambda: JSONResponse([ROW])
        self.page: Callable[[], Response] = lambda: JSONResponse({"licenses": []})
        self.paths: list[str] = []

    def app(self) -> Starlette:
        return Starlette(routes=[Route("/{path:path}", self.__call__, methods=["GET", "POST"])])

    async def __call__(self, request: Request) -> Response:
        self.paths.append(request.url.path.removeprefix(REPORTS))
        match self.paths[-1].split("/")[-2:]:
            case [_, "export"]:
                return self.start()
            case [_, "status"]:
                return self.status()
            case ["export", _]:
                return self.download()
            case _:
                return self.page()


ODD: dict[str, tuple[str, Callable[[], Response], Trouble]] = {
    "a start that is no JSON": (
        "start",
        lambda: Response("<html>"),
        Trouble.UNEXPECTED_FORM,
    ),
    "an id that is a path": (
        "start",
        lambda: JSONResponse({"export": {"id": "../../x"}}),
        Trouble.UNEXPECTED_FORM,
    ),
    "a start elsewhere": (
        "start",
        lambda: RedirectResponse("https://evil.example/"),
        Trouble.UNEXPECTED_STATUS,
    ),
    "a status without an export": (
        "status",
        lambda: JSONResponse({}),
        Trouble.UNEXPECTED_FORM,
    ),
    "a report elsewhere": (
        "download",
        lambda: RedirectResponse("https://evil.example/", status_code=303),
        Trouble.UNEXPECTED_STATUS,
    ),
    "a report that is a page": ("download", lambda: Response("<html>"), Trouble.BROKEN),
    "a report cut short": ("download", lambda: Response(json.dumps([ROW])[:-1]), Trouble.BROKEN),
    "an endless row": (
        "download",
        lambda: Response('[{"a": "' + "x" * 1_000_000 + '"}]'),
        Trouble.BROKEN,
    ),
}


@pytest.mark.parametrize("what", ODD)
async def test_an_odd_answer_is_never_taken_for_a_report(
    what: str, http: httpx2.AsyncClient
) -> None:
    odd = OddMarketplace()
    where, answer, trouble = ODD[what]
    setattr(odd, where, answer)
    http.follow_redirects = True

    async with serving(odd.app()) as url:
        with pytest.raises(ReportAway) as away:
            await _all(_reports(http, url, Waits()))

    assert away.value.trouble is trouble


async def test_a_connection_that_breaks_within_a_report_is_told(http: httpx2.AsyncClient) -> None:
    def half() -> Iterator[bytes]:
        yield json.dumps([ROW] * 3)[:-1].encode()
        raise ConnectionResetError

    odd = OddMarketplace()
    odd.download = lambda: StreamingResponse(half())
    async with serving(odd.app()) as url:
        with pytest.raises(ReportAway) as away:
            await _all(_reports(http, url, Waits()))

    assert away.value.trouble is Trouble.NO_CONNECTION


async def test_links_of_an_answer_are_not_followed(http: httpx2.AsyncClient) -> None:
    odd = OddMarketplace()
    links = {name: {"href": "https://evil.example/"} for name in ("status", "download")}
    odd.start = lambda: JSONResponse({"export": {"id": "7"}, "_links": links})

    async with serving(odd.app()) as url:
        rows, _ = await _all(_reports(http, url, Waits()))

    assert len(rows) == 1
    assert odd.paths == ["/async/export", "/async/export/7/status", "/async/export/7"]


async def test_pages_that_are_shorter_than_asked_lose_no_row(http: httpx2.AsyncClient) -> None:
    odd, rows = OddMarketplace(), _rows(25)
    odd.start = lambda: Response(status_code=405)

    async def page(request: Request) -> Response:
        if request.method == "POST":
            return Response(status_code=501)
        offset = int(request.query_params["offset"])
        return JSONResponse({"licenses": rows[offset : offset + 10]})

    routes = [Route("/{path:path}", page, methods=["GET", "POST"])]
    async with serving(Starlette(routes=routes)) as url:
        read, _ = await _all(_reports(http, url, Waits()))

    assert _numbers(read) == [row["addonLicenseId"] for row in rows]


async def test_a_marketplace_that_turns_in_a_circle_is_left(http: httpx2.AsyncClient) -> None:
    odd = OddMarketplace()
    odd.start = lambda: Response(status_code=405)
    odd.page = lambda: JSONResponse({"licenses": [ROW]})

    async with serving(odd.app()) as url:
        with pytest.raises(ReportAway) as away:
            await _all(_reports(http, url, Waits()))

    assert away.value.trouble is Trouble.SAME_PAGE_TWICE


async def test_a_large_report_is_never_held_whole(http: httpx2.AsyncClient) -> None:
    some = json.dumps([ROW | {"contactDetails": {"company": "x" * 900}}] * 100)[1:-1].encode()
    times = 60

    async def many() -> AsyncIterator[bytes]:
        yield b"[" + some
        for _ in range(times - 1):
            yield b"," + some
        yield b"]"

    odd, seen = OddMarketplace(), 0
    odd.download = lambda: StreamingResponse(many())
    async with serving(odd.app()) as url:
        tracemalloc.start()
        try:
            async for batch in _reports(http, url, Waits()).licences():
                seen += len(batch.rows)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert seen == 100 * times
    assert peak < times * len(some) / 3


@pytest.mark.parametrize("url", ["http://marketplace.example", "ftp://a", "", "https://a@b"])
def test_the_token_travels_by_https_or_within_this_machine(url: str) -> None:
    with pytest.raises(ValueError, match="https"):
        _reports(httpx2.AsyncClient(), url, Waits())


def test_a_developer_id_is_no_path() -> None:
    with pytest.raises(ValueError, match="developer id"):
        MarketplaceReports(
            httpx2.AsyncClient(), "https://a.example", "../x", ACCOUNT, SecretStr(TOKEN)
        )
