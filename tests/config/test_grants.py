"""Staff look at what a customer keeps: under a grant, with a trace, and else not at all."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx2
import pytest
from fastapi import Request
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from chassis import audit
from chassis.service import Running
from chassis.staff.access import let_staff_in
from chassis.staff.door import Door
from chassis.staff.people import Person, Role
from contracts.tenants import ClassState, Platform, TenantStatus
from devstack.postgres import Roles
from services.config.context import Context
from services.config.domain.access import Tenant
from services.config.jobs import LOOKS_KEPT, Forgetting, WatchingGrants
from services.config.store import grants as store
from tests.config.builders import Config, a_datasource, a_query, config_of

OUR_PAGE = {"accept": "text/html", "sec-fetch-site": "same-origin"}
HALF_AN_HOUR = timedelta(minutes=30)


class Believing(Door):
    """A door that believes what a header says; how staff sign on is tested where they do."""

    async def person_of(self, request: Request) -> Person | None:
        subject, *roles = request.headers["x-person"].split()
        return Person(subject, subject, frozenset(map(Role, roles)))


@dataclass
class Staff:
    """Members of staff who ask a config."""

    config: Config

    def client(self, subject: str, *roles: Role) -> httpx2.AsyncClient:
        transport = httpx2.ASGITransport(self.config.app, raise_app_exceptions=False)
        return httpx2.AsyncClient(
            transport=transport,
            base_url="https://config.test",
            headers={"x-person": " ".join((subject, *roles)), **OUR_PAGE},
        )

    @property
    def sam(self) -> httpx2.AsyncClient:
        return self.client("sam", Role.SUPPORT)

    @property
    def dana(self) -> httpx2.AsyncClient:
        return self.client("dana", Role.DEVELOPER)

    @property
    def pat(self) -> httpx2.AsyncClient:
        return self.client("pat", Role.PRIVACY)

    async def audit(self, tenant_id: UUID) -> list[dict[str, Any]]:
        """What the audit has of a tenant."""
        rows = await self.config.worker.fetch(
            "SELECT subject, act, about FROM audit_entries WHERE about ->> 'tenant_id' = $1"
            " ORDER BY number",
            str(tenant_id),
        )
        return [dict(row) for row in rows]

    async def said(self, tenant_id: UUID) -> list[tuple[str, dict[str, Any]]]:
        """What was said of a tenant's grants and looks."""
        rows = await self.config.runtime.fetch(
            "SELECT type, payload FROM outbox WHERE tenant_id = $1 AND topic = 'config.accesses.v1'"
            " ORDER BY position",
            tenant_id,
        )
        return [(row["type"].split(".")[1], json.loads(row["payload"])) for row in rows]

    async def looks(self, tenant_id: UUID) -> list[dict[str, Any]]:
        rows = await self.config.eraser.fetch(
            "SELECT kind, name, thing_id FROM looks WHERE tenant_id = $1 ORDER BY look_id",
            tenant_id,
        )
        return [dict(row) for row in rows]


@pytest.fixture(scope="module")
async def config(
    config_roles: Roles, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Config]:
    """One for all of these: tests have tenants of their own, and move the clock onwards alone."""
    async with config_of(config_roles, tmp_path_factory.mktemp("grants")) as opened:
        door = Believing("config", "https://config.test", None)
        let_staff_in(opened.fastapi, door, opened.service.staff_routers)
        today = opened.clock.wall().date()
        await opened.worker.execute("SELECT audit_make_partitions($1::date, 2)", today)
        yield opened


@pytest.fixture(scope="module")
async def staff(config: Config) -> Staff:
    return Staff(config)


@dataclass(frozen=True)
class Customer:
    """A tenant with a datasource and a query."""

    tenant_id: UUID
    datasource: str
    query: str

    @property
    def path(self) -> str:
        return f"/staff/tenants/{self.tenant_id}"

    @property
    def query_path(self) -> str:
        return f"{self.path}/queries/{self.query}"


async def a_customer(config: Config) -> Customer:
    tenant_id = await config.tenant()
    source = await config.create(tenant_id, "datasources", a_datasource())
    query = await config.create(tenant_id, "queries", a_query(source["id"]))
    return Customer(tenant_id, source["id"], query["id"])


async def ask(client: httpx2.AsyncClient, tenant_id: UUID, **told: str) -> httpx2.Response:
    form = {"tenant": str(tenant_id), "category": "question", "ticket": "SUP-7", "minutes": "30"}
    return await client.post("/staff/grants", data=form | told)


