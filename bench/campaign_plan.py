"""Measures how long it takes to plan who is told, for 1,000,000 persons: of the policy, of news.

One person in ten is known by a second tenant as well, and must be planned once.
"""

import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg

from bench.figures import Benchmark, Better, Round
from bench.stack import Stack
from chassis.database import Pool, open_pool
from chassis.migrations import migrate
from devstack.postgres import Roles, provision
from services.notifier.data_map import DATA_MAP
from services.notifier.domain.campaigns import Kind
from services.notifier.domain.news import News, Segment, Words
from services.notifier.domain.people import Language
from services.notifier.domain.policies import Draft
from services.notifier.store import news, policies

PERSONS: Final = 1_000_000
MOST_SECONDS: Final = 60.0
ROUNDS: Final = 3

_PERSONS_A_TENANT: Final = 4
_KNOWN_TWICE: Final = 10
_NOTICE: Final = timedelta(days=31)


async def measure(stack: Stack, *, persons: int = PERSONS) -> list[Round]:
    """Plan one revision after another, each for all persons; time only the planning.

    Raises:
        RuntimeError: a round planned more or fewer than there are persons.
    """
    roles = await _roles(stack, persons)
    rounds = []
    async with await open_pool(roles.worker_url, name="worker", max_size=1) as worker:
        for number in range(1, ROUNDS + 1):
            await _publish(roles, number)
            rounds.append(Round(await _plan(worker, number, persons), MOST_SECONDS))
            again = await _plan(worker, number, 0)
            sys.stderr.write(f"campaign-plan: {rounds[-1].ours:.1f} s, joiners {again:.1f} s\n")
    return rounds


async def measure_news(stack: Stack, *, persons: int = PERSONS) -> list[Round]:
    """The same for news of a product, which many may not get: each is looked up once more.

    Raises:
        RuntimeError: a round planned more or fewer than there are persons.
    """
    roles = await _roles(stack, persons)
    rounds = []
    async with (
        await open_pool(roles.runtime_url, name="runtime", max_size=1) as runtime,
        await open_pool(roles.worker_url, name="worker", max_size=1) as worker,
    ):
        for _ in range(ROUNDS):
            campaign_id = await _schedule(runtime)
            now = datetime.now(UTC)
            began_at = time.monotonic()
            planned = await news.plan_recipients(worker, campaign_id, now=now, wall=now)
            rounds.append(Round(time.monotonic() - began_at, MOST_SECONDS))
            if planned != persons:
                raise RuntimeError(f"{planned} were planned, not {persons}")
            sys.stderr.write(f"news-plan: {rounds[-1].ours:.1f} s\n")
    return rounds


async def _schedule(runtime: Pool) -> UUID:
    now, campaign_id = datetime.now(UTC), uuid4()
    words = {Language.ENGLISH: Words("What is new", "This.")}
    async with runtime.acquire() as connection, connection.transaction():
        told = News(campaign_id, Kind.PRODUCT_UPDATE, words, Segment())
        await news.add(connection, told, now=now)
        await news.approve(connection, campaign_id, now=now)
        kept = await news.find(connection, campaign_id)
        assert kept is not None
        await news.schedule(connection, kept, now, now=now)
    return campaign_id


async def _roles(stack: Stack, persons: int) -> Roles:
    """Make a database in which notifier knows so many."""
    made = await provision(stack.postgres.superuser_url(), ["notifier"], folder=stack.folder)
    roles = made["notifier"]
    await migrate(roles.owner_url, DATA_MAP)
    await _fill(stack, persons)
    return roles


async def _plan(worker: Pool, number: int, expected: int) -> float:
    now = datetime.now(UTC)
    began_at = time.monotonic()
    planned = await policies.plan_recipients(worker, number, now=now, wall=now)
    seconds = time.monotonic() - began_at
    if planned != expected:
        raise RuntimeError(f"{planned} were planned, not {expected}")
    return seconds


async def _publish(roles: Roles, number: int) -> None:
    now = datetime.now(UTC)
    summary = dict.fromkeys(Language, "What changes.")
    draft = Draft(number - 1, "The text.\n", summary, now + _NOTICE, None, "Kim")
    connection = await asyncpg.connect(roles.runtime_url)
    try:
        async with connection.transaction():
            draft_id = await policies.add_draft(connection, draft, now=now)
            await policies.publish(connection, draft_id, number, approved_by="Lee", now=now)
    finally:
        await connection.close()


async def _fill(stack: Stack, persons: int) -> None:
    since = datetime.now(UTC) - timedelta(days=100)
    tenants = persons // _PERSONS_A_TENANT
    connection = await asyncpg.connect(stack.postgres.superuser_url("notifier"))
    try:
        await connection.copy_records_to_table(
            "tenants",
            records=((UUID(int=n + 1), "com.example.app", "live") for n in range(tenants)),
            columns=("tenant_id", "addon_key", "contacts"),
        )
        await connection.copy_records_to_table(
            "audience",
            records=_audience(persons, tenants, since),
            columns=("tenant_id", "contact_id", "address_index", "roles", "language", "since"),
        )
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()


def _audience(persons: int, tenants: int, since: datetime) -> Iterator[tuple[Any, ...]]:
    for n in range(persons):
        # As spread as a keyed hash is.
        index = (n * 0x9E3779B97F4A7C15 % 2**64).to_bytes(8, "big") * 4
        for nth in range(2 if n % _KNOWN_TWICE == 0 else 1):
            tenant = UUID(int=(n // _PERSONS_A_TENANT + nth * 7) % tenants + 1)
            contact = UUID(int=2 * n + nth + 1)
            yield tenant, contact, index, ["technical"], "en", since


BENCHMARK: Final = Benchmark(
    name="campaign-plan",
    question="How long until 1,000,000 persons are planned to be told of a revision of the policy?",
    ours="until all are planned",
    peer="the most that it may take",
    unit=" s",
    goal=1.0,
    better=Better.LOWER,
    measure=measure,
)

NEWS: Final = Benchmark(
    name="news-plan",
    question="How long until 1,000,000 persons are planned to be told of a product's news?",
    ours="until all are planned",
    peer="the most that it may take",
    unit=" s",
    goal=1.0,
    better=Better.LOWER,
    measure=measure_news,
)
