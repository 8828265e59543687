"""The whole of Keepword on one machine: Kafka, PostgreSQL, the stand-ins, the four services."""

import asyncio
import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import asyncpg
import httpx2

from chassis.clock import LOOK_EVERY_SECONDS, OffsetClock
from chassis.migrations import migrate_all
from chassis.settings import PREFIX
from contracts.topics import ALL_TOPICS, SERVICES, acls
from devstack import identity
from devstack.atlassian import marketplace, service_desk
from devstack.groups import forget_consumers
from devstack.kafka import Security, create_topics, grant, start_kafka
from devstack.key_files import ensure_key_encryption_keys, ensure_signing_key
from devstack.postgres import Roles
from devstack.private_files import kept_password, write_private
from devstack.processes import (
    LOOPBACK,
    PortTakenError,
    StartFailedError,
    free_port,
    lock_folder,
)
from devstack.programs import ROOT, Program
from devstack.provider import KAFKA_VARIABLE, ROLE_VARIABLES, start_stack

STATE_VARIABLE = "KEEPWORD_STATE_DIR"
APP_KEY = "com.example.reports"
APPS = [{"key": APP_KEY, "name": "Example Reports"}]
VENDOR = "Example Apps"
MAIL_FROM = "privacy@apps.example.com"

READY_SECONDS = 120.0
DRAINED_SECONDS = 15.0
# Kafka and PostgreSQL outlive a stack that was killed by a moment.
GONE_SECONDS = 20.0
POLL_SECONDS = 0.1
# uvicorn lets the signal that stopped it go on to the process.
ENDED_BY_SIGTERM = -15

_LOCK_FILE = "stack.lock"
_PORTS_FILE = "ports.json"
_ENDPOINTS_FILE = "endpoints.json"
_ENVIRONMENT_FILE = "environment.json"
_CLOCK_FILE = "clock-offset"

_UNSENT = """
    SELECT count(*)
      FROM outbox o
      LEFT JOIN relay_cursor c USING (epoch)
     WHERE c.epoch IS NULL OR (o.xid, o.position) > (c.xid, c.position)
"""

Tell = Callable[[str], None]


class UnsentMessagesError(Exception):
    """Messages were still unsent, so the clock was not moved."""