async def break_glass(client: httpx2.AsyncClient, tenant_id: UUID) -> None:
    words = {"ticket": "", "told": "the site is down", "glass": "yes", "category": "security"}
    answer = await ask(client, tenant_id, **words)
    assert answer.status_code == 303


async def longest_grant(config: Config, tenant_id: UUID) -> UUID:
    found: UUID = await config.worker.fetchval(
        "SELECT grant_id FROM access_grants WHERE tenant_id = $1 ORDER BY expires_at DESC LIMIT 1",
        tenant_id,
    )
    return found


# -- what opens ------------------------------------------------------------------------------


async def test_a_query_is_read_under_a_grant_and_that_leaves_its_three_traces(
    config: Config, staff: Staff
) -> None:
    acme = await a_customer(config)
    asked = await ask(staff.sam, acme.tenant_id, told="they see no rows")
    assert asked.status_code == 303
    assert asked.headers["location"] == f"tenants/{acme.tenant_id}"
    kinds = await staff.sam.get(acme.path)
    assert kinds.status_code == 200
    # Until something is opened nothing of the tenant's is read.
    assert "Sales of a region" not in kinds.text
    assert await staff.looks(acme.tenant_id) == []

    listed = await staff.sam.get(f"{acme.path}/queries")
    assert "Sales of a region" in listed.text
    shown = await staff.sam.get(acme.query_path)
    assert shown.status_code == 200
    assert "SELECT month, sum FROM sales WHERE region = :region" in shown.text
    assert "The customer sees that you look." in shown.text
    assert shown.headers["cache-control"] == "no-store"

    # Both are of one moment of a clock that stands still.
    seen = sorted(
        await staff.looks(acme.tenant_id), key=lambda look: str(look["thing_id"]), reverse=True
    )
    assert seen == [
        {"kind": "query", "name": None, "thing_id": None},
        {"kind": "query", "name": "Sales of a region", "thing_id": UUID(acme.query)},
    ]
    granted, *looks = await staff.audit(acme.tenant_id)
    assert (granted["subject"], granted["act"]) == ("sam", "access-granted")
    assert [each["act"] for each in looks] == ["customer-data-accessed"] * 2
    assert looks[1]["about"]["thing_id"] == acme.query
    (first, grant), *others = await staff.said(acme.tenant_id)
    assert first == "access-granted"
    assert [name for name, _ in others] == ["customer-data-accessed"] * 2
    assert {body["grant_id"] for _, body in others} == {grant["grant_id"]}
    assert others[1][1]["thing_id"] == acme.query
    async with config.worker.acquire() as connection:
        await audit.verify(connection)


async def test_neither_bus_nor_audit_names_anybody_or_says_why_in_words(
    config: Config, staff: Staff
) -> None:
    acme = await a_customer(config)
    await ask(staff.sam, acme.tenant_id, ticket="SUP-4711", told="they see no rows")
    await staff.sam.get(acme.query_path)
    said = await staff.said(acme.tenant_id)
    for words in ("sam", "SUP-4711", "no rows", "Sales"):
        assert words not in json.dumps(said)
    entries = json.dumps([each["about"] for each in await staff.audit(acme.tenant_id)])
    for words in ("SUP-4711", "no rows", "Sales"):
        assert words not in entries
    [(_, first)] = [each for each in said if each[0] == "access-granted"]
    [kept] = await config.worker.fetch(
        "SELECT reason_hash FROM access_grants WHERE tenant_id = $1", acme.tenant_id
    )
    assert first["reason_hash"] == kept["reason_hash"].hex()
    await ask(staff.sam, acme.tenant_id)
    pseudonyms = {
        body["staff"] for name, body in await staff.said(acme.tenant_id) if name == "access-granted"
    }
    assert len(pseudonyms) == 1


async def test_of_a_datasource_no_secret_is_shown(config: Config, staff: Staff) -> None:
    acme = await a_customer(config)
    await ask(staff.dana, acme.tenant_id, category="fault")
    shown = await staff.dana.get(f"{acme.path}/datasources/{acme.datasource}")
    assert "postgresql://db.customer.test/sales" in shown.text
    assert "sealed: nobody is shown it" in shown.text
    assert "correct-horse-battery" not in shown.text


# -- what does not ----------------------------------------------------------------------------


