"""Content of a tenant that goes on as another: it moves there, and is erased where it was."""

import asyncio
from datetime import timedelta
from itertools import islice
from typing import Any
from uuid import UUID, uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import TypeAdapter
from structlog.testing import capture_logs

from chassis.ledger import ledger_handlers
from contracts.classes import DataClass
from contracts.ledger import GENESIS, EntryKind, LedgerEntry, UnsealedEntry, seal
from contracts.purges import DataErased, PurgeStarted
from contracts.tenants import ClassState, Platform, TenantStatus
from services.config import moves
from services.config.context import CREDENTIALS, STEP
from services.config.data_map import DATA_MAP
from services.config.domain.access import PATIENCE, Move, Tenant, decide_move
from services.config.domain.definitions import Name
from services.config.domain.kinds import KINDS
from services.config.domain.things import names_with
from services.config.handlers import erase_content
from services.config.moves import MOVED_TABLES, Moves, note_ledger_entry
from services.config.store import moves as store
from tests.config.builders import (
    NOW,
    PATH,
    Config,
    a_converter,
    a_datasource,
    a_query,
    a_template,
)

CLASSES = (DataClass.CONTENT, DataClass.ERRORS)
SHORTLY = timedelta(seconds=1)
ANY = {"if-match": "*"}


def an_order(tenant_id: UUID, merged_into: UUID | None = None) -> PurgeStarted:
    return PurgeStarted(
        purge_id=uuid4(),
        step=STEP,
        wave=1,
        tenant_id=tenant_id,
        owner="config",
        classes=CLASSES,
        ledger_number=7,
        merged_into=merged_into,
    )


async def obey(config: Config, command: PurgeStarted) -> None:
    async with config.units.begin() as uow:
        await erase_content(command, uow)


async def merge(config: Config, tenant_id: UUID, into: UUID) -> PurgeStarted:
    command = an_order(tenant_id, into)
    await obey(config, command)
    return command


async def read_in_the_ledger(config: Config, command: PurgeStarted) -> None:
    """Read the order as the chassis does, acceptance included; the ledger names all classes."""
    last = await config.worker.fetchrow("SELECT applied_number, applied_hash FROM ledger_reader")
    number, previous_hash = last or (0, GENESIS)
    entry = seal(
        UnsealedEntry(
            number=number + 1,
            kind=EntryKind.TENANT_ERASED,
            at=NOW,
            purge_id=command.purge_id,
            tenant_id=command.tenant_id,
            classes=(DataClass.INSTALLATION, *CLASSES, DataClass.TICKETS),
            merged_into=command.merged_into,
            previous_hash=previous_hash,
        ),
        Ed25519PrivateKey.generate(),
        "key",
    )
    assert config.service.erases is not None
    registry = ledger_handlers("config", config.service.erases.steps, note_ledger_entry)
    async with config.units.begin() as uow:
        await registry.by_model[LedgerEntry].function(entry, uow)


def mover(config: Config) -> Moves:
    return Moves(config.units, config.worker)


async def fill(config: Config, tenant_id: UUID, *names: str) -> None:
    async with config.client(tenant_id) as client:
        for name in names:
            body = a_datasource(name=name, credentials=f"password of {name}")
            assert (await client.post(PATH, json=body)).status_code == 201


async def names_of(config: Config, tenant_id: UUID) -> list[str]:
    return sorted(row["name"] for row in await config.rows(tenant_id))


async def password_of(config: Config, row: dict[str, Any]) -> str:
    async with config.runtime.acquire() as connection:
        sealed = row["credentials"]
        opened = await config.keys.open(connection, row["tenant_id"], CREDENTIALS, sealed)
    return opened.decode()


async def answers(config: Config, tenant_id: UUID) -> list[DataErased]:
    rows = await config.worker.fetch(
        "SELECT payload FROM outbox WHERE tenant_id = $1 ORDER BY position", tenant_id
    )
    return [DataErased.decode(row["payload"]) for row in rows]


async def move_of(config: Config, command: PurgeStarted) -> dict[str, Any]:
    row = await config.worker.fetchrow("SELECT * FROM moves WHERE purge_id = $1", command.purge_id)
    assert row is not None
    return dict(row)


# -- rules -----------------------------------------------------------------------------------


def target(**changed: Any) -> Tenant:
    told = {
        "status": TenantStatus.INSTALLED,
        "platform": Platform.CONNECT,
        "content": ClassState.LIVE,
    }
    return Tenant(uuid4(), **(told | changed))


