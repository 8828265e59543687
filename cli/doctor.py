"""`keepword doctor`: is everything as the data maps and the contracts want it? It changes nothing."""

import asyncio
import json
import os
import stat
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import asyncpg
from aiokafka.errors import KafkaError
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from rich.console import Console
from rich.markup import escape

from chassis.broker import KafkaAccess
from chassis.data_map import DataMap, rights, undeclared
from chassis.database import Connection, connect
from chassis.erasure import is_blind
from chassis.migrations import newest_versions
from cli.record import data_map_of
from cli.running import FAILED, MISUSED
from cli.topics import Real, kafka_access, look, plan
from contracts.ledger import GENESIS, BrokenChain, LedgerEntry, LedgerHead, verify_chain
from contracts.topics import ALL_TOPICS, SERVICES, Topic
from devstack.provider import KAFKA_VARIABLE, ROLE_VARIABLES
from devstack.stack import known_environment, state_folder
from services.purger.ledger_key import BadLedgerKey, LedgerKey
from services.purger.store.ledger import ledger_end, ledger_entries

_PATIENCE_SECONDS: Final = 10.0
_CLOCKS_MAY_DIFFER: Final = timedelta(seconds=5)
_ENTRIES_A_PAGE: Final = 1_000
_RESIDUE: Final = "KEEPWORD_RESIDUE_DAYS"
_USUAL_RESIDUE: Final = 14
_AS_AGREED: Final = "`keepword topics apply` makes it as contracts/topics.py says."
_VERBS: Final = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE")
_KEY_FILES: Final = (
    "KEY_ENCRYPTION_KEYS_FILE",
    "LEDGER_KEY_FILE",
    "SESSION_KEY_FILE",
    "EXPORT_KEY_FILE",
    "MARKETPLACE_TOKEN_FILE",
)