async def test_without_a_grant_of_ones_own_for_this_tenant_nothing_opens(
    config: Config, staff: Staff
) -> None:
    acme, other = await a_customer(config), await a_customer(config)
    await ask(staff.dana, acme.tenant_id)
    await ask(staff.sam, other.tenant_id)
    for path in (acme.path, f"{acme.path}/queries", acme.query_path):
        refused = await staff.sam.get(path)
        assert refused.status_code == 403
        assert f"staff/grants?tenant={acme.tenant_id}" in refused.text
        assert "Sales" not in refused.text
    # Under the grant for another tenant this tenant's things are not there.
    crossed = await staff.sam.get(f"{other.path}/queries/{acme.query}")
    assert crossed.status_code == 404
    assert "Sales" not in crossed.text
    assert await staff.looks(acme.tenant_id) == []
    assert await staff.looks(other.tenant_id) == []
    tried = [each for each in await staff.audit(acme.tenant_id) if each["subject"] == "sam"]
    assert [each["act"] for each in tried] == ["customer-data-refused"] * 3


@pytest.mark.parametrize("subject", ["sam", "pat"])
async def test_a_revoked_grant_opens_nothing_whoever_revoked_it(
    config: Config, staff: Staff, subject: str
) -> None:
    acme = await a_customer(config)
    await ask(staff.sam, acme.tenant_id)
    grant_id = await longest_grant(config, acme.tenant_id)
    path = f"/staff/grants/{grant_id}/revocations"
    assert (await staff.dana.post(path)).status_code == 404
    who = staff.sam if subject == "sam" else staff.pat
    assert (await who.post(path)).status_code == 303
    assert (await who.post(path)).status_code == 409
    refused = await staff.sam.get(acme.query_path)
    assert refused.status_code == 403
    assert "was revoked" in refused.text
    name, body = (await staff.said(acme.tenant_id))[-1]
    assert name == "access-revoked"
    assert body["by_holder"] is (subject == "sam")


async def test_a_grant_ends_by_itself_and_is_renewed_openly(config: Config, staff: Staff) -> None:
    acme = await a_customer(config)
    await ask(staff.sam, acme.tenant_id)
    first = await longest_grant(config, acme.tenant_id)
    config.clock.advance(HALF_AN_HOUR - timedelta(seconds=1))
    assert (await staff.sam.get(acme.query_path)).status_code == 200
    config.clock.advance(timedelta(seconds=1))
    over = await staff.sam.get(acme.query_path)
    assert over.status_code == 403
    assert "is over" in over.text

    form = (await staff.sam.get(f"/staff/grants?renews={first}")).text
    assert f'value="{acme.tenant_id}"' in form
    assert f'name="renews" value="{first}"' in form
    assert 'value="SUP-7"' in form
    # What somebody else was granted fills in nothing, and goes on as nobody's.
    assert 'value="SUP-7"' not in (await staff.dana.get(f"/staff/grants?renews={first}")).text
    await ask(staff.dana, acme.tenant_id, renews=str(first))
    await ask(staff.sam, acme.tenant_id, renews=str(first))
    assert (await staff.sam.get(acme.query_path)).status_code == 200
    renewed = [
        body["renews"]
        for name, body in await staff.said(acme.tenant_id)
        if name.endswith("ed") and "renews" in body
    ]
    assert renewed == [None, None, str(first)]
    assert "Goes on from an earlier grant." in (await staff.pat.get("/staff/grants")).text


async def test_a_grant_that_is_revoked_hides_no_other(config: Config, staff: Staff) -> None:
    acme = await a_customer(config)
    await ask(staff.sam, acme.tenant_id, minutes="15")
    await ask(staff.sam, acme.tenant_id, minutes="60")
    longest = await longest_grant(config, acme.tenant_id)
    await staff.sam.post(f"/staff/grants/{longest}/revocations")
    assert (await staff.sam.get(acme.query_path)).status_code == 200


async def test_who_has_no_role_for_it_reads_nothing_whatever_they_hold(
    config: Config, staff: Staff
) -> None:
    acme = await a_customer(config)
    await ask(staff.sam, acme.tenant_id)
    for role in (Role.PRIVACY, Role.MARKETING, Role.OPERATOR):
        former = staff.client("sam", role)
        assert (await former.get(acme.query_path)).status_code == 403
    assert (await ask(staff.pat, acme.tenant_id)).status_code == 403
    assert await staff.looks(acme.tenant_id) == []


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"content": ClassState.PURGING}, 410),
        ({"content": ClassState.ERASED}, 410),
        ({"status": TenantStatus.UNINSTALLED}, 403),
        ({"platform": Platform.DATACENTER}, 403),
    ],
)
async def test_a_grant_does_not_outlive_what_it_opens(
    config: Config, staff: Staff, change: dict[str, Any], status: int
) -> None:
    acme = await a_customer(config)
    await ask(staff.sam, acme.tenant_id)
    living = Tenant(acme.tenant_id, TenantStatus.INSTALLED, Platform.CONNECT, ClassState.LIVE)
    await config.know(replace(living, **change))
    refused = await staff.sam.get(acme.query_path)
    assert refused.status_code == status
    assert "Sales" not in refused.text
    assert (await ask(staff.sam, acme.tenant_id)).status_code == status
    assert await staff.looks(acme.tenant_id) == []