@pytest.mark.parametrize(
    ("known", "waited", "move"),
    [
        (target(), PATIENCE * 2, Move.NOW),
        (target(status=TenantStatus.UNINSTALLED), timedelta(), Move.NOW),
        (target(content=ClassState.PURGING), timedelta(), Move.NEVER),
        (target(content=ClassState.ERASED), timedelta(), Move.NEVER),
        (target(platform=Platform.FORGE), timedelta(), Move.NEVER),
        (None, PATIENCE - SHORTLY, Move.LATER),
        (None, PATIENCE, Move.NEVER),
    ],
)
def test_content_moves_as_soon_as_it_can_be_kept(
    known: Tenant | None, waited: timedelta, move: Move
) -> None:
    assert decide_move(known, frozenset(), waited) is move
    assert decide_move(known, frozenset({DataClass.CONTENT}), waited) is Move.NEVER
    assert decide_move(known, frozenset({DataClass.CONTACTS}), waited) is move


def test_a_name_that_is_taken_gets_a_word_and_stays_a_name() -> None:
    assert list(islice(names_with("moved", "Sales"), 3)) == [
        "Sales",
        "Sales (moved)",
        "Sales (moved 2)",
    ]
    longest = "x" * 200
    names = list(islice(names_with("moved", longest), 12))
    assert names[:2] == [longest, "x" * 192 + " (moved)"]
    assert len(set(names)) == 12
    for name in names:
        TypeAdapter(Name).validate_python(name)


def test_whatever_customers_create_moves() -> None:
    created = {table.name for table in DATA_MAP.tables_of((DataClass.CONTENT,)) if table.counted}
    assert created == MOVED_TABLES


# -- the move --------------------------------------------------------------------------------


@pytest.mark.parametrize("told_by", ["command", "ledger", "ledger, then command"])
async def test_content_moves_under_the_other_tenants_key_before_its_own_is_destroyed(
    config: Config, told_by: str
) -> None:
    old, new, neighbour = [await config.tenant() for _ in range(3)]
    await fill(config, old, "Sales", "Stock")
    await fill(config, neighbour, "Sales")
    before, beside = await config.rows(old), await config.rows(neighbour)
    command = an_order(old, new)
    if "ledger" in told_by:
        await read_in_the_ledger(config, command)
    if "command" in told_by:
        await obey(config, command)
    assert await config.erase() == 0
    assert await config.rows(old) == before

    with capture_logs() as logs:
        await mover(config).run()
    assert await config.erase() == 1

    after = await config.rows(new)
    told = ("thing_id", "name", "kind", "tags", "body", "created_at", "version")
    assert [[row[each] for each in told] for row in after] == [
        [row[each] for each in told] for row in before
    ]
    assert {row["name"]: await password_of(config, row) for row in after} == {
        "Sales": "password of Sales",
        "Stock": "password of Stock",
    }
    assert await config.rows(old) == []
    assert await config.rows(neighbour) == beside
    keys = {row["tenant_id"] for row in await config.worker.fetch("SELECT * FROM tenant_keys")}
    assert old not in keys
    [answer] = await answers(config, old)
    assert answer.counts == {DataClass.CONTENT: 2, DataClass.ERRORS: 0}
    assert answer.remaining == 0
    moved = [entry for entry in logs if entry["event"] == "content moved"]
    assert [entry["rows_moved"] for entry in moved] == [2]
    assert "Sales" not in repr(logs)
    assert await config.worker.fetch("SELECT 1 FROM moves WHERE tenant_id = $1", old) == []


async def test_the_customer_finds_it_all_beside_what_was_there(config: Config) -> None:
    old, new = await config.tenant(), await config.tenant()
    await fill(config, old, "Sales", "Stock", "Wages")
    await fill(config, new, "Sales", "Sales (moved)", "Stock")
    await merge(config, old, new)
    await mover(config).run()
    await config.erase()

    async with config.client(new) as client:
        items = (await client.get(PATH)).json()["items"]
        kept = {item["name"]: item["has_credentials"] for item in items}
        added = await client.post(PATH, json=a_datasource(name="Sales (moved 2)"))
    assert kept == dict.fromkeys(
        ["Sales", "Sales (moved)", "Sales (moved 2)", "Stock", "Stock (moved)", "Wages"], True
    )
    assert added.status_code == 409
    async with config.client(old) as client:
        assert (await client.get(PATH)).status_code == 410