class NotOurFolderError(Exception):
    """The folder was never used by a stack, so it is not ours to empty."""


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where everything is reached over HTTP."""

    atlassian: str
    mail: str
    installer: str
    config: str
    purger: str
    notifier: str
    # Where staff sign on; empty where they do not.
    identity: str = ""

    def of(self, name: str) -> str:
        """Return the address of a service or a stand-in."""
        return str(getattr(self, name))


@dataclass(frozen=True, slots=True)
class Ended:
    """A program that ended by itself, and what it said last."""

    name: str
    status: int
    last_lines: str


@dataclass(frozen=True, slots=True)
class _Kafka:
    """How clients reach Kafka: who sets it up, and each service."""

    options: Mapping[str, Any] = field(repr=False)
    environment: Callable[[str], Mapping[str, str]]
    # Nobody but this stack uses it.
    is_ours: bool


def state_folder(environment: Mapping[str, str]) -> Path:
    """Return where the stack keeps its state: ``KEEPWORD_STATE_DIR``, else ``.state``.

    The latter lies in the checkout, or where we are when there is none.
    """
    if given := environment.get(STATE_VARIABLE):
        return Path(given).expanduser().resolve()
    checkout = ROOT if (ROOT / "pyproject.toml").exists() else Path.cwd()
    return checkout / ".state"


def known_endpoints(folder: Path) -> Endpoints | None:
    """Read where the stack that runs on this folder is reached; None when none runs."""
    try:
        return Endpoints(**json.loads((folder / _ENDPOINTS_FILE).read_text("utf-8")))
    except FileNotFoundError:
        return None


def known_environment(folder: Path) -> dict[str, str] | None:
    """Read the variables that name the databases, the Kafka and the key files of a stack.

    None when no stack runs on this folder.
    """
    try:
        found: dict[str, str] = json.loads((folder / _ENVIRONMENT_FILE).read_text("utf-8"))
    except FileNotFoundError:
        return None
    return found


def forget_state(folder: Path) -> None:
    """Empty a stack's folder, so that the next start begins afresh.

    Raises:
        FolderInUseError: a stack, or a server of one, still works there.
        NotOurFolderError: it holds something and was never a stack's.
    """
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not (folder / _LOCK_FILE).exists():
        raise NotOurFolderError(f"{folder} is no folder of a stack, so it is not emptied")
    locks = [folder / _LOCK_FILE, *folder.glob("*/*.lock")]
    held = [lock_folder(path, who="stack", patience_seconds=GONE_SECONDS) for path in locks]
    try:
        shutil.rmtree(folder)
    finally:
        for descriptor in held:
            os.close(descriptor)


class LocalStack:
    """A running stack. It ends with the process that started it, however that ends."""

    def __init__(
        self,
        folder: Path,
        *,
        databases: Mapping[str, Roles],
        kafka: _Kafka,
        endpoints: Endpoints,
        services: Mapping[str, Program],
        stand_ins: Mapping[str, Program],
        started: AsyncExitStack,
    ) -> None:
        self.folder = folder
        self.databases = databases
        # The keywords with which any aiokafka client connects, as the administrator.
        self.kafka_options = kafka.options
        self._kafka = kafka
        self.endpoints = endpoints
        self._services = services
        self._stand_ins = stand_ins
        self._started = started
        self._clock = OffsetClock(folder / _CLOCK_FILE)
        self._moving = asyncio.Lock()

    async def __aenter__(self) -> Self:
        """Use it as it runs."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop it."""
        await self.stop()

    def now(self) -> datetime:
        """Business time, as the services see it."""
        return self._clock.now()

    async def move_clock(self, to: datetime, *, patience_seconds: float = DRAINED_SECONDS) -> None:
        """Move business time on; when this returns it is ``to``, or later, for every service.

        Only while every outbox is empty: what was said before is then said,
        and no message looks half a year late. Time never moves back.

        Raises:
            UnsentMessagesError: an outbox did not become empty; the clock stays.
        """
        async with self._moving:
            if to <= self.now():
                return
            await self._wait_until_sent(patience_seconds)
            offset = (to - datetime.now(UTC)).total_seconds()
            write_private(self.folder / _CLOCK_FILE, str(offset).encode())
            await asyncio.sleep(2 * LOOK_EVERY_SECONDS)

    def kill(self, service: str) -> None:
        """End a service as a power cut would."""
        self._services[service].kill()

    def move_database(self, service: str, roles: Roles) -> None:
        """Let a service work on another database from its next start on, as after a restore."""
        self.databases = {**self.databases, service: roles}
        self._services[service].change_environment(_database_variables(roles))

    async def start(self, service: str) -> None:
        """Start a service again, and return when it may be given work."""
        program = self._services[service]
        if not program.alive:
            if self._kafka.is_ours:
                await forget_consumers([service], **self._kafka.options)
            program.start()
        await _wait_until_ready(program, f"{self.endpoints.of(service)}/readyz")

    def pid(self, service: str) -> int:
        """Return the number of a service's process."""
        return self._services[service].pid

    def log_of(self, name: str) -> Path:
        """Return the file with all that a service or a stand-in has logged."""
        return _log_file(self.folder, name)

    def ended(self) -> list[Ended]:
        """List the programs that ended by themselves; nobody has asked them to."""
        programs = [*self._services.values(), *self._stand_ins.values()]
        return [
            Ended(program.name, program.status, program.last_lines())
            for program in programs
            if program.status is not None
        ]

    async def stop(self) -> None:
        """Stop everything, what was started last first; once more is no harm.

        Raises:
            RuntimeError: something did not end cleanly; the rest is stopped all the same.
        """
        await self._started.aclose()

    async def _wait_until_sent(self, patience_seconds: float) -> None:
        deadline = time.monotonic() + patience_seconds
        unsent = await asyncio.gather(
            *(
                _unsent_at(service, roles.backup_url, deadline)
                for service, roles in self.databases.items()
            )
        )
        late = [f"{service} ({count})" for service, count in unsent if count]
        if late:
            raise UnsentMessagesError(
                f"after {patience_seconds:.0f} s there are messages still unsent: {', '.join(late)};"
                f" the clock was not moved, see the logs in {self.folder / 'logs'}"
            )