class State(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found, and what to do where it is not well."""

    check: str
    state: State
    detail: str
    advice: str = ""


def ok(check: str, detail: str) -> Finding:
    """All is well."""
    return Finding(check, State.OK, detail)


def warning(check: str, detail: str, advice: str) -> Finding:
    """It may be well, or could not be looked at."""
    return Finding(check, State.WARNING, detail, advice)


def failed(check: str, detail: str, advice: str) -> Finding:
    """A promise may not be kept."""
    return Finding(check, State.FAILED, detail, advice)


def run_doctor(*, as_json: bool, state: Path | None) -> int:
    """Look at all that the environment names, else at the stack that runs here."""
    environment: Mapping[str, str] = os.environ
    if not _is_named(environment):
        environment = known_environment(state or state_folder(os.environ)) or {}
    if not _is_named(environment):
        Console(stderr=True).print(
            "No stack is running, and the environment names neither a database nor a Kafka. Set"
            f" {ROLE_VARIABLES['runtime_url'].format('PURGER')} and the like, or {KAFKA_VARIABLE}.",
            soft_wrap=True,
        )
        return MISUSED
    findings = asyncio.run(examine(environment))
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))  # noqa: T201 - for programs, so not wrapped
    else:
        _show(Console(), findings)
    return FAILED if any(finding.state is State.FAILED for finding in findings) else 0


def _show(console: Console, findings: Sequence[Finding]) -> None:
    colours = {State.OK: "green", State.WARNING: "yellow", State.FAILED: "red"}
    for each in findings:
        word = f"[{colours[each.state]}]{each.state:7}[/]"
        line = f"{word} {escape(each.check)}: {escape(each.detail)}"
        console.print(line, highlight=False, soft_wrap=True)
        if each.advice:
            console.print(f"        {escape(each.advice)}", highlight=False, soft_wrap=True)
    counts = [
        f"{sum(each.state is state for each in findings)} {state}"
        for state in (State.OK, State.WARNING, State.FAILED)
    ]
    console.print(", ".join(counts), highlight=False)


async def examine(environment: Mapping[str, str]) -> list[Finding]:
    """Make every check that can be made from here; one that cannot is a warning or left out."""
    findings: list[Finding] = []
    for service, urls in database_urls(environment).items():
        findings += await check_database(data_map_of(service), urls)
        if service == "purger":
            findings += await check_ledger(urls, public_keys(environment))
    access = kafka_access(environment, "keepword-doctor")
    if access is not None:
        findings += await check_topics(access, ALL_TOPICS)
    findings += check_residue([data_map_of(service) for service in SERVICES], environment)
    findings += check_key_files(environment)
    findings += check_offset(environment)
    return findings


def _is_named(environment: Mapping[str, str]) -> bool:
    return (
        bool(database_urls(environment)) or kafka_access(environment, "keepword-doctor") is not None
    )


# -- the environment ----------------------------------------------------------------------------


def database_urls(environment: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Read which databases are named, by service and role.

    On an operator's machine each service has variables of its own; in a service's pod the name
    of the role tells whose database it is.
    """
    found: dict[str, dict[str, str]] = {}
    for service in SERVICES:
        for role, variable in ROLE_VARIABLES.items():
            if url := environment.get(variable.format(service.upper())):
                found.setdefault(service, {})[_kind(role)] = url
    for role, variable in ROLE_VARIABLES.items():
        own = environment.get(variable.replace("_{}", ""), "")
        if (named := _service_of(own, _kind(role))) is not None:
            found.setdefault(named, {}).setdefault(_kind(role), own)
    return found


def _kind(role: str) -> str:
    return role.removesuffix("_url")


def _service_of(url: str, kind: str) -> str | None:
    service = (urlsplit(url).username or "").removesuffix(f"_{kind}")
    return service if service in SERVICES else None


def public_keys(environment: Mapping[str, str]) -> dict[str, Ed25519PublicKey]:
    """Read with which key the ledger is verified; empty where the key is not here."""
    name = environment.get("KEEPWORD_LEDGER_KEY_FILE")
    if not name:
        return {}
    try:
        key = LedgerKey.load(Path(name))
    except BadLedgerKey:
        return {}
    return dict(key.public_keys)


# -- databases ------------------------------------------------------------------------------------


async def check_database(data_map: DataMap, urls: Mapping[str, str]) -> list[Finding]:
    """Look at one service's database with whichever of its roles are named."""
    service = data_map.service
    findings: list[Finding] = []
    async with AsyncExitStack() as stack:
        opened: dict[str, Connection] = {}
        for kind, url in urls.items():
            check = f"{service}: database as {kind}"
            try:
                opened[kind] = await stack.enter_async_context(_connected(url))
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, ValueError) as error:
                # Its message may repeat the address with the password in it.
                findings.append(
                    failed(check, type(error).__name__, "Does it run, and is the URL right?")
                )
            else:
                findings.append(ok(check, "reachable"))
        if not opened:
            return findings
        anybody = next(iter(opened.values()))
        findings.append(await _check_clock(service, anybody))
        findings.append(await _check_versions(data_map, opened))
        differences = await undeclared(anybody, data_map)
        findings.append(
            _all_well(
                f"{service}: data map",
                differences,
                "every table and column is declared",
                f"Run `keepword migrate {service}`, or declare it in the service's data_map.py.",
            )
        )
        findings.append(await _check_rights(data_map, anybody))
        if "eraser" in opened:
            findings.append(await _check_sight(data_map, opened["eraser"]))
    return findings


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[Connection]:
    async with asyncio.timeout(_PATIENCE_SECONDS):
        connection = await connect(url, name="keepword doctor")
    try:
        # Whatever it may do, here it changes nothing.
        await connection.execute("SET default_transaction_read_only = on")
        yield connection
    finally:
        await connection.close()


def _all_well(check: str, complaints: Sequence[str], well: str, advice: str) -> Finding:
    return failed(check, "; ".join(complaints), advice) if complaints else ok(check, well)


async def _check_clock(service: str, connection: Connection) -> Finding:
    check = f"{service}: clock"
    # Here the server's own clock is the subject.
    theirs: datetime = await connection.fetchval("SELECT clock_timestamp()")
    apart = abs(theirs - datetime.now(UTC))
    detail = f"{apart.total_seconds():.1f} s apart from this machine's"
    if apart > _CLOCKS_MAY_DIFFER:
        return failed(check, detail, "Let both machines follow the same time servers.")
    return ok(check, detail)