async def test_one_without_credentials_moves_too_and_one_that_cannot_be_read_without_them(
    config: Config,
) -> None:
    old, new = await config.tenant(), await config.tenant()
    await fill(config, old, "broken", "whole")
    async with config.client(old) as client:
        await client.post(PATH, json=a_datasource(name="open", credentials=None))
    async with config.units.begin() as uow:
        await uow.act_for(old)
        await uow.connection.execute(
            "UPDATE things SET credentials = 'no seal' WHERE name = 'broken'"
        )
    await merge(config, old, new)

    with capture_logs() as logs:
        await mover(config).run()

    assert "credentials not moved, they cannot be read" in [entry["event"] for entry in logs]
    assert {row["name"]: row["credentials"] is not None for row in await config.rows(new)} == {
        "broken": False,
        "whole": True,
        "open": False,
    }
    await config.erase()
    assert await config.rows(old) == []


async def test_a_tenant_that_left_since_still_gets_it(config: Config) -> None:
    """Its own clock runs: a next import may take all of it further."""
    old, new = await config.tenant(), await config.tenant(status=TenantStatus.UNINSTALLED)
    await fill(config, old, "Sales")
    await merge(config, old, new)
    await mover(config).run()
    assert await names_of(config, new) == ["Sales"]


async def test_two_imports_in_a_row_bring_it_to_the_last_tenant(config: Config) -> None:
    first, second, third = [await config.tenant() for _ in range(3)]
    await fill(config, first, "Sales")
    await fill(config, second, "Sales")
    for old, new in ((first, second), (second, third)):
        await merge(config, old, new)
        await mover(config).run()
        await config.erase()
    assert await names_of(config, third) == ["Sales", "Sales (moved)"]
    assert [await config.rows(each) for each in (first, second)] == [[], []]


async def whole_tenant(config: Config, tenant_id: UUID) -> dict[str, dict[str, Any]]:
    """All that a tenant sees of its things, with their history, by kind and name."""
    told = {}
    async with config.client(tenant_id) as client:
        for kind in KINDS:
            items = (await client.get(f"/api/v1/{kind.plural}")).json()["items"]
            for item in items:
                address = f"/api/v1/{kind.plural}/{item['id']}"
                history = (await client.get(f"{address}/versions")).json()["items"]
                told[f"{kind.name} {item['name']}"] = {
                    "now": (await client.get(address)).json(),
                    "users": (await client.get(f"{address}/users")).json(),
                    "past": [
                        (await client.get(f"{address}/versions/{each['version']}")).json()
                        for each in history
                    ],
                }
    return told


async def a_whole_tenant(config: Config) -> UUID:
    """A tenant with things of all kinds that refer to each other and have a past."""
    tenant_id = await config.tenant()
    source = await config.create(tenant_id, "datasources", a_datasource())
    converter = await config.create(tenant_id, "converters", a_converter(text="past"))
    template = await config.create(tenant_id, "templates", a_template())
    query = a_query(source["id"], converter_id=converter["id"], template_id=template["id"])
    await config.create(tenant_id, "queries", query)
    async with config.client(tenant_id) as client:
        await client.put(
            f"/api/v1/converters/{converter['id']}", json=a_converter(tags=["t"]), headers=ANY
        )
    return tenant_id


@pytest.mark.parametrize("rows_a_batch", [1, 2, 100])
async def test_things_of_all_kinds_move_with_their_history_and_what_refers_to_them(
    config: Config, monkeypatch: pytest.MonkeyPatch, rows_a_batch: int
) -> None:
    monkeypatch.setattr(moves, "ROWS_A_BATCH", rows_a_batch)
    old, new = await a_whole_tenant(config), await config.tenant()
    before = await whole_tenant(config, old)
    assert {each.split()[0] for each in before} == {kind.name for kind in KINDS}
    await merge(config, old, new)
    await mover(config).run()
    await config.erase()
    assert await whole_tenant(config, new) == before
    [answer] = await answers(config, old)
    # Four things, three references and one past version.
    assert (answer.counts[DataClass.CONTENT], answer.remaining) == (8, 0)
    total = await config.eraser.fetchval(
        "SELECT things FROM tenant_totals WHERE tenant_id = $1", new
    )
    assert total == 4


async def test_a_query_moves_without_what_the_customer_has_removed_since(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moves, "ROWS_A_BATCH", 1)
    old, new = await a_whole_tenant(config), await config.tenant()
    command = await merge(config, old, new)
    for _ in range(3):
        await mover(config)._go_on(command.purge_id)
    async with config.client(new) as client:
        for plural in ("datasources", "templates"):
            (item,) = (await client.get(f"/api/v1/{plural}")).json()["items"]
            gone = await client.delete(f"/api/v1/{plural}/{item['id']}", headers=ANY)
            assert gone.status_code == 204
        await mover(config).run()
        (query,) = (await client.get("/api/v1/queries")).json()["items"]
        copied = await client.post(f"/api/v1/queries/{query['id']}/duplicates")
    assert (query["datasource_id"], query["template_id"]) == (None, None)
    assert query["converter_id"] is not None
    # It says so before it makes another one without a datasource.
    assert copied.status_code == 409


