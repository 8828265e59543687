"""`keepword dead-letters` on a real database of config, with its job running beside it."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from aiokafka import ConsumerRecord
from typer.testing import CliRunner

from chassis.clock import SystemClock
from chassis.consumer import Consumer, Retries
from chassis.database import Pool, open_pool
from chassis.dead_letters import written
from chassis.dead_letters.redrives import Redrives
from chassis.dead_letters.written import Failure
from chassis.handlers import Handlers
from chassis.metrics import Metrics
from chassis.unit_of_work import UnitOfWork, Units
from cli import dead_letters
from cli.databases import database_variable
from cli.main import command_line
from cli.statuses import MISUSED
from contracts.envelope import to_headers
from contracts.messages import Kind
from contracts.purges import PurgeStarted
from contracts.topics import PURGER_COMMANDS, SERVICES
from services.config.data_map import DATA_MAP
from tests.support.bus import a_command, an_envelope
from tests.support.stack import Migrated

NAME = "config.main.v1"
WORD = ("--by", "Kim Keeper", "--reason", "OPS-7")


@dataclass
class Desk:
    """A database of config with its consumer, and a person at the command line."""

    url: str
    pool: Pool
    handled: list[str]

    @property
    def units(self) -> Units[None]:
        return Units("config", self.pool, SystemClock(), None, lambda: None)

    async def letter(self, *, kind: Kind = Kind.COMMAND, **change: Any) -> UUID:
        """Write one down: a command to erase, with changes to its body."""
        command = a_command(owner="config")
        body = json.loads(command.encode()) | change
        record = ConsumerRecord(
            PURGER_COMMANDS.name, 0, 7, 0, 0, str(command.tenant_id).encode(),
            json.dumps(body).encode(), None, 0, 0, tuple(to_headers(an_envelope("purge-started"))),
        )  # fmt: skip
        failure = Failure(
            "parser",
            "body does not fit: wave",
            tenant_id=command.tenant_id,
            type="keepword.purge-started.v1",
            purge_id=command.purge_id,
            step=command.step,
            kind=kind,
        )
        async with self.units.begin() as uow:
            await written.write(uow, NAME, record, failure)
        return UUID(str(await self.pool.fetchval(
            "SELECT dead_letter_id FROM dead_letters ORDER BY number DESC LIMIT 1"
        )))  # fmt: skip

    async def says(self, *arguments: str) -> tuple[int, str]:
        others = dict.fromkeys(map(database_variable, SERVICES), "")
        environment = {**others, database_variable("config"): self.url, "COLUMNS": "200"}
        result = await asyncio.to_thread(
            CliRunner().invoke,
            command_line(),
            ["dead-letters", *map(str, arguments)],
            env=environment,
        )
        return result.exit_code, result.output

    async def state(self, letter_id: UUID) -> str:
        return str(
            await self.pool.fetchval(
                "SELECT state FROM dead_letters WHERE dead_letter_id = $1", letter_id
            )
        )

    async def serve(self) -> None:
        """Try again what is to be tried, as the running service does every second."""
        handlers: Handlers[None] = Handlers("config")

        @handlers.obeys(PurgeStarted)
        async def erase(message: PurgeStarted, uow: UnitOfWork[None]) -> None:
            self.handled.append(message.step)

        consumer = Consumer(
            name=NAME,
            topics=[PURGER_COMMANDS],
            handlers=handlers,
            units=self.units,
            metrics=Metrics(),
            cluster_id="here",
            retries=replace(Retries(), attempts=1),
        )
        job = Redrives(self.units, {NAME: consumer.redrive})
        while True:
            await job.run()
            await asyncio.sleep(0.05)


@pytest.fixture
async def desk(emptied: Migrated) -> AsyncIterator[Desk]:
    roles = await emptied(DATA_MAP)
    async with await open_pool(roles.runtime_url, name="tests") as pool:
        yield Desk(roles.runtime_url, pool, [])


async def test_a_letter_is_found_mended_and_tried_again(desk: Desk, tmp_path: Path) -> None:
    letter_id = await desk.letter(wave=9)
    status, said = await desk.says("list")
    group = json.loads(said)
    assert (status, group["service"], group["states"]) == (0, "config", {"open": 1})
    status, said = await desk.says("list", "config", "--group", group["group"])
    assert json.loads(said)["letter"] == str(letter_id)

    status, said = await desk.says("show", "config", str(letter_id), "--body")
    body = json.loads(said)
    file = tmp_path / "body.json"
    file.write_text(json.dumps(body))
    status, said = await desk.says("edit", "config", str(letter_id), str(file), *WORD)
    assert (status, said.strip()) == (1, "As a purge-started it cannot be read: wave.")

    file.write_text(json.dumps(body | {"wave": 1}))
    status, said = await desk.says("edit", "config", str(letter_id), str(file), *WORD, "--dry-run")
    assert (status, json.loads(said)["version"]) == (0, 2)
    assert "edited" not in (await desk.says("show", "config", str(letter_id)))[1]
    assert (await desk.says("edit", "config", str(letter_id), str(file), *WORD))[0] == 0

    serving = asyncio.create_task(desk.serve())
    status, said = await desk.says("redrive", "config", str(letter_id), *WORD)
    serving.cancel()
    assert (status, desk.handled) == (0, ["erase-config"])
    status, said = await desk.says("show", "config", str(letter_id))
    for words in ("redriven: handled", "2, edited", "by Kim Keeper: OPS-7", '"wave": 1'):
        assert words in said


async def test_what_fails_again_and_what_nobody_tries_are_told(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    letter_id = await desk.letter(wave=9)
    serving = asyncio.create_task(desk.serve())
    status, said = await desk.says("redrive", "config", str(letter_id), *WORD)
    serving.cancel()
    assert status == 1
    assert "failed again: body does not fit: wave" in said

    monkeypatch.setattr(dead_letters, "_PATIENCE_SECONDS", 0.0)
    status, said = await desk.says("redrive", "config", str(letter_id), *WORD)
    assert status == 1
    assert "Not tried yet: 1." in said


async def test_a_group_is_put_aside_and_a_dry_run_puts_nothing(desk: Desk) -> None:
    letters = [await desk.letter(wave=9), await desk.letter(wave=8)]
    group = json.loads((await desk.says("list"))[1])["group"]
    status, said = await desk.says("discard", "config", group, *WORD, "--dry-run")
    assert (status, len(said.splitlines())) == (0, 2)
    assert {await desk.state(each) for each in letters} == {"open"}
    assert (await desk.says("discard", "config", group, *WORD))[0] == 0
    assert {await desk.state(each) for each in letters} == {"discarded"}
    status, said = await desk.says("discard", "config", group, *WORD)
    assert (status, "it is discarded" in said) == (1, True)


async def test_what_cannot_be_is_refused_in_words(desk: Desk, tmp_path: Path) -> None:
    letter_id = str(await desk.letter(kind=Kind.STATE))
    file = tmp_path / "body.json"
    file.write_text("{}")
    redrive = await desk.says("redrive", "config", letter_id, *WORD)
    edit = await desk.says("edit", "config", letter_id, str(file), *WORD)
    for status, said in (redrive, edit):
        assert (status, "have its owner restate it" in said) == (1, True)
    refusals: tuple[tuple[tuple[str, ...], int, str], ...] = (
        (("show", "config", str(uuid4())), 1, "no such dead letter"),
        (("redrive", "config", "0123456789abcdef", *WORD), 1, "no such dead letter"),
        (("redrive", "config", letter_id, "--by", " ", "--reason", "x"), 1, "Say who"),
        (("redrive", "config", letter_id, "--by", "Kim", "--reason", " "), 1, "Say why"),
        (("edit", "config", letter_id, str(tmp_path / "none"), *WORD), 2, "cannot be read"),
        (("list", "billing"), 2, "There is no service billing"),
        (("show", "billing", letter_id), 2, "There is no service billing"),
        (("list", "purger"), 2, "KEEPWORD_PURGER_DATABASE_URL"),
    )
    for arguments, status, words in refusals:
        answered, said = await desk.says(*arguments)
        assert (answered, words in said) == (status, True), said


@pytest.mark.parametrize("pod", [{}, {"KEEPWORD_DATABASE_URL": "postgresql://somewhere/config"}])
def test_where_no_service_is_named_it_says_how_to_name_one(pod: dict[str, str]) -> None:
    """A pod's own variable does not say whose database it is."""
    nowhere = dict.fromkeys(map(database_variable, SERVICES), "")
    result = CliRunner().invoke(command_line(), ["dead-letters", "list"], env=nowhere | pod)
    assert result.exit_code == MISUSED
    assert "in a service's own pod give its name" in " ".join(result.output.split())
