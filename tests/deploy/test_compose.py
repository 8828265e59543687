"""A single host: the compose file gives every service what it reads, and its secrets are made once."""

import asyncio
import os
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import asyncpg
import pytest
import yaml

from chassis.keys import KeyEncryptionKeys
from chassis.migrations import migrate_all
from chassis.settings import PREFIX
from contracts.topics import SERVICES
from deploy.files import files, settings_of
from deploy.first_secrets import PASSWORDS, make_secrets, password_names
from devstack.postgres import ROLE_KINDS, binary, start_postgres
from services.installer.sessions import SessionSigner
from services.notifier.letters.dkim import Signer
from services.purger.ledger_key import LedgerKey

FOLDER = Path(__file__).parents[2] / "deploy" / "compose"
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text("utf-8"))
ONCE = {"migrate", "topics"}
_GIVEN = re.compile(r"\$\{([A-Z_]+)(?::[?-]([^}]*))?\}")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("secrets")
    make_secrets(folder, mail_domain="apps.example.com", now=datetime.now(UTC))
    return folder


def passwords_in(folder: Path) -> dict[str, str]:
    lines = (folder / PASSWORDS).read_text("utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines)


def environment_of(name: str, folder: Path) -> dict[str, str]:
    """What a container would find, by the example's variables and the passwords that were made."""
    example = (FOLDER / ".env.example").read_text("utf-8").splitlines()
    known = dict(line.split("=", 1) for line in example if "=" in line and line[0] != "#")
    known |= passwords_in(folder)

    def given(found: re.Match[str]) -> str:
        value = known.get(found[1], found[2])
        assert value, f"{found[1]} is given by nobody"
        return value

    return {
        key: _GIVEN.sub(given, str(value))
        for key, value in COMPOSE["services"][name]["environment"].items()
    }


def test_whatever_runs_on_says_whether_it_is_well() -> None:
    for name, service in COMPOSE["services"].items():
        health = service["healthcheck"]
        assert bool(health.get("disable")) == (name in ONCE)
        assert health.get("test", ["CMD"])[0] == "CMD"
        assert service["restart"] == ("no" if name in ONCE else "unless-stopped")


def test_one_container_alone_is_reached_from_outside() -> None:
    published = [name for name, service in COMPOSE["services"].items() if "ports" in service]
    assert published == ["door"]
    assert COMPOSE["networks"]["inside"]["internal"] is True
    for name in ("kafka", "postgres", *ONCE):
        assert COMPOSE["services"][name]["networks"] == ["inside"]


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_starts_with_what_the_file_gives_it(
    service: str, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = environment_of(service, made)
    assert set(given) <= {f"{PREFIX}{name.upper()}" for name in settings_of(service).model_fields}
    for name, value in (given | {f"{PREFIX}HTTP_PORT": "8080"}).items():
        monkeypatch.setenv(name, value)
    assert not settings_of(service).load().development
    for name, value in given.items():
        if name.endswith("_FILE"):
            assert Path(value).name in files(service)
            assert (made / service / Path(value).name).exists()


def test_secrets_are_what_the_services_read_and_are_made_once(made: Path) -> None:
    KeyEncryptionKeys.load(made / "config" / "key-encryption-keys")
    SessionSigner.load(made / "installer" / "session-key")
    LedgerKey.load(made / "purger" / "ledger-key")
    assert Signer.load(made / "notifier" / "dkim").domain == "apps.example.com"
    before = {path: path.read_bytes() for path in made.rglob("*") if path.is_file()}
    assert all(path.stat().st_mode & 0o077 == 0 for path in before)
    make_secrets(made, mail_domain="other.example.com", now=datetime.now(UTC))
    assert {path: path.read_bytes() for path in made.rglob("*") if path.is_file()} == before
    assert len(set(passwords_in(made).values())) == len(password_names())


def test_a_new_server_gets_the_roles_that_the_services_work_by(made: Path, tmp_path: Path) -> None:
    passwords = passwords_in(made)
    server = start_postgres(tmp_path / "postgres")
    try:
        parts = urlsplit(server.superuser_url())
        done = subprocess.run(
            [binary("psql"), "--quiet", "--no-psqlrc", f"--file={FOLDER / 'roles.sql'}"],
            env={
                **os.environ,
                **passwords,
                "PGHOST": str(parts.hostname),
                "PGPORT": str(parts.port),
                "PGUSER": str(parts.username),
                "PGPASSWORD": str(parts.password),
                "PGDATABASE": "postgres",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

        def url(service: str, kind: str) -> str:
            word = quote(passwords[f"{service}_{kind}_PASSWORD".upper()])
            return f"postgresql://{service}_{kind}:{word}@{parts.hostname}:{parts.port}/{service}"

        asyncio.run(migrate_all({service: url(service, "owner") for service in SERVICES}))
        assert asyncio.run(_who_sees_all([url("config", kind) for kind in ROLE_KINDS])) == [
            "config_backup"
        ]
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            asyncio.run(_who_sees_all([f"{url('config', 'runtime').rpartition('/')[0]}/purger"]))
    finally:
        server.stop()


async def _who_sees_all(urls: list[str]) -> list[str]:
    found: list[asyncpg.Record] = []
    for url in urls:
        connection = await asyncpg.connect(url)
        try:
            found += await connection.fetch(
                "SELECT rolname FROM pg_roles WHERE rolname = current_user AND rolbypassrls"
            )
        finally:
            await connection.close()
    return [str(row["rolname"]) for row in found]
