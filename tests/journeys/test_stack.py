import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import httpx2
import psutil
import pytest

from chassis.keys import KeyEncryptionKeys
from cli.doctor import State, examine
from devstack.key_files import ensure_key_encryption_keys, ensure_signing_key
from devstack.processes import FolderInUseError, StartFailedError
from devstack.stack import (
    LocalStack,
    NotOurFolderError,
    UnsentMessagesError,
    forget_state,
    known_endpoints,
    known_environment,
    start_local_stack,
    state_folder,
)
from services.installer.sessions import SessionSigner
from services.purger.ledger_key import LedgerKey
from tests.support.journey import without_given_servers

A_MESSAGE = """
    INSERT INTO outbox (written_at, epoch, topic, kind, record_key, ce_id, type, headers, data_class)
    SELECT now(), max(epoch), 'installer.erasures.v1', 'event', 'key', gen_random_uuid(), 'type',
           '[]', 'plumbing'
      FROM relay_epochs
"""


async def test_the_clock_is_moved_for_all_and_never_back(stack: LocalStack) -> None:
    to = stack.now() + timedelta(minutes=10)

    await stack.move_clock(to)
    await stack.move_clock(to - timedelta(days=1))

    assert timedelta() <= stack.now() - to < timedelta(seconds=30)


async def test_the_doctor_finds_a_fresh_stack_well(stack: LocalStack) -> None:
    environment = known_environment(stack.folder)
    assert environment is not None

    findings = await examine(environment)

    assert [each for each in findings if each.state is State.FAILED] == []
    checked = {each.check for each in findings if each.state is State.OK}
    assert {"purger: ledger", "notifier: eraser's sight", "topic purger.ledger.v1"} <= checked
    assert (stack.folder / "environment.json").stat().st_mode & 0o077 == 0


async def test_the_clock_stands_while_a_message_is_unsent(stack: LocalStack) -> None:
    before = stack.now()
    # Nobody is there to send it.
    stack.kill("installer")
    connection = await asyncpg.connect(stack.databases["installer"].runtime_url)
    try:
        await connection.execute(A_MESSAGE)

        with pytest.raises(UnsentMessagesError, match=r"installer \(1\)"):
            await stack.move_clock(before + timedelta(days=1), patience_seconds=0.2)

        assert stack.now() - before < timedelta(hours=1)
        await connection.execute("DELETE FROM outbox WHERE record_key = 'key'")
    finally:
        await connection.close()
    await stack.start("installer")
    await stack.move_clock(before + timedelta(minutes=30))
    assert stack.now() >= before + timedelta(minutes=30)


async def test_a_killed_service_is_away_and_comes_back_at_its_address(stack: LocalStack) -> None:
    url = f"{stack.endpoints.purger}/readyz"
    async with httpx2.AsyncClient() as http:
        assert (await http.get(url)).status_code == 200
        stack.kill("purger")
        with pytest.raises(httpx2.TransportError):
            await http.get(url)

        await stack.start("purger")

        assert (await http.get(url)).status_code == 200
    assert stack.ended() == []


async def test_who_asks_where_it_runs_is_told(stack: LocalStack) -> None:
    assert known_endpoints(stack.folder) == stack.endpoints
    assert known_endpoints(stack.folder / "elsewhere") is None


async def test_a_folder_in_use_is_neither_shared_nor_emptied(
    stack: LocalStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FolderInUseError, match="is it running already"):
        await start_local_stack(stack.folder, environment=without_given_servers())
    monkeypatch.setattr("devstack.stack.GONE_SECONDS", 0.1)
    with pytest.raises(FolderInUseError):
        forget_state(stack.folder)

    assert (stack.folder / "keys" / "ledger.pem").exists()


async def test_what_is_secret_is_for_its_owner_alone(stack: LocalStack) -> None:
    keys = list((stack.folder / "keys").iterdir())
    secret = [stack.folder / "roles.json", stack.folder / "environment.json", *keys]

    assert len(keys) == 8
    assert {stat.S_IMODE(path.stat().st_mode) for path in secret} == {0o600}
    for name in ("keys", "logs", "mail"):
        assert stat.S_IMODE((stack.folder / name).stat().st_mode) == 0o700


async def test_passwords_stand_on_no_command_line(stack: LocalStack) -> None:
    roles = json.loads((stack.folder / "roles.json").read_text())
    for service in ("installer", "config", "purger", "notifier"):
        command = " ".join(psutil.Process(stack.pid(service)).cmdline())
        assert f"services.{service}" in command
        assert not [password for password in roles.values() if password in command]


@pytest.mark.long
async def test_a_service_that_cannot_start_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "ledger.pem").write_text("no key")

    with pytest.raises(StartFailedError, match="KEEPWORD_LEDGER_KEY_FILE"):
        await start_local_stack(tmp_path, environment=without_given_servers())

    # Both servers have let go of their folders, else this would wait and fail.
    forget_state(tmp_path)


def test_keys_are_made_once_in_the_forms_that_services_read(tmp_path: Path) -> None:
    wall = datetime(2026, 11, 23, tzinfo=UTC)
    for _ in range(2):
        keks = ensure_key_encryption_keys(tmp_path / "keks.json", wall=wall)
        key = ensure_signing_key(tmp_path / "key.pem")
        before = (keks.read_bytes(), key.read_bytes())

    assert before == (keks.read_bytes(), key.read_bytes())
    assert KeyEncryptionKeys.load(keks).current_id == "2026-11"
    assert LedgerKey.load(key).key_id
    assert SessionSigner.load(key).key_id


def test_a_folder_that_was_never_a_stacks_is_not_emptied(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")

    with pytest.raises(NotOurFolderError):
        forget_state(tmp_path)

    assert (tmp_path / "thesis.txt").exists()
    forget_state(tmp_path / "missing")


def test_the_folder_is_the_given_one_or_the_checkouts(tmp_path: Path) -> None:
    assert state_folder({"KEEPWORD_STATE_DIR": str(tmp_path)}) == tmp_path
    assert state_folder({}).name == ".state"
    assert state_folder({}).parent.samefile(Path(__file__).parents[2])
