"""Measures how long it takes until 10,000 tenants that are due at once have both their receipts.

Four services, the broker, the database and the mail sink share this machine, as they do with
`keepword up`. Each tenant has a hundred rows over all tables, a licence by whose number its tickets
are looked for at the service desk, and a contact who gets the receipt.
"""

import asyncio
import json
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import asyncpg
import httpx2

from bench.figures import Also, Benchmark, Better, CannotMeasure, Round
from bench.stack import Stack
from chassis.identifiers import uuid7
from chassis.keys import KeyEncryptionKeys, TenantKeys
from chassis.migrations import migrate_all
from contracts.classes import TENANT_CLASSES
from contracts.tenants import (
    ClassState,
    Departure,
    DepartureKind,
    Platform,
    Subscription,
    SubscriptionStatus,
    TenantState,
    TenantStatus,
    Version,
)
from contracts.topics import SERVICES
from devstack.key_files import ensure_key_encryption_keys
from devstack.postgres import provision
from devstack.stack import APP_KEY, LocalStack, start_local_stack
from services.installer.context import SECRET
from services.notifier.domain.people import ADDRESS, ADDRESS_INDEX, NAME
from services.purger.domain.dates import Retention
from services.purger.domain.plans import plan_purges

TENANTS: Final = 10_000
MOST_SECONDS: Final = 600.0
MOST_GROWTH: Final = 1.25

# Due since a week, and not late.
_LEFT_BEFORE: Final = timedelta(days=162)
_DATASOURCES: Final = 78
_TIMELINE: Final = 10
_RELEASED_BY: Final = ("Kim Keeper", "Robin Reader")
_LOOK_EVERY_SECONDS: Final = 1.0
_HELD_WITHIN_SECONDS: Final = 120.0
_GIVEN_UP_AFTER_SECONDS: Final = 3 * MOST_SECONDS
_KIB_A_MEGABYTE: Final = 1_000_000 / 1024


async def measure(stack: Stack, *, tenants: int = TENANTS) -> list[Round]:
    """Let so many purges begin at once, and wait until each has both its receipts.

    Raises:
        RuntimeError: they had not after half an hour, or a service held them back.
    """
    folder = stack.folder / "backlog"
    roles = await provision(stack.postgres.superuser_url(), SERVICES, folder=stack.folder)
    await migrate_all({service: each.owner_url for service, each in roles.items()})
    await _fill(stack, folder, tenants)
    async with await start_local_stack(folder, environment=stack.environment(roles)) as running:
        backlog = _Backlog(running, roles["purger"].backup_url, tenants)
        await backlog.release()
        return [await backlog.purge()]


@dataclass(slots=True)
class _Backlog:
    """What is due, and how far it has come."""

    stack: LocalStack
    purger_url: str
    tenants: int

    async def release(self) -> None:
        """Let two people release the brake, which so many purges have engaged."""
        async with httpx2.AsyncClient(base_url=self.stack.endpoints.purger) as http:
            async with asyncio.timeout(_HELD_WITHIN_SECONDS):
                while not (await http.get("/staff/brake")).json()["engaged"]:
                    await asyncio.sleep(_LOOK_EVERY_SECONDS)
            for name in _RELEASED_BY:
                answer = await http.post("/staff/brake/releases", json={"name": name})
                answer.raise_for_status()

    async def purge(self) -> Round:
        """Watch until all have both receipts; the memory of the services is looked at meanwhile."""
        began_at = time.monotonic()
        seconds, done, samples = 0.0, 0, []
        while done < self.tenants:
            await asyncio.sleep(_LOOK_EVERY_SECONDS)
            seconds = time.monotonic() - began_at
            done = await self._value("SELECT count(*) FROM ledger WHERE part = 'receipt-closed'")
            samples.append((float(done), self._megabytes()))
            sys.stderr.write(f"\rdue-backlog: {done:,} of {self.tenants:,}, {seconds:.0f} s ")
            if seconds > _GIVEN_UP_AFTER_SECONDS:
                raise RuntimeError(f"{done} of {self.tenants} had both receipts when it was over")
        sys.stderr.write("\n")
        return Round(seconds, MOST_SECONDS, {"megabytes": _thinned(samples)})

    def _megabytes(self) -> float:
        """Add up what the four services have in memory."""
        return sum(_resident_megabytes(self.stack.pid(service)) for service in SERVICES)

    async def _value(self, statement: str) -> Any:
        connection = await asyncpg.connect(self.purger_url)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()