async def _check_versions(data_map: DataMap, opened: Mapping[str, Connection]) -> Finding:
    service, complaints = data_map.service, []
    readers = [opened[kind] for kind in ("backup", "runtime", "owner") if kind in opened]
    check = f"{service}: migrations"
    if not readers:
        return warning(check, "not looked at", "Name the backup or the runtime role's URL.")
    for table, newest in newest_versions(service).items():
        try:
            version = await readers[0].fetchval(f'SELECT version_num FROM "{table}"')  # noqa: S608 - two names of ours
        except (asyncpg.UndefinedTableError, asyncpg.InsufficientPrivilegeError):
            version = None
        if version != newest:
            complaints.append(f"{table} is at {version}, not at {newest}")
    return _all_well(check, complaints, "up to date", f"Run `keepword migrate {service}`.")


async def _check_rights(data_map: DataMap, connection: Connection) -> Finding:
    """Compare what each role may do with what the data map gives it, and no role sees past RLS."""
    service = data_map.service
    check, advice = f"{service}: rights of roles", f"Run `keepword migrate {service}`."
    wanted = {
        (kind, table.name, verb)
        for table in data_map.all_tables
        for kind, verbs in rights(table, service).items()
        for verb in verbs
    }
    rows = await connection.fetch(
        """
        SELECT kind, class.relname AS table_name, verb
          FROM unnest($2::text[]) AS kind
          JOIN pg_roles AS role ON role.rolname = $1 || '_' || kind
         CROSS JOIN pg_class AS class
         CROSS JOIN unnest($3::text[]) AS verb
         WHERE class.relnamespace = 'public'::regnamespace
           AND class.relkind IN ('r', 'p') AND NOT class.relispartition
           AND has_table_privilege(role.oid, class.oid, verb)
        """,
        service,
        ["runtime", "worker", "eraser", "backup"],
        list(_VERBS),
    )
    found = {(row["kind"], row["table_name"], row["verb"]) for row in rows}
    complaints = [f"{kind} may not {verb} {name}" for kind, name, verb in sorted(wanted - found)]
    complaints += [f"{kind} may {verb} {name}" for kind, name, verb in sorted(found - wanted)]
    too_mighty = await connection.fetch(
        """
        SELECT rolname FROM pg_roles
         WHERE (rolname = ANY($1::text[]) AND (rolsuper OR rolbypassrls))
            OR (rolname = $2 AND rolsuper)
         ORDER BY rolname
        """,
        [f"{service}_{kind}" for kind in ("owner", "runtime", "worker", "eraser")],
        f"{service}_backup",
    )
    complaints += [f"{row['rolname']} sees past row-level security" for row in too_mighty]
    return _all_well(check, complaints, "as the data map gives them", advice)


async def _check_sight(data_map: DataMap, eraser: Connection) -> Finding:
    service, blind = data_map.service, []
    for table in data_map.tables:
        if "eraser" in rights(table, service):
            try:
                hidden = await is_blind(eraser, table)
            except (asyncpg.UndefinedTableError, asyncpg.InsufficientPrivilegeError):
                hidden = True
            if hidden:
                blind.append(table.name)
    return _all_well(
        f"{service}: eraser's sight",
        [f"the planted row of {name} is not seen" for name in blind],
        "planted rows are seen",
        "Give its role a policy that shows all rows, and plant the row again if it is missing.",
    )


# -- ledger -----------------------------------------------------------------------------------------


async def check_ledger(
    urls: Mapping[str, str], keys: Mapping[str, Ed25519PublicKey]
) -> list[Finding]:
    """Walk the whole chain of the ledger in purger's database."""
    check = "purger: ledger"
    url = urls.get("backup") or urls.get("runtime")
    if url is None:
        return [warning(check, "not looked at", "Name the backup or the runtime role's URL.")]
    if not keys:
        advice = "Name the key's file with KEEPWORD_LEDGER_KEY_FILE."
        return [warning(check, "not looked at, its key is not here", advice)]
    try:
        async with _connected(url) as connection:
            number = await _walk(connection, keys)
    except BrokenChain as broken:
        advice = "Keep this database as it is, and see who wrote to it; see also its backups."
        return [failed(check, str(broken), advice)]
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, ValueError) as error:
        return [failed(check, type(error).__name__, "Is purger's database there, and migrated?")]
    return [ok(check, f"{number} entries, an unbroken chain")]


