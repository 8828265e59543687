"""`keepword people` on a real database of notifier: the address comes by standard input alone."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import pytest
from typer.testing import CliRunner, Result

from chassis.clock import SystemClock
from chassis.database import open_pool
from chassis.epochs import ensure_epoch
from chassis.keys import KeyEncryptionKeys, TenantKeys
from chassis.migrations import migrate
from chassis.unit_of_work import Units
from cli.main import command_line
from contracts.tenants import ClassState
from services.notifier.data_map import DATA_MAP
from services.notifier.domain.people import ADDRESS, ADDRESS_INDEX, NAME, Language, Role, Tenant
from services.notifier.store import people as store
from tests.support.stack import Databases

NOW = datetime(2026, 11, 2, 9, 30, tzinfo=UTC)
ADA = "Ada@c.example"


@dataclass(frozen=True)
class Notifier:
    """Notifier's database, with one person in two tenants."""

    url: str
    keys_file: Path
    owner: "asyncpg.Connection[asyncpg.Record]"

    async def answered(self, reference: str) -> tuple[str, str | None]:
        row = await self.owner.fetchrow(
            "SELECT kind, answered_by FROM person_requests WHERE request_id = $1", UUID(reference)
        )
        assert row is not None
        return row["kind"], row["answered_by"]

    async def known(self) -> int:
        count: int = await self.owner.fetchval("SELECT count(*) FROM audience")
        return count


@pytest.fixture(scope="module")
async def migrated(
    databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Notifier]:
    roles = (await databases("notifier"))["notifier"]
    await migrate(roles.owner_url, DATA_MAP)
    keys_file = tmp_path_factory.mktemp("keys") / "keks.json"
    key = base64.urlsafe_b64encode(bytes(range(32))).decode()
    told = {"current": "2026-11", "keys": {"2026-11": key}, "blind_index": key}
    keys_file.write_text(json.dumps(told), "utf-8")
    keys = TenantKeys("notifier", KeyEncryptionKeys.load(keys_file))
    owner = await asyncpg.connect(roles.owner_url)
    async with (
        await open_pool(roles.worker_url, name="worker") as worker,
        worker.acquire() as connection,
    ):
        await ensure_epoch(connection, wall=NOW)
    async with await open_pool(roles.runtime_url, name="runtime") as pool:
        units = Units("notifier", pool, SystemClock(), None, lambda: None)
        for tenant_id in (uuid4(), uuid4()):
            async with units.begin() as uow:
                tenant = Tenant(tenant_id, "com.example.app", ClassState.LIVE)
                await store.remember_tenant(uow.connection, tenant)
                await uow.act_for(tenant_id)
                name, address = [
                    await keys.seal(uow.connection, tenant_id, purpose, text, now=NOW)
                    for purpose, text in ((NAME, b"Ada Ex"), (ADDRESS, ADA.encode()))
                ]
                await store.keep_contact(
                    uow.connection,
                    tenant_id,
                    store.SealedContact(uuid4(), name, address),
                    store.Standing(
                        keys.blind_index(ADDRESS_INDEX, ADA.lower()),
                        (Role.TECHNICAL,),
                        Language.ENGLISH,
                    ),
                    now=NOW,
                )
    yield Notifier(roles.runtime_url, keys_file, owner)
    await owner.close()


@pytest.fixture
def notifier(migrated: Notifier, monkeypatch: pytest.MonkeyPatch) -> Notifier:
    monkeypatch.setenv("KEEPWORD_NOTIFIER_DATABASE_URL", migrated.url)
    monkeypatch.setenv("KEEPWORD_NOTIFIER_KEY_ENCRYPTION_KEYS_FILE", str(migrated.keys_file))
    monkeypatch.setenv("COLUMNS", "300")
    return migrated


def keepword(*arguments: str, address: str = ADA) -> Result:
    return CliRunner().invoke(command_line(), ["people", *arguments], input=f"{address}\n")


async def people(*arguments: str, address: str = ADA) -> tuple[int, str]:
    done = await asyncio.to_thread(keepword, *arguments, address=address)
    return done.exit_code, done.output


def modes_in(folder: Path) -> list[int]:
    return [path.stat().st_mode & 0o777 for path in folder.iterdir()]


async def test_a_person_is_found_exported_and_erased_over_all_tenants(
    notifier: Notifier, tmp_path: Path
) -> None:
    status, said = await people("find")
    assert (status, "contacts 2, messages 0" in said) == (0, True)
    status, said = await people("find", address="nobody@c.example")
    assert (status, "contacts 0" in said) == (0, True)

    status, said = await people("note", "access", "--received-on", "2020-01-31")
    assert (status, "due on 2020-02-29" in said) == (0, True)
    reference = said.split()[2].rstrip(".")
    assert "overdue" in (await people("requests"))[1]
    for refused in (
        await people("erase", "--by", "privacy", "--request", reference),
        await people(
            "export", str(tmp_path), "--by", "privacy", "--request", reference, address="b@c.de"
        ),
        await people("export", str(tmp_path), "--by", "privacy", "--request", str(uuid4())),
    ):
        assert (refused[0], "no open request" in refused[1]) == (1, True)
    assert modes_in(tmp_path) == []

    status, said = await people("export", str(tmp_path), "--by", "privacy", "--request", reference)
    assert status == 0, said
    assert await notifier.answered(reference) == ("access", "privacy")
    told = json.loads((tmp_path / f"{reference}.json").read_text("utf-8"))
    assert [each["address"] for each in told["contacts"]] == [ADA, ADA]
    assert (tmp_path / f"{reference}.pdf").read_bytes().startswith(b"%PDF")
    assert modes_in(tmp_path) == [0o600, 0o600]

    status, said = await people("erase", "--by", "support", "--dry-run")
    assert (status, "contacts 2" in said, await notifier.known()) == (0, True, 2)
    status, said = await people("erase", "--by", "support")
    assert (status, "Contacts erased: 2." in said, await notifier.known()) == (0, True, 0)
    assert await notifier.answered(said.split()[-1].rstrip(".")) == ("erasure", "support")
    assert "Open requests: 0." in (await people("requests"))[1]


@pytest.mark.parametrize(
    ("arguments", "address", "said"),
    [
        (["find"], "ada", "one address on standard input"),
        (["find"], "", "one address on standard input"),
        (["erase", "--by", "kim"], ADA, "privacy, support"),
        (["note", "correction"], ADA, "/privacy/request"),
        (["export", "/nowhere/at/all", "--by", "privacy"], ADA, "a folder"),
    ],
    ids=["no address", "nothing", "no role", "kind", "folder"],
)
def test_what_makes_no_sense_is_misuse(
    notifier: Notifier, arguments: list[str], address: str, said: str
) -> None:
    refused = keepword(*arguments, address=address)
    assert (refused.exit_code, said in refused.output) == (2, True), refused.output


def test_without_keys_nobody_is_looked_for(
    notifier: Notifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KEEPWORD_NOTIFIER_KEY_ENCRYPTION_KEYS_FILE")
    refused = keepword("find")
    assert (refused.exit_code, "KEY_ENCRYPTION_KEYS_FILE" in refused.output) == (2, True)


@pytest.mark.parametrize("command", ["requests", "note", "find", "export", "erase"])
def test_every_command_has_help(command: str) -> None:
    assert keepword(command, "--help").exit_code == 0