async def test_a_purge_takes_the_words_and_the_looks_and_leaves_a_hash_that_tells_nothing(
    config: Config, staff: Staff
) -> None:
    acme = await a_customer(config)
    await ask(staff.sam, acme.tenant_id, told="they see no rows")
    await staff.sam.get(acme.query_path)
    before = await staff.audit(acme.tenant_id)
    await config.order_erasure(acme.tenant_id)
    assert (await staff.sam.get(acme.query_path)).status_code == 410
    while await config.erase():
        pass
    assert await staff.looks(acme.tenant_id) == []
    left = await config.eraser.fetchval(
        "SELECT count(*) FROM access_reasons WHERE tenant_id = $1", acme.tenant_id
    )
    assert left == 0
    listed = (await staff.pat.get("/staff/grants")).text
    assert str(acme.tenant_id) in listed
    assert "erased with the tenant" in listed
    assert (await staff.audit(acme.tenant_id))[: len(before)] == before
    async with config.worker.acquire() as connection:
        await audit.verify(connection)


async def test_where_the_audit_cannot_be_written_nothing_is_read_and_nothing_is_kept(
    config: Config, staff: Staff
) -> None:
    acme = await a_customer(config)
    await ask(staff.sam, acme.tenant_id)
    said = await staff.said(acme.tenant_id)
    owner = await asyncpg.connect(config.roles.owner_url)
    try:
        await owner.execute("REVOKE INSERT ON audit_entries FROM config_runtime")
        with capture_logs():
            for path in (f"{acme.path}/queries", acme.query_path):
                failed = await staff.sam.get(path)
                assert failed.status_code == 500
                assert "Sales" not in failed.text
            assert (await ask(staff.sam, acme.tenant_id)).status_code == 500
    finally:
        await owner.execute("GRANT INSERT ON audit_entries TO config_runtime")
        await owner.close()
    assert await staff.looks(acme.tenant_id) == []
    assert await staff.said(acme.tenant_id) == said
    assert (await staff.sam.get(acme.query_path)).status_code == 200


async def test_a_revocation_waits_for_the_look_that_is_under_way_and_the_next_one_is_refused(
    config: Config, staff: Staff
) -> None:
    acme = await a_customer(config)
    await ask(staff.sam, acme.tenant_id)
    grant_id = await longest_grant(config, acme.tenant_id)
    async with config.units.begin() as uow:
        grant = await store.best_of(uow.connection, acme.tenant_id, "sam")
        assert grant is not None
        revoking = asyncio.create_task(staff.sam.post(f"/staff/grants/{grant_id}/revocations"))
        async with asyncio.timeout(10):
            while not await config.worker.fetchval(
                "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"
            ):
                await asyncio.sleep(0)
        assert not revoking.done()
    assert (await revoking).status_code == 303
    assert (await staff.sam.get(acme.query_path)).status_code == 403


# -- asking ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"ticket": ""},
        {"ticket": "nonsense"},
        {"category": "curiosity"},
        {"minutes": "61"},
        {"minutes": "600"},
        {"tenant": "acme"},
        {"glass": "yes"},
        {"glass": "yes", "ticket": "", "told": "  "},
    ],
)
async def test_what_is_no_reason_grants_nothing_and_what_was_typed_is_still_there(
    config: Config, staff: Staff, wrong: dict[str, str]
) -> None:
    acme = await a_customer(config)
    refused = await ask(staff.sam, acme.tenant_id, **({"told": "<b>my words</b>"} | wrong))
    assert refused.status_code == 422
    assert 'role="alert"' in refused.text
    assert "<b>" not in refused.text
    if "told" not in wrong:
        assert "my words" in refused.text
    assert await staff.said(acme.tenant_id) == []


async def test_no_grant_is_given_for_a_tenant_that_nobody_heard_of(
    config: Config, staff: Staff
) -> None:
    stranger = uuid4()
    assert (await ask(staff.sam, stranger)).status_code == 503
    assert await staff.said(stranger) == []


