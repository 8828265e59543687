"""The door of error reports, as a browser meets it, and what is on the disk afterwards."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest

from chassis.service import build_app, edge_of
from contracts.classes import DataClass
from contracts.tenants import ClassState, Platform, TenantStatus
from services.config import error_tokens as tokens
from services.config.app import build
from services.config.domain.error_reports import agent_of, report_of
from services.config.error_intake import Intake, Verdict
from services.config.routes.errors import ENVELOPES, TOKENS
from services.config.store import errors as store
from services.config.store.errors import FIRST_OF_A_WEEK, forget_old, make_weeks
from tests.config.builders import Config, keys_file, settings_for
from tests.config.errors.events import CHROME, PERSON, an_envelope, an_event
from tests.config.errors.tenants import APP, a_tenant, a_token, all_rows, rows
from tests.support.chassis import suppressed

HEADERS = {"content-type": "text/plain;charset=UTF-8", "user-agent": CHROME}


async def report(
    config: Config, tenant_id: UUID, event: dict[str, Any] | None = None, **header: Any
) -> httpx2.Response:
    body = an_envelope(event, token=a_token(config, tenant_id), **header)
    async with config.client() as client:
        return await client.post(ENVELOPES, content=body, headers=HEADERS)


@asynccontextmanager
async def with_settings(config: Config, tmp_path: Any, **settings: Any) -> AsyncIterator[Config]:
    """The same config with a door of its own, whose buckets are full."""
    service = build(settings_for(config.roles, keys_file(tmp_path), **settings))
    doors = asyncio.Event()
    doors.set()
    app = build_app(service, doors)
    app.state.running = config.fastapi.state.running
    edge = edge_of(service, app, doors)
    yield Config(**{n: getattr(config, n) for n in Config.__dataclass_fields__} | {"app": edge})


async def test_a_page_gets_a_token_and_what_it_reports_is_on_the_disk_scrubbed(
    config: Config,
) -> None:
    tenant_id = await a_tenant(config)
    async with config.client(tenant_id) as client:
        given = await client.post(TOKENS)
    assert (given.status_code, given.json()["expires_in_seconds"]) == (201, 86_400)
    token = given.json()["token"]
    # As the SDK's pattern of a DSN wants its public key.
    assert token.isalnum()

    event = an_event()
    async with config.client() as client:
        answer = await client.post(
            ENVELOPES, content=an_envelope(event, token=token), headers=HEADERS
        )
    assert (answer.status_code, answer.json()) == (200, {"id": event["event_id"]})
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "session" in answer.headers["x-sentry-rate-limits"]

    (group,) = await rows(config, "error_groups", tenant_id)
    assert (group["app"], group["type"], group["reports"]) == (APP, "TypeError", 1)
    assert group["culprit"] == "render in /js/main.4f9d1c2e.js"
    assert group["first_seen_at"] == group["last_seen_at"] == config.clock.now()
    (count,) = await rows(config, "error_counts", tenant_id)
    assert (count["release"], count["browser"], count["browser_major"], count["os"]) == (
        "reports@2.4.1",
        "Chrome",
        141,
        "Linux",
    )
    (kept,) = await rows(config, "error_events", tenant_id)
    assert kept["event_id"] == UUID(event["event_id"])
    assert json.loads(json.dumps(kept["thrown"]))[0]["frames"][0][0] == "load"
    everything = repr([group, count, kept])
    for told in (PERSON, "eve@", "customer", "app.example", "Mozilla", "0f0f", "127.0.0.1"):
        assert told not in everything


async def test_a_browser_is_the_same_for_a_day_and_another_one_the_next(config: Config) -> None:
    tenant_id = await a_tenant(config)
    tracked = []
    for _ in range(2):
        for _ in range(2):
            await report(config, tenant_id)
        tracked.append({row["tracking"] for row in await rows(config, "error_events", tenant_id)})
        config.clock.advance(timedelta(days=1))
    assert [len(each) for each in tracked] == [1, 2]
    await report(config, tenant_id, an_event(user={"id": "another"}))
    assert len({row["tracking"] for row in await rows(config, "error_events", tenant_id)}) == 3


async def test_the_first_of_a_week_are_stored_and_all_are_counted(config: Config) -> None:
    tenant_id, other = await a_tenant(config), await a_tenant(config)
    for _ in range(2):
        answers = await asyncio.gather(
            *(report(config, tenant_id) for _ in range(FIRST_OF_A_WEEK + 3))
        )
        assert {answer.status_code for answer in answers} == {200}
    await report(config, other)
    (group,) = await rows(config, "error_groups", tenant_id)
    assert group["reports"] == 2 * (FIRST_OF_A_WEEK + 3)
    assert len(await rows(config, "error_events", tenant_id)) == FIRST_OF_A_WEEK
    assert len(await rows(config, "error_events", other)) == 1

    config.clock.advance(timedelta(days=7))
    await report(config, tenant_id, an_event(release="reports@3.0"))
    assert len(await rows(config, "error_events", tenant_id)) == FIRST_OF_A_WEEK + 1
    counts = await rows(config, "error_counts", tenant_id)
    assert sorted((row["release"], row["reports"]) for row in counts) == [
        ("reports@2.4.1", 2 * (FIRST_OF_A_WEEK + 3)),
        ("reports@3.0", 1),
    ]


async def test_the_envelopes_own_id_is_answered_and_stored(config: Config) -> None:
    tenant_id = await a_tenant(config)
    wins = uuid4()
    answer = await report(config, tenant_id, event_id=wins.hex)
    assert answer.json() == {"id": wins.hex}
    (kept,) = await rows(config, "error_events", tenant_id)
    assert kept["event_id"] == wins


async def test_an_envelope_without_an_error_is_answered_and_leaves_nothing(config: Config) -> None:
    tenant_id = await a_tenant(config)
    header = {"dsn": f"https://{a_token(config, tenant_id)}@x.example/1"}
    body = json.dumps(header).encode() + b'\n{"type":"session"}\n{"ip_address":"{{auto}}"}'
    async with config.client() as client:
        answer = await client.post(ENVELOPES, content=body, headers=HEADERS)
    assert (answer.status_code, answer.json()) == (200, {"id": ""})
    assert await all_rows(config, tenant_id) == []


# -- what is refused ---------------------------------------------------------------------------


async def test_who_has_no_good_token_is_refused(config: Config) -> None:
    tenant_id = await a_tenant(config)
    good = a_token(config, tenant_id)
    other_tenant = uuid4().bytes.hex() + good[32:]
    later = good[:41] + ("0" if good[41] != "0" else "1") + good[42:]
    session = config.installer.token(tenant_id, config.clock.wall())
    dsns = [
        None,
        7,
        "",
        "https://config.example/1",
        "https://[/1",
        f"https://{session}@x.example/1",
    ]
    dsns += [
        f"https://{token}@x.example/1"
        for token in ("0" * 74, good[:-1], good[:-2] + "zz", other_tenant, later, f"{good}00")
    ]
    async with config.client() as client:
        for dsn in dsns:
            body = an_envelope(dsn=dsn)
            answer = await client.post(ENVELOPES, content=body, headers=HEADERS)
            assert answer.status_code == 403, dsn
            assert answer.headers["access-control-allow-origin"] == "*"
        config.clock.advance(tokens.LIFETIME)
        over = await client.post(ENVELOPES, content=an_envelope(token=good), headers=HEADERS)
    assert over.status_code == 403
    assert await all_rows(config, tenant_id) == []


async def test_garbage_and_what_is_too_large_are_refused_and_any_page_can_read_why(
    config: Config,
) -> None:
    tenant_id = await a_tenant(config)
    head = json.dumps({"dsn": f"https://{a_token(config, tenant_id)}@x.example/1"}).encode()
    bodies = [
        (b"", 400),
        (b"\xff\x00", 400),
        (b"[]\n", 400),
        (head + b'\n{"type":"event"}\nnothing', 400),
        (head + b'\n{"type":"event","length":9}\n{}', 400),
        (head + b'\n{"type":"event"}\n{"a":' + b"[" * 99 + b"]" * 99 + b"}", 400),
        (head + b'\n{"type":"event"}\n{"a":"' + b"x" * 300_000 + b'"}', 413),
        (b"x" * 10_000_000, 413),
        (b'{"a":"' + b"x" * 9_000 + b'"}', 413),
    ]
    async with config.client() as client:
        for body, status in bodies:
            answer = await client.post(ENVELOPES, content=body, headers=HEADERS)
            assert answer.status_code == status, body[:60]
            assert answer.headers["access-control-allow-origin"] == "*"
            assert "Retry-After" in answer.headers["access-control-expose-headers"]

        async def endless() -> AsyncIterator[bytes]:
            for _ in range(300):
                yield b"x" * 1_000

        unsaid = await client.post(ENVELOPES, content=endless(), headers=HEADERS)
        zipped = await client.post(
            ENVELOPES, content=b"\x1f\x8b", headers=HEADERS | {"content-encoding": "gzip"}
        )
        wrong = await client.get(ENVELOPES)
    assert (unsaid.status_code, zipped.status_code, wrong.status_code) == (413, 415, 405)
    assert await all_rows(config, tenant_id) == []


async def test_odd_texts_are_stored_as_what_can_be_stored(config: Config) -> None:
    tenant_id = await a_tenant(config)
    values = [{"type": "E\x00\ud800", "value": "\u202egnol \U0001f99c \x00"}]
    event = an_event(exception={"values": values}, release="\udfff")
    assert (await report(config, tenant_id, event)).status_code == 200
    (group,) = await rows(config, "error_groups", tenant_id)
    assert (group["type"], group["message"]) == ("E", "gnol \U0001f99c")


async def test_a_tenant_that_is_being_erased_gets_410_and_nothing_is_stored(
    config: Config,
) -> None:
    tenant_id = await a_tenant(config)
    token = a_token(config, tenant_id)
    assert (await report(config, tenant_id)).status_code == 200
    await config.order_erasure(tenant_id)
    async with config.client() as client:
        answer = await client.post(ENVELOPES, content=an_envelope(token=token), headers=HEADERS)
    assert answer.status_code == 410
    assert answer.headers["access-control-allow-origin"] == "*"
    assert len(await rows(config, "error_events", tenant_id)) == 1
    async with config.client(tenant_id) as client:
        assert (await client.post(TOKENS)).status_code == 410
    await config.erase()
    assert await all_rows(config, tenant_id) == []


@pytest.mark.parametrize(
    ("known", "status"),
    [
        ({"status": TenantStatus.UNINSTALLED}, 403),
        ({"platform": Platform.FORGE}, 403),
        ({"content": ClassState.PURGING}, 410),
    ],
)
async def test_who_is_not_served_is_refused_in_a_batch_with_others(
    config: Config, known: dict[str, Any], status: int
) -> None:
    served, not_served = await a_tenant(config), await a_tenant(config, **known)
    answers = await asyncio.gather(*(report(config, each) for each in (not_served, served) * 2))
    assert [answer.status_code for answer in answers] == [status, 200] * 2
    assert await all_rows(config, not_served) == []
    assert len(await rows(config, "error_events", served)) == 2
    async with config.client(not_served) as client:
        assert (await client.post(TOKENS)).status_code == status


async def test_a_tenant_that_was_never_heard_of_makes_no_state(config: Config) -> None:
    stranger = uuid4()
    assert (await report(config, stranger)).status_code == 403
    assert await all_rows(config, stranger) == []
    async with config.client(stranger) as client:
        assert (await client.post(TOKENS)).status_code == 503
    async with config.client() as client:
        assert (await client.post(TOKENS)).status_code == 401


async def test_too_many_from_one_tenant_or_one_address_are_told_when_to_come_again(
    config: Config, tmp_path: Any
) -> None:
    one, other = await a_tenant(config), await a_tenant(config)
    async with with_settings(config, tmp_path, error_reports_per_tenant=2) as limited:
        statuses = [(await report(limited, one)).status_code for _ in range(3)]
        assert statuses == [200, 200, 429]
        assert (await report(limited, other)).status_code == 200
    async with with_settings(
        config, tmp_path, error_reports_per_address=2, client_address_header="x-forwarded-for"
    ) as limited:
        body = an_envelope(token=a_token(config, one))
        async with limited.client() as client:

            async def come_from(told: str) -> httpx2.Response:
                headers = HEADERS | {"x-forwarded-for": told}
                return await client.post(ENVELOPES, content=body, headers=headers)

            # All of a /64 are one, and what stands before the proxy's own word is not believed.
            answers = [
                await come_from(told)
                for told in ("2001:db8::1", "192.0.2.1, 2001:db8::2", "2001:db8::3", "192.0.2.1")
            ]
    assert [answer.status_code for answer in answers] == [200, 200, 429, 200]
    refused = answers[2]
    wait = int(refused.headers["retry-after"])
    assert 0 < wait <= 151
    assert refused.headers["x-sentry-rate-limits"] == f"{wait}:error:key:quota"
    assert refused.headers["access-control-allow-origin"] == "*"


# -- writing together --------------------------------------------------------------------------


def a_report(config: Config) -> Any:
    return report_of(
        an_event(),
        event_id=None,
        agent=agent_of(CHROME),
        received_at=config.clock.now(),
        anonymise=str.encode,
    )


async def test_what_comes_meanwhile_is_written_together(config: Config) -> None:
    tenant_id = await a_tenant(config)
    intake = Intake()
    verdicts = await asyncio.gather(
        *(intake.take(config.units, tenant_id, a_report(config)) for _ in range(300))
    )
    assert set(verdicts) == {Verdict.STORED}
    transactions = await config.eraser.fetchval(
        "SELECT count(DISTINCT xmin::text) FROM error_events WHERE tenant_id = $1", tenant_id
    )
    (group,) = await rows(config, "error_groups", tenant_id)
    assert (transactions, group["reports"]) == (1, 300)


async def test_where_too_many_wait_the_next_is_sent_away_at_once(config: Config) -> None:
    tenant_id = await a_tenant(config)
    intake = Intake(most_waiting=3)
    verdicts = await asyncio.gather(
        *(intake.take(config.units, tenant_id, a_report(config)) for _ in range(5))
    )
    assert verdicts == [Verdict.STORED] * 3 + [Verdict.AWAY] * 2
    (group,) = await rows(config, "error_groups", tenant_id)
    assert group["reports"] == 3


async def test_nobody_is_answered_before_the_commit_and_while_the_database_is_away_it_is_said(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant_id = await a_tenant(config)

    async def away(*_: Any, **__: Any) -> None:
        raise ConnectionResetError

    with monkeypatch.context() as patched:
        patched.setattr(store, "add_reports", away)
        refused = await report(config, tenant_id)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    assert await all_rows(config, tenant_id) == []

    # Whoever erases holds the lock, and the answer waits for the one who has it.
    async with config.units.begin() as uow:
        await uow.lock_tenant_exclusively(tenant_id)
        waiting = asyncio.create_task(report(config, tenant_id))
        async with asyncio.timeout(10):
            while not await config.worker.fetchval(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            ):
                await asyncio.sleep(0.01)
        assert not waiting.done()
    assert (await waiting).status_code == 200


async def test_one_that_cannot_be_written_takes_no_other_with_it(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = await a_tenant(config), await a_tenant(config)
    write = store.add_reports

    async def refuse_one(connection: Any, reports: Any, **others: Any) -> None:
        if any(taken.tenant_id == bad for taken in reports):
            raise ValueError
        await write(connection, reports, **others)

    monkeypatch.setattr(store, "add_reports", refuse_one)
    answers = await asyncio.gather(*(report(config, each) for each in (good, bad, good)))
    assert [answer.status_code for answer in answers] == [200, 500, 200]
    assert await all_rows(config, bad) == []
    (group,) = await rows(config, "error_groups", good)
    assert group["reports"] == 2


# -- what is kept, and for how long ------------------------------------------------------------


async def parts(config: Config) -> set[str]:
    found = await config.worker.fetch(
        """
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
         WHERE i.inhparent = 'error_events'::regclass
        """
    )
    return {row["relname"] for row in found}


async def test_after_90_days_nothing_is_left_of_a_report(config: Config) -> None:
    config.clock.advance(timedelta(days=400))
    tenant_id = await a_tenant(config)
    today = config.clock.now().date()
    await make_weeks(config.worker, today=today)
    await make_weeks(config.worker, today=today)
    week = f"error_events_{store.monday_of(today):%Y%m%d}"
    assert week in await parts(config)
    await report(config, tenant_id)
    # Nobody made a partition for these.
    config.clock.advance(timedelta(days=60))
    await report(config, tenant_id, an_event(message="later", exception=None))
    for days, left in ((23, 2), (7, 1), (52, 1), (8, 0)):
        config.clock.advance(timedelta(days=days))
        await forget_old(config.worker, now=config.clock.now())
        assert len(await rows(config, "error_groups", tenant_id)) == left, days
        assert len(await rows(config, "error_events", tenant_id)) <= left
    assert await all_rows(config, tenant_id) == []
    assert week not in await parts(config)
    assert len(await all_rows(config, UUID(int=0))) == 3


async def test_erasing_a_tenant_leaves_its_neighbour_in_the_other_partitions(
    config: Config,
) -> None:
    config.clock.advance(timedelta(days=900))
    leaving, staying = await a_tenant(config), await a_tenant(config)
    # At the same places of their partitions, each in a week of its own.
    for tenant_id in (leaving, staying):
        await make_weeks(config.worker, today=config.clock.now().date())
        for n in range(3):
            await report(config, tenant_id, an_event(release=f"r{n}"))
        config.clock.advance(timedelta(days=7))
    before = await all_rows(config, staying)
    assert len(before) == 1 + 3 + 3
    order = await config.order_erasure(leaving)
    await config.erase()
    assert await all_rows(config, leaving) == await rows(config, "error_apps", leaving) == []
    assert await all_rows(config, staying) == before
    counted = await config.worker.fetchval(
        "SELECT counts FROM erasures WHERE purge_id = $1", order.purge_id
    )
    assert counted[DataClass.ERRORS] == 7


async def test_a_role_sees_no_more_than_it_needs(config: Config) -> None:
    mine, theirs = await a_tenant(config), await a_tenant(config)
    for tenant_id in (mine, theirs):
        await report(config, tenant_id)
    await make_weeks(config.worker, today=config.clock.now().date())
    for table in ("error_groups", "error_counts", "error_events"):
        assert await config.runtime.fetchval(f"SELECT count(*) FROM {table}") == 0
        async with config.units.begin() as uow:
            await uow.act_for(mine)
            seen = await uow.connection.fetch(f"SELECT DISTINCT tenant_id FROM {table}")
            assert [row["tenant_id"] for row in seen] == [mine]
            gone = await uow.connection.execute(f"DELETE FROM {table} WHERE tenant_id = $1", theirs)
            assert gone == "DELETE 0"
        forced = await config.worker.fetchval(
            "SELECT relrowsecurity AND relforcerowsecurity FROM pg_class WHERE relname = $1", table
        )
        assert forced is True
    for part in await parts(config):
        for pool in (config.runtime, config.worker, config.eraser):
            assert not await pool.fetchval(
                "SELECT has_table_privilege($1, 'SELECT, INSERT, DELETE')", part
            )


async def test_writes_that_the_guard_refuses_are_counted(config: Config) -> None:
    tenant_id = await a_tenant(config)
    await config.order_erasure(tenant_id)
    await report(config, tenant_id)
    assert suppressed(config.units) == {("route", DataClass.ERRORS.value): 1}