async def start_local_stack(
    folder: Path,
    *,
    environment: Mapping[str, str],
    containers: bool = False,
    secured: bool = False,
    licences: bool = False,
    sign_on: bool = False,
    tell: Tell = lambda _: None,
) -> LocalStack:
    """Start everything on the state in ``folder``, and return when every service is ready.

    What the folder holds from before is used again: data, keys, ports, the
    clock. Kafka and databases may be given or be containers, as
    ``devstack.provider`` says; a ``secured`` Kafka is always our own, with TLS,
    a user for each service and the permissions of ``contracts.topics``. With
    ``licences`` installer and notifier read the Marketplace's report: whoever installs
    then pays until its licence is ended, and people stay for as long. With
    ``sign_on`` staff have to say who they are, to a provider that believes them. ``tell``
    hears what is being done. Call this on the main thread.

    Raises:
        FolderInUseError: another stack works on the folder.
        StartFailedError: something did not come up, with the last lines of its log.
        HalfGivenError, NoDockerError, JarsUnavailableError: as ``devstack.provider`` says.
    """
    folder = _prepared(folder)
    async with AsyncExitStack() as started:
        started.callback(
            os.close, lock_folder(folder / _LOCK_FILE, who="stack", patience_seconds=1.0)
        )
        tell("Kafka and PostgreSQL")
        kafka, databases = await _start_servers(
            started, folder, environment, containers=containers, secured=secured
        )
        tell("topics and tables")
        await _create_topics(kafka)
        if kafka.is_ours:
            await forget_consumers(SERVICES, **kafka.options)
        await migrate_all({name: roles.owner_url for name, roles in databases.items()})
        tell("stand-ins and services")
        programs = _Programs(
            folder, environment, databases, kafka, licences=licences, sign_on=sign_on
        )
        endpoints = await _start_programs(started, programs)
        said = folder / _ENDPOINTS_FILE
        said.write_text(json.dumps(asdict(endpoints), indent=1), encoding="utf-8")
        started.callback(said.unlink, missing_ok=True)
        named = folder / _ENVIRONMENT_FILE
        write_private(named, json.dumps(_environment(folder, databases, kafka), indent=1).encode())
        started.callback(named.unlink, missing_ok=True)
        return LocalStack(
            folder,
            databases=databases,
            kafka=kafka,
            endpoints=endpoints,
            services=programs.services,
            stand_ins=programs.stand_ins,
            started=started.pop_all(),
        )


def _environment(folder: Path, databases: Mapping[str, Roles], kafka: _Kafka) -> Mapping[str, str]:
    keys = folder / "keys"
    return {
        **kafka.environment("purger"),
        **{
            variable.format(service.upper()): str(getattr(roles, kind))
            for service, roles in databases.items()
            for kind, variable in ROLE_VARIABLES.items()
        },
        **{
            f"{PREFIX}{service.upper()}_KEY_ENCRYPTION_KEYS_FILE": str(keys / f"{service}.json")
            for service in databases
        },
        f"{PREFIX}LEDGER_KEY_FILE": str(keys / "ledger.pem"),
        f"{PREFIX}SESSION_KEY_FILE": str(keys / "session.pem"),
        f"{PREFIX}EXPORT_KEY_FILE": str(keys / "exports.pem"),
        f"{PREFIX}CLOCK_OFFSET_FILE": str(folder / _CLOCK_FILE),
    }


