"""Messages that nobody can deal with, and what becomes of them: the runbook, on everything real."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer

from contracts.classes import DataClass
from contracts.envelope import Envelope, to_headers
from contracts.purges import Phase, PurgeStarted
from contracts.registry import ce_type
from contracts.topics import PURGER_COMMANDS
from devstack.journey import Journey
from devstack.programs import ROOT
from devstack.stack import LocalStack, known_environment
from tests.support.journey import Travellers, entrust, leave, let_it_start
from tests.support.runbooks import follow

RUNBOOK = ROOT / "docs" / "runbooks" / "poison-event.md"
WORD = {"BY": "Kim Keeper", "REASON": "OPS-7"}

# A service that says nonsense: of the messages of a type, one field of each is another's.
_POISON = """
    CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        NEW.payload := convert_to(
            (convert_from(NEW.payload, 'UTF8')::jsonb || TG_ARGV[0]::jsonb)::text, 'UTF8');
        RETURN NEW;
    END $$
"""


@asynccontextmanager
async def poisoned(
    stack: LocalStack, service: str, name: str, nonsense: Mapping[str, Any]
) -> AsyncIterator[None]:
    """Let a service say this instead, in every message of a type, until it is mended."""
    owner = await asyncpg.connect(stack.databases[service].owner_url)
    try:
        await owner.execute(_POISON)
        await owner.execute(
            "CREATE TRIGGER poison BEFORE INSERT ON outbox FOR EACH ROW"
            f" WHEN (NEW.type = '{ce_type(name)}' AND NEW.payload IS NOT NULL)"
            f" EXECUTE FUNCTION poison('{json.dumps(nonsense)}')"
        )
        yield
    finally:
        await owner.execute("DROP FUNCTION poison CASCADE")
        await owner.close()


async def letters(stack: LocalStack, service: str, tenant_id: UUID) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(stack.databases[service].backup_url)
    try:
        return await connection.fetch(
            "SELECT * FROM dead_letters WHERE tenant_id = $1 ORDER BY number", tenant_id
        )
    finally:
        await connection.close()


async def until_they_stand(
    journey: Journey, service: str, *states: str, patience: str = "the letters stand so"
) -> list[asyncpg.Record]:
    """Return the tenant's dead letters once they are in these states."""

    async def stand() -> list[asyncpg.Record] | None:
        found = await letters(journey.stack, service, journey.tenant_id)
        return found if [each["state"] for each in found] == list(states) else None

    return await journey.until(stand, f"{patience}: {', '.join(states)} at {service}")


async def oldest_seconds(journey: Journey, service: str) -> float:
    """The figure that the alert goes by."""
    answer = await journey.http.get(f"{journey.stack.endpoints.of(service)}/metrics")
    [line] = [
        line
        for line in answer.text.splitlines()
        if line.startswith("keepword_dead_letters_oldest_seconds ")
    ]
    return float(line.split()[1])


async def until_the_alert(journey: Journey, service: str, *, rings: bool) -> None:
    async def so() -> bool | None:
        return True if (await oldest_seconds(journey, service) > 0) is rings else None

    await journey.until(so, f"the alert of {service} {'rings' if rings else 'is over'}")


async def say_without_waiting(journey: Journey, purge_id: UUID) -> None:
    """Order the erasure as a purger would that does not wait for the installer's word."""
    command = PurgeStarted(
        purge_id=purge_id,
        step="erase-installer",
        wave=1,
        tenant_id=journey.tenant_id,
        owner="installer",
        classes=(DataClass.INSTALLATION,),
        ledger_number=1,
    )
    envelope = Envelope(uuid4(), "/keepword/purger", ce_type("purge-started"), datetime.now(UTC))
    producer = AIOKafkaProducer(**journey.stack.kafka_options)
    await producer.start()
    try:
        await producer.send_and_wait(
            PURGER_COMMANDS.name,
            command.encode(),
            key=str(journey.tenant_id).encode(),
            headers=to_headers(envelope),
        )
    finally:
        await producer.stop()


@pytest.mark.timeout(240)
async def test_a_poisoned_command_holds_its_purge_back_until_somebody_mends_it(
    stack: LocalStack, customer: Travellers, tmp_path: Path
) -> None:
    journey = customer("poisoned")
    await entrust(journey)
    plan = await leave(journey)
    environment = known_environment(stack.folder)
    assert environment is not None

    async def runbook(block: str, letter: UUID | None = None) -> str:
        variables = {**environment, **WORD, "SERVICE": "installer", "LETTER": str(letter)}
        return await follow(RUNBOOK, block, variables, folder=tmp_path)

    async with poisoned(stack, "purger", "purge-requested", {"classes": []}):
        await let_it_start(journey, plan)
        [poison] = await until_they_stand(journey, "installer", "open")
        await say_without_waiting(journey, plan.purge_id)
        poison, stray = await until_they_stand(journey, "installer", "open", "parked")
        await until_the_alert(journey, "installer", rings=True)
        assert (await journey.rows())["installer.installations"] == 1  # it did not overtake

        page = f"{stack.endpoints.installer}/staff/dead-letters"
        assert "body does not fit: classes" in (await journey.http.get(page)).text
        groups = [json.loads(line) for line in (await runbook("look")).splitlines()]
        assert [(each["service"], each["kind"], each["states"]) for each in groups] == [
            ("installer", "command", {"open": 1}),
            ("installer", "command", {"parked": 1}),
        ]
        assert "body does not fit: classes" in await runbook("show", poison["dead_letter_id"])
        await runbook("discard", stray["dead_letter_id"])
        body = json.loads((tmp_path / "body.json").read_text())
        (tmp_path / "body.json").write_text(json.dumps(body | {"classes": plan.takes}))
        await runbook("edit", poison["dead_letter_id"])
        poison, stray = await until_they_stand(journey, "installer", "open", "discarded")
        assert json.loads(poison["payload"])["classes"] == []  # as it came
        # It fails where the letter does again. Then all goes on, and nothing of it is kept for long.
        await runbook("redrive", poison["dead_letter_id"])

    await journey.wait_for_phase(Phase.CLOSED)
    await journey.wait_until_gone()
    await until_the_alert(journey, "installer", rings=False)
    connection = await asyncpg.connect(stack.databases["installer"].backup_url)
    acts = await connection.fetch("SELECT act, by_whom, reason FROM dead_letter_acts ORDER BY 1")
    await connection.close()
    assert [tuple(act) for act in acts] == [
        (act, *WORD.values()) for act in ("discarded", "edited", "redriven")
    ]


@pytest.mark.timeout(240)
async def test_a_poisoned_state_is_overtaken_by_its_next_version(
    stack: LocalStack, customer: Travellers
) -> None:
    journey = customer("misunderstood")
    readers = ("config", "purger", "notifier")
    async with poisoned(stack, "installer", "tenant-installed", {"status": "nowhere"}):
        await journey.install()
        found = await asyncio.gather(
            *(until_they_stand(journey, reader, "open") for reader in readers)
        )
        assert {letter["kind"] for [letter] in found} == {"state"}
        await asyncio.gather(*(until_the_alert(journey, each, rings=True) for each in readers))
    environment = known_environment(stack.folder)
    assert environment is not None
    variables = {**environment, "OWNER": "installer", "TENANT": str(journey.tenant_id)}
    await follow(RUNBOOK, "restate", variables)
    await asyncio.gather(*(until_they_stand(journey, each, "overtaken") for each in readers))
    await asyncio.gather(*(until_the_alert(journey, each, rings=False) for each in readers))
