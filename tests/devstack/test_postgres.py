import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from devstack import postgres as module
from devstack.postgres import (
    NOBODY,
    Roles,
    RunningPostgres,
    dump,
    provision,
    restore,
    start_postgres,
)
from devstack.processes import StartFailedError
from tests.support.stack import Databases

SERVICES = ("installer", "purger")


async def ask(url: str, *statements: str) -> object:
    """The value of the last statement."""
    connection = await asyncpg.connect(url)
    try:
        value: object = None
        for statement in statements:
            value = await connection.fetchval(statement)
        return value
    finally:
        await connection.close()


def with_password(url: str, password: str) -> str:
    parts = urlsplit(url)
    assert parts.password is not None
    return url.replace(f":{parts.password}@", f":{password}@")


@pytest.fixture(scope="module")
async def roles(databases: Databases) -> dict[str, Roles]:
    return await databases(*SERVICES)


async def test_each_role_enters_its_own_database_as_itself(roles: dict[str, Roles]) -> None:
    for service in SERVICES:
        for kind in ("owner", "runtime", "worker", "eraser", "backup"):
            url = getattr(roles[service], f"{kind}_url")
            assert await ask(url, "SELECT current_user::text") == f"{service}_{kind}"


@pytest.mark.parametrize("password", ["guessed", ""])
async def test_a_wrong_password_is_refused(roles: dict[str, Roles], password: str) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await ask(with_password(roles["purger"].runtime_url, password), "SELECT 1")


async def test_the_superuser_needs_a_password_too(postgres: RunningPostgres) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await ask(with_password(postgres.superuser_url(), "postgres"), "SELECT 1")


@pytest.mark.parametrize("kind", ["owner", "runtime", "worker", "eraser", "backup"])
async def test_another_services_role_cannot_connect(roles: dict[str, Roles], kind: str) -> None:
    theirs = urlsplit(roles["purger"].owner_url).path
    url = urlsplit(getattr(roles["installer"], f"{kind}_url"))._replace(path=theirs).geturl()

    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await ask(url, "SELECT 1")


async def test_only_the_owner_may_make_tables(roles: dict[str, Roles]) -> None:
    for kind in ("runtime", "worker", "eraser", "backup"):
        with pytest.raises(
            (asyncpg.InsufficientPrivilegeError, asyncpg.ReadOnlySQLTransactionError)
        ):
            await ask(getattr(roles["purger"], f"{kind}_url"), "CREATE TABLE public.mine (id int)")
    await ask(roles["purger"].owner_url, "CREATE TABLE public.mine (id int)")


async def test_only_the_backup_role_passes_row_level_security(
    postgres: RunningPostgres, roles: dict[str, Roles]
) -> None:
    await ask(
        roles["installer"].owner_url,
        "CREATE TABLE guarded AS SELECT 1 AS id",
        "ALTER TABLE guarded ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE guarded FORCE ROW LEVEL SECURITY",
        "GRANT SELECT ON guarded TO installer_runtime, installer_worker, installer_eraser",
    )

    seen = {
        kind: await ask(getattr(roles["installer"], f"{kind}_url"), "SELECT count(*) FROM guarded")
        for kind in ("owner", "runtime", "worker", "eraser", "backup")
    }

    assert seen == {"owner": 0, "runtime": 0, "worker": 0, "eraser": 0, "backup": 1}
    archive = await dump(roles["installer"].backup_url)
    assert b"guarded" in archive
    with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.ReadOnlySQLTransactionError)):
        await ask(roles["installer"].backup_url, "DELETE FROM guarded RETURNING id")


async def test_no_role_has_powers_over_the_server(
    postgres: RunningPostgres, roles: dict[str, Roles]
) -> None:
    powerful = """
        SELECT count(*) FROM pg_roles
         WHERE rolname LIKE 'purger\\_%'
           AND (rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication)
    """
    bypassing = "SELECT string_agg(rolname, ',') FROM pg_roles WHERE rolbypassrls"

    assert await ask(postgres.superuser_url(), powerful) == 0
    assert "purger_backup" in str(await ask(postgres.superuser_url(), bypassing))
    assert "purger_runtime" not in str(await ask(postgres.superuser_url(), bypassing))