# -- crashed, doubled, late ------------------------------------------------------------------


@pytest.mark.parametrize("rows", [4, 5])
@pytest.mark.parametrize("batches_before", [0, 1, 2])
async def test_it_goes_on_where_it_was_cut_off_and_nothing_goes_twice(
    config: Config, monkeypatch: pytest.MonkeyPatch, rows: int, batches_before: int
) -> None:
    monkeypatch.setattr(moves, "ROWS_A_BATCH", 2)
    old, new = await config.tenant(), await config.tenant()
    names = [f"source {number}" for number in range(rows)]
    await fill(config, old, *names)
    command = await merge(config, old, new)
    first = mover(config)
    for _ in range(batches_before):
        await first._go_on(command.purge_id)
    # What the customer makes of the first ones meanwhile stands.
    removed = (await config.rows(new))[:1]
    async with config.client(new) as client:
        for row in removed:
            assert (
                await client.delete(f"{PATH}/{row['thing_id']}", headers=ANY)
            ).status_code == 204
    gone = [row["name"] for row in removed]
    calls = 0
    add = store.add_moved_thing

    async def dies_at_the_second(*given: Any, **named: Any) -> bool:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise ConnectionResetError
        return await add(*given, **named)

    if rows - batches_before * 2 > 1:
        monkeypatch.setattr(store, "add_moved_thing", dies_at_the_second)
        with pytest.raises(ExceptionGroup, match="moves failed"):
            await mover(config).run()
        monkeypatch.setattr(store, "add_moved_thing", add)
        assert len(await config.rows(new)) == batches_before * 2 - len(gone)

    await mover(config).run()

    assert await names_of(config, new) == sorted(set(names) - set(gone))
    assert (await move_of(config, command))["state"] == "moved"
    await config.erase()
    [answer] = await answers(config, old)
    assert answer.counts[DataClass.CONTENT] == rows