async def _walk(connection: Connection, keys: Mapping[str, Ed25519PublicKey]) -> int:
    end = await ledger_end(connection)
    number, last_hash = 0, GENESIS
    while number < end.number:
        page = await ledger_entries(connection, after=number, limit=_ENTRIES_A_PAGE)
        if not page:
            break
        _require_gapless(page, number)
        verify_chain(page, keys, start_hash=last_hash)
        number, last_hash = page[-1].number, page[-1].hash
    head = LedgerHead(number=end.number, hash=end.hash, cluster_id="none", at=datetime.now(UTC))
    if number < head.number or (number == head.number and last_hash != head.hash):
        raise BrokenChain(head.number, "is not where the ledger's head says that it ends")
    return number


def _require_gapless(page: Iterable[LedgerEntry], after: int) -> None:
    for expected, entry in enumerate(page, start=after + 1):
        if entry.number != expected:
            raise BrokenChain(expected, f"found number {entry.number}")


# -- kafka ------------------------------------------------------------------------------------------


async def check_topics(access: KafkaAccess, topics: Sequence[Topic]) -> list[Finding]:
    """Compare the broker's topics with the contracts, word for word."""
    try:
        real = await look(access.client_options(), topics, at_permissions=False)
    except (KafkaError, OSError, TimeoutError) as error:
        advice = "Is it running, and are user name and password right?"
        return [failed("kafka", type(error).__name__, advice)]
    return [_topic(topic, real) for topic in topics]


def _topic(topic: Topic, real: Real) -> Finding:
    check, found = f"topic {topic.name}", real.topics.get(topic.name)
    if found is None:
        return failed(check, "is not there, or may not be seen", _AS_AGREED)
    if found.config is None:
        advice = "Look with a user that may describe configurations."
        return warning(check, "its configuration may not be seen from here", advice)
    complaints = [
        f"{step.about.removeprefix(check).lstrip(', ')} is {step.found}, not {step.wanted}"
        for step in plan(real, [topic], ())
    ]
    return _all_well(check, complaints, "as agreed", _AS_AGREED)


# -- what lies outside ----------------------------------------------------------------------------


def check_residue(maps: Sequence[DataMap], environment: Mapping[str, str]) -> list[Finding]:
    """Compare how long stores outside remember with the residue that erasure leaves them.

    What a setting declares is believed; where none is set, that is a warning.
    """
    try:
        residue = int(environment.get(_RESIDUE, _USUAL_RESIDUE))
    except ValueError:
        return [failed("residue", f"{_RESIDUE} is no number", "Give a number of days.")]
    stores: dict[str, str] = {}
    for data_map in maps:
        for each in data_map.externals:
            if each.setting is not None:
                stores.setdefault(each.setting, each.name)
    return [
        _remembers(name, setting, environment.get(setting), residue)
        for setting, name in stores.items()
    ]


def _remembers(name: str, setting: str, said: str | None, residue: int) -> Finding:
    check = f"retention of {name}"
    if said is None:
        advice = f"Set {setting} to the days for which the store really remembers."
        return warning(check, "nobody has said how long it remembers", advice)
    if not said.isdecimal():
        return failed(check, f"{setting} is no number of days", "Give a number of days.")
    if int(said) > residue:
        advice = f"Let it forget sooner, or raise {_RESIDUE} for purger."
        return failed(check, f"{said} days, and the residue is {residue}", advice)
    return ok(check, f"{said} days, within the residue of {residue}")


def check_key_files(environment: Mapping[str, str]) -> Iterator[Finding]:
    """See that each file of keys that is named here is readable by its owner alone."""
    for variable in sorted(environment):
        if not (variable.startswith("KEEPWORD_") and variable.endswith(_KEY_FILES)):
            continue
        check = f"key file of {variable}"
        try:
            mode = Path(environment[variable]).stat().st_mode
        except OSError as error:
            yield failed(check, type(error).__name__, "Name a file that is there.")
            continue
        if stat.S_IMODE(mode) & 0o077:
            detail = f"others may reach it (mode {stat.S_IMODE(mode):04o})"
            yield failed(check, detail, "Give it the mode 0600, and change the keys in it.")
        else:
            yield ok(check, "readable by its owner alone")


def check_offset(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Warn where business time may be moved: deadlines go by it."""
    if environment.get("KEEPWORD_CLOCK_OFFSET_FILE"):
        yield warning(
            "business time",
            "may be moved by KEEPWORD_CLOCK_OFFSET_FILE",
            "Unset it everywhere but on a laptop.",
        )