def _resident_megabytes(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / _KIB_A_MEGABYTE
    raise CannotMeasure("this needs a kernel that tells how much memory a process has in use")


def _thinned(samples: Sequence[tuple[float, float]]) -> list[float]:
    """Give the memory at each tenth of the work, the last of them at its end."""
    most = samples[-1][0]
    return [
        next(megabytes for done, megabytes in samples if done >= most * tenth / 10)
        for tenth in range(1, 11)
    ]


def _growth(measured: Round) -> Round:
    tenths = measured.samples["megabytes"]
    return Round(ours=max(tenths[1:]), peer=tenths[1])


# -- the tenants -----------------------------------------------------------------------------


async def _fill(stack: Stack, folder: Path, tenants: int) -> None:
    """Write tenants that have left into all four databases, as if they had been there for years."""
    now = datetime.now(UTC)
    left_at = now - _LEFT_BEFORE
    state = TenantState(
        tenant_id=UUID(int=1),
        version=Version(epoch=1, n=1),
        status=TenantStatus.UNINSTALLED,
        classes=dict.fromkeys(TENANT_CLASSES, ClassState.LIVE),
        platform=Platform.CONNECT,
        addon_key=APP_KEY,
        product_type="jira",
        created_at=left_at - timedelta(days=100),
        departure=Departure(at=left_at, how=DepartureKind.UNINSTALLED),
        subscription=Subscription(status=SubscriptionStatus.NONE),
        licence_numbers=(),
    )
    ids = [uuid7(now) for _ in range(tenants)]
    (folder / "keys").mkdir(parents=True)
    for service, write in (
        ("installer", _write_installer),
        ("config", _write_config),
        ("purger", _write_purger),
        ("notifier", _write_notifier),
    ):
        path = ensure_key_encryption_keys(folder / "keys" / f"{service}.json", wall=now)
        keys = TenantKeys(service, KeyEncryptionKeys.load(path))
        # Row-level security binds even the tables' owner.
        connection = await asyncpg.connect(stack.postgres.superuser_url(service))
        try:
            await write(_Desk(connection, keys, state, ids))
            await connection.execute("VACUUM ANALYZE")
        finally:
            await connection.close()


@dataclass(frozen=True, slots=True)
class _Desk:
    """Where one service's rows are written, and what they are made of."""

    connection: "asyncpg.Connection[asyncpg.Record]"
    keys: TenantKeys
    state: TenantState
    ids: Sequence[UUID]

    async def copy(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Add rows to a table."""
        await self.connection.copy_records_to_table(table, records=rows, columns=columns)

    async def make_keys(self) -> dict[UUID, bytes]:
        """Give each tenant a key, and return them as they are before they are wrapped."""
        made = {tenant_id: self.keys.new_wrapped_key(tenant_id) for tenant_id in self.ids}
        await self.copy(
            "tenant_keys",
            ("tenant_id", "wrapped_key", "kek_id", "made_at"),
            [(each, key.wrapped, key.kek_id, self.state.created_at) for each, key in made.items()],
        )
        return {tenant_id: key.plain_key for tenant_id, key in made.items()}


async def _write_installer(desk: _Desk) -> None:
    state, classes = desk.state, json.dumps(dict.fromkeys(TENANT_CLASSES, "live"))
    assert state.departure is not None
    told = (1, 1, "uninstalled", classes, "connect", APP_KEY, "jira", state.created_at)
    left: tuple[Any, ...] = (state.departure.at, "uninstalled", "none", [])
    await desk.copy(
        "tenants",
        (
            *("tenant_id", "version_epoch", "version_n", "status", "classes", "platform"),
            *("addon_key", "product_type", "created_at", "departed_at", "departed_how"),
            *("subscription_status", "licence_numbers"),
        ),
        [(each, *told, *left) for each in desk.ids],
    )
    plain_keys = await desk.make_keys()
    await desk.copy(
        "installations",
        (
            *("tenant_id", "live", "present", "addon_key", "product_type", "client_key"),
            *("base_url", "shared_secret"),
        ),
        [
            (
                *(each, True, False, APP_KEY, "jira", f"client-{each}"),
                f"https://site-{each}.atlassian.net",
                desk.keys.seal_with(key, each, SECRET, f"ATCO{each}".encode()),
            )
            for each, key in plain_keys.items()
        ],
    )
    await desk.copy(
        "timelines",
        ("tenant_id", "at", "what"),
        [
            (each, state.created_at, what)
            for each in desk.ids
            for what in (*["unchanged"] * (_TIMELINE - 1), "uninstalled")
        ],
    )
    await desk.copy(
        "aliases",
        ("tenant_id", "kind", "addon_key", "name", "live", "present", "heard_at"),
        [
            (each, "cloud-id", APP_KEY, str(each), True, False, state.created_at)
            for each in desk.ids
        ],
    )


async def _write_config(desk: _Desk) -> None:
    made_at = desk.state.created_at
    await desk.copy(
        "tenants",
        ("tenant_id", "status", "platform", "content"),
        [(each, "uninstalled", "connect", "live") for each in desk.ids],
    )
    plain_keys = await desk.make_keys()
    body = json.dumps({"kind": "rest", "url": "https://api.example.com", "options": {}})
    sealed = {
        each: desk.keys.seal_with(key, each, "datasource.credentials", b"secret")
        for each, key in plain_keys.items()
    }
    await desk.copy(
        "things",
        (
            *("tenant_id", "thing_id", "kind", "name", "tags", "body", "credentials"),
            *("position", "created_at", "updated_at", "version"),
        ),
        (
            (
                *(each, uuid7(made_at), "datasource", f"source {number}", [], body),
                *(sealed[each], number, made_at, made_at, 1),
            )
            for each in desk.ids
            for number in range(_DATASOURCES)
        ),
    )


async def _write_purger(desk: _Desk) -> None:
    states = [desk.state.model_copy(update={"tenant_id": each}) for each in desk.ids]
    await desk.copy(
        "tenants",
        ("tenant_id", "epoch", "n", "state"),
        [(each.tenant_id, 1, 1, each.model_dump_json()) for each in states],
    )
    plans = {each.tenant_id: plan_purges(each, Retention())[0] for each in states}
    columns = ("purge_id", "scope", "clock", "clock_started_at", "rule_version", "deadline")
    more = ("erase_by", "start_at", "phase")
    await desk.copy(
        "purges",
        ("tenant_id", "changed_at", *columns, *more),
        [
            (tenant_id, plan.clock_started_at, *(getattr(plan, name) for name in (*columns, *more)))
            for tenant_id, plan in plans.items()
        ],
    )
    await desk.copy(
        "purge_states", ("tenant_id", "epoch", "n"), [(each, 1, 1) for each in desk.ids]
    )


async def _write_notifier(desk: _Desk) -> None:
    await desk.copy(
        "tenants",
        ("tenant_id", "addon_key", "contacts"),
        [(each, APP_KEY, "live") for each in desk.ids],
    )
    # Where no number was ever heard, a person would have to look for tickets.
    await desk.copy(
        "licences",
        ("tenant_id", "numbers"),
        [(each, [f"E-{number}"]) for number, each in enumerate(desk.ids)],
    )
    plain_keys = await desk.make_keys()
    seal = desk.keys.seal_with
    since = desk.state.created_at
    people = {
        each: (uuid7(since), desk.keys.blind_index(ADDRESS_INDEX, f"person@{each}.example"))
        for each in desk.ids
    }
    await desk.copy(
        "contacts",
        ("tenant_id", "contact_id", "name", "address", "address_index"),
        [
            (
                *(each, people[each][0], seal(key, each, NAME, b"A Person")),
                seal(key, each, ADDRESS, f"person@{each}.example".encode()),
                people[each][1],
            )
            for each, key in plain_keys.items()
        ],
    )
    await desk.copy(
        "audience",
        ("tenant_id", "contact_id", "address_index", "roles", "language", "since"),
        [(each, *person, ["technical"], "en", since) for each, person in people.items()],
    )


BENCHMARK: Final = Benchmark(
    name="due-backlog",
    question="How long until 10,000 tenants that are due at once have both their receipts?",
    ours="until the last receipt",
    peer="the most that it may take",
    unit=" s",
    goal=1.0,
    better=Better.LOWER,
    measure=measure,
    also=(
        Also(
            name="due-backlog-memory",
            question="Does the memory of the four services grow with what they have done?",
            ours="its highest after a fifth",
            peer="after a fifth of the work",
            unit=" MB",
            goal=MOST_GROWTH,
            better=Better.LOWER,
            of=_growth,
        ),
    ),
)