def _prepared(folder: Path) -> Path:
    """Make the folder where it is missing; what it holds is for its owner alone."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    # PostgreSQL may have to run as somebody else, who passes through.
    folder.chmod(0o711)
    for name in ("keys", "kafka", "logs", "mail"):
        (folder / name).mkdir(mode=0o700, exist_ok=True)
    return folder


async def _start_servers(
    started: AsyncExitStack,
    folder: Path,
    environment: Mapping[str, str],
    *,
    containers: bool,
    secured: bool,
) -> tuple[_Kafka, Mapping[str, Roles]]:
    kafka = None
    if secured:
        kafka = _start_secured_kafka(started, folder / "kafka-secured")
        environment = {**environment, KAFKA_VARIABLE: kafka.options["bootstrap_servers"]}
    servers = await start_stack(
        SERVICES, folder=folder, environment=environment, containers=containers
    )
    started.callback(servers.stop)
    if kafka is None:
        address = {"bootstrap_servers": servers.bootstrap_servers}
        variables = {f"{PREFIX}KAFKA_BOOTSTRAP_SERVERS": servers.bootstrap_servers}
        given = bool(environment.get(KAFKA_VARIABLE))
        kafka = _Kafka(address, lambda _: variables, is_ours=not given)
    return kafka, servers.databases


def _start_secured_kafka(started: AsyncExitStack, folder: Path) -> _Kafka:
    folder.mkdir(parents=True, exist_ok=True)
    passwords = {name: kept_password(folder / f"{name}.password") for name in SERVICES}
    broker = start_kafka(folder, secured=Security(passwords))
    started.callback(broker.stop)

    def environment_of(service: str) -> Mapping[str, str]:
        return {
            f"{PREFIX}KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
            f"{PREFIX}KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            f"{PREFIX}KAFKA_USERNAME": service,
            f"{PREFIX}KAFKA_PASSWORD": passwords[service],
            f"{PREFIX}KAFKA_CA_FILE": str(broker.ca_file),
        }

    return _Kafka(broker.client_options(), environment_of, is_ours=True)


async def _create_topics(kafka: _Kafka) -> None:
    await create_topics(ALL_TOPICS, **kafka.options)
    if "sasl_mechanism" in kafka.options:
        await grant(acls(), **kafka.options)


class _Programs:
    """The six processes of ours, each with its port and its environment."""

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str],
        databases: Mapping[str, Roles],
        kafka: _Kafka,
        *,
        licences: bool,
        sign_on: bool,
    ) -> None:
        self._folder = folder
        self._licences = licences
        self._sign_on = sign_on
        # Nothing that was meant for somebody else gets through, least of all its passwords.
        self._inherited = {
            name: value for name, value in environment.items() if not name.startswith(PREFIX)
        }
        self._databases = databases
        self._kafka = kafka
        self.services: dict[str, Program] = {}
        self.stand_ins: dict[str, Program] = {}

    def prepare(self) -> Endpoints:
        """Choose ports, those of last time where they are free, and build the programs."""
        others = ("atlassian", "mail", "smtp", *(("identity",) if self._sign_on else ()))
        ports = _kept_ports(self._folder / _PORTS_FILE, (*SERVICES, *others))
        urls = {name: f"http://{LOOPBACK}:{ports[name]}" for name in ports if name != "smtp"}
        self.stand_ins = {
            "mail": self._program(
                "mail",
                [
                    "devstack.mail",
                    f"--folder={self._folder / 'mail'}",
                    f"--smtp-port={ports['smtp']}",
                    f"--http-port={ports['mail']}",
                ],
            ),
            "atlassian": self._program(
                "atlassian",
                [
                    "devstack.atlassian",
                    f"--installer-url={urls['installer']}",
                    f"--app-key={APP_KEY}",
                    f"--port={ports['atlassian']}",
                    # So that nobody's real site is ever called from here.
                    "--sites-here",
                ],
            ),
        }
        if self._sign_on:
            self.stand_ins["identity"] = self._program(
                "identity", ["devstack.identity", f"--port={ports['identity']}"]
            )
        own = self._own_settings(urls, smtp_port=ports["smtp"])
        self.services = {
            service: self._program(
                service,
                [f"services.{service}"],
                {
                    **self._shared_settings(service, urls[service], ports[service]),
                    **self._staff(service, urls.get("identity")),
                    f"{PREFIX}STAFF_SERVICES": json.dumps({name: urls[name] for name in SERVICES}),
                    **{f"{PREFIX}{name}": value for name, value in own[service].items()},
                },
            )
            for service in SERVICES
        }
        return Endpoints(**urls)

    def _program(
        self, name: str, command: list[str], settings: Mapping[str, str] | None = None
    ) -> Program:
        return Program(
            name,
            command,
            log=_log_file(self._folder, name),
            environment={**self._inherited, **(settings or {})},
            clean_statuses=(0, ENDED_BY_SIGTERM) if name in ("atlassian", "identity") else (0,),
        )

    def _shared_settings(self, service: str, url: str, port: int) -> Mapping[str, str]:
        roles = self._databases[service]
        keys = self._folder / "keys" / f"{service}.json"
        return {
            **self._kafka.environment(service),
            **_database_variables(roles),
            f"{PREFIX}HTTP_HOST": LOOPBACK,
            f"{PREFIX}HTTP_PORT": str(port),
            f"{PREFIX}PUBLIC_URL": url,
            f"{PREFIX}DEVELOPMENT": "true",
            f"{PREFIX}CLOCK_OFFSET_FILE": str(self._folder / _CLOCK_FILE),
            f"{PREFIX}KEY_ENCRYPTION_KEYS_FILE": str(
                ensure_key_encryption_keys(keys, wall=datetime.now(UTC))
            ),
        }

    def _staff(self, service: str, issuer: str | None) -> Mapping[str, str]:
        if issuer is None:
            return {}
        secret_file = self._folder / "keys" / "staff-client-secret"
        write_private(secret_file, identity.SECRET.encode())
        return {
            f"{PREFIX}STAFF_ISSUER": issuer,
            f"{PREFIX}STAFF_CLIENT_ID": f"keepword-{service}",
            f"{PREFIX}STAFF_CLIENT_SECRET_FILE": str(secret_file),
            f"{PREFIX}STAFF_GROUPS": json.dumps(identity.groups()),
            f"{PREFIX}AUDIT_FILE": str(self._folder / f"audit-{service}.jsonl"),
            f"{PREFIX}AUDIT_KEY_FILE": str(
                ensure_signing_key(self._folder / "keys" / f"audit-{service}.pem")
            ),
        }

    def _own_settings(
        self, urls: Mapping[str, str], *, smtp_port: int
    ) -> Mapping[str, Mapping[str, str]]:
        keys = self._folder / "keys"
        return {
            "installer": {
                "APPS": json.dumps(APPS),
                "INSTALL_KEYS_URL": f"{urls['atlassian']}/install-keys",
                # The stand-in shows an app's page in a frame, and serves the bridge to it.
                "DEVELOPMENT_SITE_HOSTS": json.dumps([urlsplit(urls["atlassian"]).netloc]),
                "CONNECT_BRIDGE_URL": f"{urls['atlassian']}/all.js",
                "CONFIG_PUBLIC_URL": urls["config"],
                "NOTIFIER_PUBLIC_URL": urls["notifier"],
                "DATA_LOCATION": "This machine",
                "PRIVACY_POLICY_URL": "https://apps.example.com/privacy",
                "SESSION_KEY_FILE": str(ensure_signing_key(keys / "session.pem")),
                **self._reports(urls["atlassian"], due="LICENCE_REPORT_SECONDS"),
            },
            "config": {
                "SESSION_JWKS_URL": f"{urls['installer']}/.well-known/jwks.json",
                "EXPORT_JWKS_URL": f"{urls['notifier']}/.well-known/jwks.json",
                "INSTALLER_PUBLIC_URL": urls["installer"],
                "DATA_LOCATION": "This machine",
            },
            "purger": {
                "LEDGER_KEY_FILE": str(ensure_signing_key(keys / "ledger.pem")),
                "CHECKPOINT_FILE": str(self._folder / "ledger-checkpoints"),
                "SWEEP_SECONDS": "1",
            },
            "notifier": {
                "SMTP_HOST": LOOPBACK,
                "SMTP_PORT": str(smtp_port),
                "MAIL_FROM": MAIL_FROM,
                "VENDOR_NAME": VENDOR,
                "PURGER_PUBLIC_URL": urls["purger"],
                "INSTALLER_PUBLIC_URL": urls["installer"],
                "CONFIG_PUBLIC_URL": urls["config"],
                "EXPORT_KEY_FILE": str(ensure_signing_key(keys / "exports.pem")),
                "SESSION_JWKS_URL": f"{urls['installer']}/.well-known/jwks.json",
                **self._service_desk(urls["atlassian"]),
                **self._reports(urls["atlassian"], due="PEOPLE_REPORT_SECONDS"),
            },
        }

    def _service_desk(self, url: str) -> Mapping[str, str]:
        token_file = self._folder / "keys" / "service-desk-token"
        write_private(token_file, service_desk.TOKEN.encode())
        return {
            "TICKETS_URL": f"{url}{service_desk.PATH}",
            "TICKETS_PROJECT": service_desk.PROJECT,
            "TICKETS_LICENCE_FIELD": service_desk.LICENCE_FIELD,
            "TICKETS_ACCOUNT": service_desk.ACCOUNT,
            "TICKETS_TOKEN_FILE": str(token_file),
        }

    def _reports(self, url: str, *, due: str) -> Mapping[str, str]:
        if not self._licences:
            return {}
        token_file = self._folder / "keys" / "marketplace-token"
        write_private(token_file, marketplace.TOKEN.encode())
        return {
            "MARKETPLACE_URL": url,
            "MARKETPLACE_DEVELOPER_ID": marketplace.DEVELOPER_ID,
            "MARKETPLACE_ACCOUNT": marketplace.ACCOUNT,
            "MARKETPLACE_TOKEN_FILE": str(token_file),
            # Licences that are made up on a page show what they do within seconds.
            due: "2",
        }


def _database_variables(roles: Roles) -> Mapping[str, str]:
    return {
        f"{PREFIX}DATABASE_URL": roles.runtime_url,
        f"{PREFIX}WORKER_DATABASE_URL": roles.worker_url,
        f"{PREFIX}ERASER_DATABASE_URL": roles.eraser_url,
    }


async def _start_programs(started: AsyncExitStack, programs: _Programs) -> Endpoints:
    """Start all at once and wait for each; again where a port was taken from us meanwhile."""
    for _ in range(2):
        with suppress(PortTakenError):
            return await _start_on_chosen_ports(started, programs)
    return await _start_on_chosen_ports(started, programs)


async def _start_on_chosen_ports(started: AsyncExitStack, programs: _Programs) -> Endpoints:
    endpoints = programs.prepare()
    everything = {**programs.stand_ins, **programs.services}
    probes = {
        "mail": f"{endpoints.mail}/messages.json",
        "atlassian": f"{endpoints.atlassian}/key-host",
        "identity": f"{endpoints.identity}/.well-known/openid-configuration",
        **{service: f"{endpoints.of(service)}/readyz" for service in SERVICES},
    }
    try:
        for program in everything.values():
            program.start()
        await _wait_until_all_ready(
            [(program, probes[name]) for name, program in everything.items()]
        )
    except BaseException:
        # What has just begun has nothing to finish.
        for program in everything.values():
            program.kill()
        raise
    started.push_async_callback(_stop_all, programs.stand_ins.values())
    started.push_async_callback(_stop_all, programs.services.values())
    return endpoints


async def _wait_until_all_ready(probes: Collection[tuple[Program, str]]) -> None:
    """Return when all are ready; the first that cannot be ends the waiting for the others."""
    waiting = [asyncio.create_task(_wait_until_ready(*probe)) for probe in probes]
    try:
        await asyncio.gather(*waiting)
    finally:
        for task in waiting:
            task.cancel()


async def _stop_all(programs: Collection[Program]) -> None:
    """Stop these programs at once, each of them whatever becomes of the others."""
    ends = await asyncio.gather(*(each.stop() for each in programs), return_exceptions=True)
    failures = [str(end) for end in ends if isinstance(end, BaseException)]
    if failures:
        raise RuntimeError("\n".join(failures))


async def _wait_until_ready(program: Program, url: str) -> None:
    deadline = time.monotonic() + READY_SECONDS
    reason = "it does not answer"
    async with httpx2.AsyncClient(timeout=5.0) as http:
        while time.monotonic() < deadline:
            if not program.alive:
                error = PortTakenError if program.port_was_taken else StartFailedError
                raise error(f"{program.name} ended while it started\n{program.last_lines()}")
            with suppress(httpx2.HTTPError):
                answer = await http.get(url)
                if answer.is_success:
                    return
                reason = answer.text
            await asyncio.sleep(POLL_SECONDS)
    raise StartFailedError(
        f"{program.name} was not ready after {READY_SECONDS:.0f} s: {reason}\n"
        f"{program.last_lines()}"
    )


async def _unsent_at(service: str, url: str, deadline: float) -> tuple[str, int]:
    """Count a service's unsent messages, until there is none or the time is over."""
    # The backup role alone reads everything, and writes nothing.
    connection = await asyncpg.connect(url)
    try:
        while (count := await connection.fetchval(_UNSENT)) and time.monotonic() < deadline:
            await asyncio.sleep(POLL_SECONDS)
        return service, int(count)
    finally:
        await connection.close()


def _kept_ports(path: Path, names: Collection[str]) -> dict[str, int]:
    """Return a port for each name: that of last time, so that links in mails still lead there."""
    known: dict[str, int] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    ports = {name: known[name] for name in names if name in known and _is_free(known[name])}
    for name in names:
        while name not in ports:
            port = free_port()
            if port not in ports.values():
                ports[name] = port
    write_private(path, json.dumps(ports).encode())
    return ports


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As a server binds: a connection of last time that lingers takes no port away.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def _log_file(folder: Path, name: str) -> Path:
    return folder / "logs" / f"{name}.log"
