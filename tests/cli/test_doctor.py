"""The doctor finds what is not as the data maps and the contracts want it, and changes nothing."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from uuid import uuid4

import asyncpg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from chassis.broker import KafkaAccess
from chassis.migrations import migrate
from cli import doctor
from cli.doctor import Finding, State, public_keys
from contracts.classes import DataClass
from contracts.ledger import EntryKind, UnsealedEntry, key_id_of, seal
from contracts.topics import CONFIG_ERASURES, INSTALLER_TENANTS, Topic
from devstack.kafka import create_topics
from devstack.key_files import ensure_signing_key
from devstack.postgres import Roles
from services.config.data_map import DATA_MAP as CONFIG_MAP
from services.purger.data_map import DATA_MAP as PURGER_MAP
from services.purger.ledger_key import LedgerKey
from services.purger.store.ledger import NewEntry, append_entries
from tests.support.stack import Databases


@pytest.fixture
async def config(databases: Databases) -> Roles:
    roles = (await databases("config"))["config"]
    await migrate(roles.owner_url, CONFIG_MAP)
    return roles


def urls(roles: Roles) -> dict[str, str]:
    kinds = ("runtime", "owner", "worker", "eraser", "backup")
    return {kind: str(getattr(roles, f"{kind}_url")) for kind in kinds}


def unwell(findings: Sequence[Finding]) -> dict[str, str]:
    return {each.check: each.detail for each in findings if each.state is not State.OK}


async def as_owner(roles: Roles, *statements: str) -> None:
    connection = await asyncpg.connect(roles.owner_url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def test_a_database_as_the_data_map_wants_it_is_well(config: Roles) -> None:
    findings = await doctor.check_database(CONFIG_MAP, urls(config))
    assert unwell(findings) == {}
    assert len(findings) == 10


@pytest.mark.parametrize(
    ("harm", "check", "detail"),
    [
        ("ALTER TABLE tenants ADD email text", "data map", "column tenants.email"),
        ("DROP TABLE things CASCADE", "data map", "table things does not exist"),
        ("DROP TABLE things CASCADE", "eraser's sight", "things"),
        ("DELETE FROM config_migrations", "migrations", "config_migrations is at None"),
        ("GRANT UPDATE ON tenants TO config_eraser", "rights of roles", "eraser may UPDATE"),
        ("REVOKE DELETE ON things FROM config_eraser", "rights of roles", "may not DELETE"),
        ("GRANT TRUNCATE ON inbox TO config_worker", "rights of roles", "worker may TRUNCATE"),
        (
            (
                "ALTER TABLE things NO FORCE ROW LEVEL SECURITY; DELETE FROM things;"
                " ALTER TABLE things FORCE ROW LEVEL SECURITY"
            ),
            "eraser's sight",
            "the planted row of things is not seen",
        ),
    ],
)
async def test_what_is_not_as_the_data_map_wants_it_fails(
    config: Roles, harm: str, check: str, detail: str
) -> None:
    await as_owner(config, harm)
    found = unwell(await doctor.check_database(CONFIG_MAP, urls(config)))
    assert detail in found[f"config: {check}"]


async def test_a_database_that_is_away_fails_without_its_password() -> None:
    away = {"runtime": "postgresql://config_runtime:hidden@127.0.0.1:1/config"}
    (finding,) = await doctor.check_database(CONFIG_MAP, away)
    assert finding.state is State.FAILED
    assert "hidden" not in repr(finding)


async def test_it_changes_nothing_and_could_not(config: Roles) -> None:
    async with doctor._connected(config.runtime_url) as connection:
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await connection.execute("DELETE FROM tenants")


# -- ledger -----------------------------------------------------------------------------------------


@pytest.fixture
async def purger(databases: Databases) -> Roles:
    roles = (await databases("purger"))["purger"]
    await migrate(roles.owner_url, PURGER_MAP)
    return roles


async def with_entries(roles: Roles, key: LedgerKey, count: int) -> None:
    connection = await asyncpg.connect(roles.runtime_url)
    previous_hash = "0" * 64
    try:
        for number in range(1, count + 1):
            unsealed = UnsealedEntry(
                number=number,
                kind=EntryKind.TENANT_ERASED,
                at=datetime(2026, 1, 1, tzinfo=UTC),
                purge_id=uuid4(),
                tenant_id=uuid4(),
                classes=(DataClass.CONTENT,),
                previous_hash=previous_hash,
            )
            entry = seal(unsealed, key.private_key, key.key_id)
            await append_entries(connection, [NewEntry(entry, "wave-1")])
            previous_hash = entry.hash
    finally:
        await connection.close()


async def test_the_ledgers_chain_is_walked_in_pages(
    purger: Roles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_ENTRIES_A_PAGE", 2)
    key = LedgerKey(Ed25519PrivateKey.generate())
    keys = {key.key_id: key.private_key.public_key()}
    assert unwell(await doctor.check_ledger(urls(purger), keys)) == {}
    await with_entries(purger, key, 5)
    (finding,) = await doctor.check_ledger(urls(purger), keys)
    assert finding.detail == "5 entries, an unbroken chain"


@pytest.mark.parametrize(
    ("harm", "detail"),
    [
        ("UPDATE ledger SET entry = replace(entry, '2026', '2025') WHERE number = 2", "entry 2:"),
        ("DELETE FROM ledger WHERE number = 2", "entry 2: found number 3"),
        ("DELETE FROM ledger WHERE number = 3", "entry 3: is not where"),
        ("UPDATE ledger_head SET hash = repeat('f', 64)", "entry 3: is not where"),
    ],
)
async def test_a_ledger_that_was_tampered_with_fails(purger: Roles, harm: str, detail: str) -> None:
    key = LedgerKey(Ed25519PrivateKey.generate())
    await with_entries(purger, key, 3)
    await as_owner(purger, "ALTER TABLE ledger DISABLE TRIGGER USER", harm)
    found = unwell(
        await doctor.check_ledger(urls(purger), {key.key_id: key.private_key.public_key()})
    )
    assert detail in found["purger: ledger"]


async def test_a_ledger_whose_key_is_elsewhere_is_a_warning(purger: Roles) -> None:
    (finding,) = await doctor.check_ledger(urls(purger), {})
    assert finding.state is State.WARNING


# -- kafka ------------------------------------------------------------------------------------------


def own(topic: Topic) -> Topic:
    return replace(topic, name=f"{topic.name}.{uuid4().hex[:8]}")


async def test_topics_are_compared_with_the_contracts_word_for_word(access: KafkaAccess) -> None:
    well, odd, narrow, missing = (
        own(INSTALLER_TENANTS),
        own(CONFIG_ERASURES),
        own(CONFIG_ERASURES),
        own(CONFIG_ERASURES),
    )
    keeps_longer = replace(
        odd, config=MappingProxyType({**odd.config, "retention.ms": "99999999999"})
    )
    made = [well, keeps_longer, replace(narrow, partitions=1)]
    await create_topics(made, **access.client_options())

    found = unwell(await doctor.check_topics(access, [well, odd, narrow, missing]))

    assert found == {
        f"topic {odd.name}": "retention.ms is 99999999999, not 2592000000",
        f"topic {narrow.name}": "partitions is 1, not 6",
        f"topic {missing.name}": "is not there, or may not be seen",
    }


async def test_a_kafka_that_is_away_fails() -> None:
    (finding,) = await doctor.check_topics(
        KafkaAccess("127.0.0.1:1", "doctor"), [INSTALLER_TENANTS]
    )
    assert (finding.check, finding.state) == ("kafka", State.FAILED)


# -- what lies outside ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "residue", "state"),
    [
        (None, None, State.WARNING),
        ("14", None, State.OK),
        ("15", None, State.FAILED),
        ("15", "15", State.OK),
        ("soon", None, State.FAILED),
        ("14", "soon", State.FAILED),
    ],
)
def test_what_remembers_longer_than_the_residue_fails(
    said: str | None, residue: str | None, state: State
) -> None:
    given = {"KEEPWORD_BACKUP_RETENTION_DAYS": said, "KEEPWORD_RESIDUE_DAYS": residue}
    environment = {name: value for name, value in given.items() if value is not None}
    findings = doctor.check_residue([CONFIG_MAP], environment)
    assert next(iter(findings)).state is state


def test_a_key_file_that_others_may_read_fails(tmp_path: Path) -> None:
    private, shared = tmp_path / "a", tmp_path / "b"
    for path, mode in ((private, 0o600), (shared, 0o640)):
        path.touch()
        path.chmod(mode)
    environment = {
        "KEEPWORD_CONFIG_KEY_ENCRYPTION_KEYS_FILE": str(private),
        "KEEPWORD_LEDGER_KEY_FILE": str(shared),
        "KEEPWORD_SESSION_KEY_FILE": str(tmp_path / "none"),
        "KEEPWORD_CLOCK_OFFSET_FILE": str(shared),
    }
    found = unwell(list(doctor.check_key_files(environment)))
    assert found == {
        "key file of KEEPWORD_LEDGER_KEY_FILE": "others may reach it (mode 0640)",
        "key file of KEEPWORD_SESSION_KEY_FILE": "FileNotFoundError",
    }
    assert [each.state for each in doctor.check_offset(environment)] == [State.WARNING]


# -- the command ----------------------------------------------------------------------------------


def test_a_pod_names_its_database_without_its_service() -> None:
    url = "postgresql://purger_eraser:x@db/purger"
    assert doctor.database_urls({"KEEPWORD_ERASER_DATABASE_URL": url}) == {
        "purger": {"eraser": url}
    }
    assert doctor.database_urls({"KEEPWORD_CONFIG_DATABASE_URL": url}) == {
        "config": {"runtime": url}
    }


async def test_the_command_fails_when_a_check_fails_and_warnings_alone_are_no_failure(
    purger: Roles,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("KEEPWORD_PURGER_BACKUP_DATABASE_URL", purger.backup_url)
    monkeypatch.setenv("KEEPWORD_LEDGER_KEY_FILE", str(ensure_signing_key(tmp_path / "key.pem")))

    assert await asyncio.to_thread(doctor.run_doctor, as_json=False, state=tmp_path) == 0
    said = capsys.readouterr().out
    assert "ok      purger: ledger: 0 entries, an unbroken chain" in said
    assert "Set KEEPWORD_LOG_RETENTION_DAYS" in said

    monkeypatch.setenv("KEEPWORD_LOG_RETENTION_DAYS", "400")
    assert await asyncio.to_thread(doctor.run_doctor, as_json=True, state=tmp_path) == 1
    findings = {each["check"]: each for each in json.loads(capsys.readouterr().out)}
    assert findings["retention of logs"]["state"] == "failed"


def test_nothing_to_look_at_is_misuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
    assert doctor.run_doctor(as_json=False, state=tmp_path) == 2
    assert "No stack is running" in capsys.readouterr().err


def test_keys_that_signed_the_ledger_before_are_known(tmp_path: Path) -> None:
    before = Ed25519PrivateKey.generate().public_key()
    file = ensure_signing_key(tmp_path / "ledger-key")
    pem = before.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    file.write_bytes(file.read_bytes() + pem)
    found = public_keys({"KEEPWORD_LEDGER_KEY_FILE": str(file)})
    assert len(found) == 2
    assert found[key_id_of(before)] == before