async def test_a_move_that_fails_holds_up_its_own_erasure_and_no_other(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, old, new = [await config.tenant() for _ in range(3)]
    await fill(config, stuck, "Stock")
    await fill(config, old, "Sales")
    for tenant_id in (stuck, old):
        await merge(config, tenant_id, new)
    add = store.add_moved_thing

    async def fails_for_one(*given: Any, **named: Any) -> bool:
        if named["name"] == "Stock":
            raise RuntimeError
        return await add(*given, **named)

    monkeypatch.setattr(store, "add_moved_thing", fails_for_one)
    with pytest.raises(ExceptionGroup, match="moves failed"):
        await mover(config).run()
    assert await config.erase() == 1
    assert [len(await config.rows(each)) for each in (stuck, old, new)] == [1, 0, 1]

    monkeypatch.setattr(store, "add_moved_thing", add)
    await mover(config).run()
    assert await config.erase() == 1
    assert await names_of(config, new) == ["Sales", "Stock"]


async def test_two_purges_of_one_tenant_bring_each_row_once(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a restored purger asks for the same erasure by another name."""
    monkeypatch.setattr(moves, "ROWS_A_BATCH", 1)
    old, new = await config.tenant(), await config.tenant()
    await fill(config, old, "Sales", "Stock", "Wages")
    first = await merge(config, old, new)
    await mover(config)._go_on(first.purge_id)
    await merge(config, old, new)
    await mover(config).run()
    assert await names_of(config, new) == ["Sales", "Stock", "Wages"]
    await config.erase()
    assert await config.rows(old) == []


async def test_two_workers_at_once_move_each_row_once(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moves, "ROWS_A_BATCH", 1)
    old, new = await config.tenant(), await config.tenant()
    names = [f"source {number}" for number in range(6)]
    await fill(config, old, *names)
    command = await merge(config, old, new)
    await asyncio.gather(*(mover(config).run() for _ in range(3)))
    while (await move_of(config, command))["state"] == "open":
        await mover(config).run()
    assert await names_of(config, new) == names


async def test_asked_again_it_answers_again_and_moves_nothing_twice(config: Config) -> None:
    old, new = await config.tenant(), await config.tenant()
    await fill(config, old, "Sales")
    command = await merge(config, old, new)
    await obey(config, command)
    await mover(config).run()
    await obey(config, command)
    await config.erase()

    config.clock.advance(timedelta(minutes=1))
    await obey(config, command)
    # Nothing is noted again, or an answer could wait for a tenant that is gone meanwhile.
    assert await config.worker.fetch("SELECT 1 FROM moves WHERE tenant_id = $1", old) == []
    assert await config.erase() == 1

    assert await names_of(config, new) == ["Sales"]
    first, second = await answers(config, old)
    assert first.counts == second.counts == {DataClass.CONTENT: 1, DataClass.ERRORS: 0}


@pytest.mark.parametrize("why", ["purging", "guarded", "on forge"])
async def test_what_can_be_kept_nowhere_is_erased_and_not_moved(config: Config, why: str) -> None:
    old = await config.tenant()
    new = await config.tenant(
        content=ClassState.PURGING if why == "purging" else ClassState.LIVE,
        platform=Platform.FORGE if why == "on forge" else Platform.CONNECT,
    )
    await fill(config, old, "Sales")
    if why == "guarded":
        await config.order_erasure(new)
    command = await merge(config, old, new)

    with capture_logs() as logs:
        await mover(config).run()

    assert [entry["event"] for entry in logs] == ["content not moved but erased"]
    assert (await move_of(config, command))["state"] == "given-up"
    await config.erase()
    assert await config.rows(old) == await config.rows(new) == []
    [answer] = await answers(config, old)
    assert answer.counts[DataClass.CONTENT] == 1


async def test_a_tenant_that_begins_to_purge_halfway_takes_what_it_has_along(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moves, "ROWS_A_BATCH", 1)
    old, new = await config.tenant(), await config.tenant()
    await fill(config, old, "Sales", "Stock")
    command = await merge(config, old, new)
    await mover(config)._go_on(command.purge_id)
    await config.order_erasure(new)
    await mover(config).run()
    await config.erase()

    assert await config.rows(old) == await config.rows(new) == []
    counts = [(await answers(config, each))[0].counts[DataClass.CONTENT] for each in (old, new)]
    assert counts == [2, 1]


async def test_a_purge_of_the_other_tenant_waits_for_the_batch_that_is_moving(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a row could come behind the erasure that was to take it, and a key be made again."""
    old, new = await config.tenant(), await config.tenant()
    await fill(config, old, "Sales", "Stock")
    await merge(config, old, new)
    read = store.stored_things
    purging: list[asyncio.Task[int]] = []

    async def purge() -> int:
        await config.order_erasure(new)
        return await config.erase()

    async def read_while_it_begins(*given: Any, **named: Any) -> list[store.StoredThing]:
        purging.append(asyncio.create_task(purge()))
        while not purging[0].done() and not await somebody_waits_for_a_lock(config):
            await asyncio.sleep(0.01)
        return await read(*given, **named)

    monkeypatch.setattr(store, "stored_things", read_while_it_begins)
    await mover(config).run()
    await purging[0]
    await config.erase()

    assert await config.rows(old) == await config.rows(new) == []
    keys = {row["tenant_id"] for row in await config.worker.fetch("SELECT * FROM tenant_keys")}
    assert not {old, new} & keys
    assert (await answers(config, new))[0].counts[DataClass.CONTENT] == 2


async def somebody_waits_for_a_lock(config: Config) -> bool:
    waits: bool = await config.worker.fetchval(
        "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND locktype = 'advisory')"
    )
    return waits


async def test_a_move_waits_for_a_tenant_that_was_not_heard_of_yet(config: Config) -> None:
    old, new = await config.tenant(), uuid4()
    await fill(config, old, "Sales")
    command = await merge(config, old, new)
    await mover(config).run()
    assert await config.erase() == 0
    assert (await move_of(config, command))["state"] == "open"

    await config.know(Tenant(new, TenantStatus.INSTALLED, Platform.CONNECT, ClassState.LIVE))

    await mover(config).run()
    assert await names_of(config, new) == ["Sales"]
    assert await config.erase() == 1


async def test_a_move_that_never_can_be_delays_an_erasure_by_three_days_at_most(
    config: Config,
) -> None:
    old = await config.tenant()
    await fill(config, old, "Sales")
    await merge(config, old, uuid4())
    config.clock.advance(PATIENCE)
    await mover(config).run()
    assert await config.erase() == 1
    assert await config.rows(old) == []


async def test_a_purge_without_another_tenant_moves_nothing(config: Config) -> None:
    old = await config.tenant()
    await fill(config, old, "Sales")
    command = an_order(old)
    await obey(config, command)
    await read_in_the_ledger(config, command)
    assert await config.worker.fetch("SELECT 1 FROM moves WHERE tenant_id = $1", old) == []
    assert await config.erase() == 1