async def test_databases_of_two_sets_are_apart(databases: Databases) -> None:
    first, second = await databases("purger"), await databases("purger")
    await ask(first["purger"].owner_url, "CREATE TABLE seen (id int)")

    assert await ask(second["purger"].owner_url, "SELECT to_regclass('seen')::text") is None


async def test_a_dump_restores_into_an_empty_database_with_its_grants(
    postgres: RunningPostgres, databases: Databases
) -> None:
    source, target = (await databases("purger"))["purger"], (await databases("purger"))["purger"]
    await ask(
        source.owner_url,
        "CREATE TABLE kept AS SELECT 'a row' AS value",
        "GRANT SELECT ON kept TO purger_runtime",
    )
    empty = postgres.superuser_url(urlsplit(target.owner_url).path.strip("/"))

    await restore(empty, await dump(source.backup_url))

    assert await ask(target.runtime_url, "SELECT value FROM kept") == "a row"
    with pytest.raises(RuntimeError, match="already exists"):
        await restore(empty, await dump(source.backup_url))


async def test_provisioning_again_and_at_once_changes_nothing(
    postgres: RunningPostgres, tmp_path: Path
) -> None:
    async def again() -> dict[str, Roles]:
        return await provision(
            postgres.superuser_url(), ["drilled"], folder=tmp_path, suffix="_again"
        )

    first, *others = await asyncio.gather(again(), again(), again())
    await ask(first["drilled"].owner_url, "CREATE TABLE seen (id int)")

    assert [first] * 2 == others
    assert await again() == first
    assert await ask(first["drilled"].owner_url, "SELECT to_regclass('seen')::text") == "seen"


async def test_a_restart_and_a_kill_keep_port_passwords_and_rows(tmp_path: Path) -> None:
    server = start_postgres(tmp_path)
    url = server.superuser_url()
    await ask(url, "CREATE TABLE kept AS SELECT 'a row' AS value")

    server.restart()
    assert await ask(url, "SELECT value FROM kept") == "a row"
    await ask(url, "UPDATE kept SET value = 'committed'")
    server.kill()
    assert not server.alive
    server.restart()

    assert await ask(url, "SELECT value FROM kept") == "committed"
    server.stop()
    again = start_postgres(tmp_path, host="127.0.0.2")
    assert urlsplit(again.superuser_url()).hostname == "127.0.0.2"
    assert await ask(again.superuser_url(), "SELECT value FROM kept") == "committed"
    again.stop()


async def test_the_server_writes_through_and_keeps_rows_out_of_its_log(
    postgres: RunningPostgres,
) -> None:
    url = postgres.superuser_url()
    assert await ask(url, "SHOW fsync") == "on"
    assert await ask(url, "SHOW max_connections") == "300"
    assert await ask(url, "SHOW wal_level") == "logical"

    with pytest.raises(asyncpg.UniqueViolationError):
        await ask(
            url,
            "CREATE TEMP TABLE people (address text UNIQUE)",
            "INSERT INTO people VALUES ('jane@example.com'), ('jane@example.com')",
        )

    log = postgres._child.log.read_text()
    assert "duplicate key" in log
    assert "jane@example.com" not in log


async def test_passwords_are_for_their_owner_alone(
    postgres: RunningPostgres, tmp_path: Path
) -> None:
    roles = await provision(postgres.superuser_url(), ["drilled"], folder=tmp_path)

    for path in (postgres._folder / "superuser.password", tmp_path / "roles.json"):
        assert path.stat().st_mode & 0o077 == 0
    assert "postgresql://" not in repr(roles)


def test_data_of_another_major_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "PG_VERSION").write_text("17\n")

    with pytest.raises(StartFailedError, match="written by PostgreSQL 17"):
        start_postgres(tmp_path)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user of the machine can enter, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="keepword-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody")
async def test_where_root_has_no_namespaces_the_server_runs_as_nobody(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_stand_in", lambda: module._StandIn(user=NOBODY))

    server = start_postgres(open_folder)

    assert await ask(server.superuser_url(), "SELECT 1") == 1
    assert (open_folder / "data").stat().st_uid == NOBODY.uid
    server.restart()
    server.stop()