async def test_the_database_itself_refuses_more_than_an_hour_and_ones_own_review(
    config: Config, staff: Staff
) -> None:
    acme = await a_customer(config)
    await break_glass(staff.sam, acme.tenant_id)
    for change in (
        "expires_at = granted_at + interval '61 minutes'",
        "reviewed_by = subject, reviewed_at = granted_at, justified = true",
        "reviewed_at = granted_at",
        "revoked_at = granted_at",
    ):
        with pytest.raises(asyncpg.CheckViolationError):
            await config.runtime.execute(
                f"UPDATE access_grants SET {change} WHERE tenant_id = $1",
                acme.tenant_id,
            )


async def test_one_sees_ones_own_grants_and_privacy_sees_all(config: Config, staff: Staff) -> None:
    acme = await a_customer(config)
    await ask(staff.sam, acme.tenant_id, told="words of sam")
    assert "words of sam" in (await staff.sam.get("/staff/grants")).text
    assert "words of sam" not in (await staff.dana.get("/staff/grants")).text
    all_of_them = (await staff.pat.get("/staff/grants")).text
    assert "words of sam" in all_of_them
    assert "sam, support" in all_of_them
    assert 'action="grants"' not in all_of_them


# -- breaking the glass ------------------------------------------------------------------------


async def waiting_of(config: Config) -> tuple[float, float]:
    running: Running[Context] = config.fastapi.state.running
    registry = CollectorRegistry()
    await WatchingGrants(registry).job(running).run()
    number, seconds = (
        registry.get_sample_value(f"keepword_glass_unreviewed{each}") for each in ("", "_seconds")
    )
    assert number is not None
    assert seconds is not None
    return number, seconds


async def test_a_broken_glass_opens_at_once_alarms_and_is_reviewed_by_somebody_else(
    config: Config, staff: Staff
) -> None:
    acme = await a_customer(config)
    number, _ = await waiting_of(config)
    both = staff.client("quinn", Role.SUPPORT, Role.PRIVACY)
    await break_glass(both, acme.tenant_id)
    grant_id = await longest_grant(config, acme.tenant_id)
    assert (await both.get(acme.query_path)).status_code == 200
    [(_, said), *_rest] = await staff.said(acme.tenant_id)
    assert said["break_glass"] is True
    config.clock.advance(timedelta(hours=2))
    after, seconds = await waiting_of(config)
    assert after == number + 1
    assert seconds >= 7200

    reviews = (await staff.pat.get("/staff/grants/reviews")).text
    assert "quinn, support" in reviews
    assert "the site is down" in reviews
    assert "query: 1" in reviews
    assert "Sales" not in reviews
    assert "another privacy officer reviews it" in (await both.get("/staff/grants/reviews")).text
    path = f"/staff/grants/{grant_id}/reviews"
    verdict = {"verdict": "justified"}
    assert (await staff.sam.post(path, data=verdict)).status_code == 403
    assert (await both.post(path, data=verdict)).status_code == 409
    assert (await staff.pat.post(path, data={"verdict": "maybe"})).status_code == 422
    assert (await staff.pat.post(path, data=verdict)).status_code == 303
    assert (await staff.client("priya", Role.PRIVACY).post(path, data=verdict)).status_code == 409
    assert str(grant_id) not in (await staff.pat.get("/staff/grants/reviews")).text
    assert (await waiting_of(config))[0] == number
    last = (await staff.audit(acme.tenant_id))[-1]
    assert (last["subject"], last["act"]) == ("pat", "access-reviewed")
    assert last["about"]["verdict"] == "justified"


async def test_what_had_a_ticket_is_not_reviewed(config: Config, staff: Staff) -> None:
    acme = await a_customer(config)
    await ask(staff.sam, acme.tenant_id)
    grant_id = await longest_grant(config, acme.tenant_id)
    answer = await staff.pat.post(
        f"/staff/grants/{grant_id}/reviews", data={"verdict": "justified"}
    )
    assert answer.status_code == 404


# -- forgetting ---------------------------------------------------------------------------------


async def test_looks_are_forgotten_after_a_year_and_grants_with_the_audit(
    config: Config, staff: Staff
) -> None:
    acme = await a_customer(config)
    await ask(staff.sam, acme.tenant_id)
    await staff.sam.get(acme.query_path)

    async def kept() -> list[int]:
        await Forgetting(config.clock, config.worker).run()
        return [
            await config.worker.fetchval(
                f"SELECT count(*) FROM {table} WHERE tenant_id = $1",
                acme.tenant_id,
            )
            for table in ("looks", "access_reasons", "access_grants")
        ]

    config.clock.advance(LOOKS_KEPT)
    assert await kept() == [1, 1, 1]
    config.clock.advance(timedelta(seconds=1))
    assert await kept() == [0, 1, 1]
    config.clock.advance(audit.KEPT - LOOKS_KEPT)
    assert await kept() == [0, 0, 0]
