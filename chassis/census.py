"""Takes the census of a service: of which tenants it holds data, by class, as digests of buckets.

What is counted comes from the data map, so a table that is added later is counted too. Purger
compares, and asks for a list where a digest is not what it expects.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import Any, Final, Generic, TypeVar
from uuid import uuid4

import structlog

from chassis.data_map import DataMap
from chassis.database import Connection, Pool
from chassis.erasure import NOBODY, BlindVerificationError, is_blind
from chassis.handlers import Handlers
from chassis.unit_of_work import UnitOfWork, Units
from contracts.censuses import BUCKETS, CensusDoubted, CensusListed, CensusTaken, HeldTenant, Tally
from contracts.classes import TENANT_CLASSES, DataClass
from contracts.tenants import Version

log = structlog.get_logger(__name__)

C = TypeVar("C")

TAKEN_EVERY: Final = timedelta(hours=6)

A_CENSUS_IS_OF_ITS_MOMENT: Final = "a census tells of a moment that is over"

FOLLOWED_VERSIONS: Final = """
    SELECT tenant_id, epoch, n FROM followed_states WHERE topic = 'installer.tenants.v1'
"""
"""At which version a service knows each tenant that it was told of."""

BUCKET: Final = "get_byte(uuid_send(tenant_id), 15)"
"""The bucket of a ``tenant_id``, in SQL."""

_EMPTY: Final = sha256(b"").hexdigest()
_TENANTS_A_MESSAGE: Final = 5_000


async def tally(
    connection: Connection, data_class: DataClass, held: str, *arguments: object
) -> Tally:
    """Count tenants in one statement; ``held`` is SQL that gives ``tenant_id, epoch, n``.

    Two databases that hold the same give the same digests.
    """
    rows = await connection.fetch(
        f"""
        SELECT {BUCKET} AS bucket,
               count(*) AS tenants,
               encode(sha256(convert_to(string_agg(tenant_id || ' ' || epoch || ' ' || n, ','
                                                   ORDER BY tenant_id), 'UTF8')), 'hex') AS digest
          FROM ({held}) AS held
         GROUP BY 1
        """,  # noqa: S608 - made of constants and of names in the data map
        *arguments,
    )
    digests = [_EMPTY] * BUCKETS
    for row in rows:
        digests[row["bucket"]] = row["digest"]
    return Tally(
        data_class=data_class,
        tenants=sum(row["tenants"] for row in rows),
        digests=tuple(digests),
    )


@dataclass(frozen=True, slots=True)
class Census(Generic[C]):
    """The census of one service, read by the role that sees every row.

    ``versions`` is SQL that gives ``tenant_id, epoch, n``: at which version the service knows each
    tenant.
    """

    units: Units[C]
    eraser: Pool
    data_map: DataMap
    versions: str = FOLLOWED_VERSIONS

    @property
    def classes(self) -> tuple[DataClass, ...]:
        """The classes of tenants' data that this service has tables for."""
        return tuple(each for each in TENANT_CLASSES if self.data_map.tables_of([each]))

    async def take(self) -> None:
        """Say of which tenants we hold data; a service that has no tables for any says nothing."""
        if not self.classes:
            return
        taken_at = self.units.clock.now()
        async with self.eraser.acquire() as connection:
            tallies = [
                await tally(connection, each, await self._held(connection, each), NOBODY)
                for each in self.classes
            ]
        async with self.units.begin() as uow:
            uow.outbox.add(
                CensusTaken(
                    owner=self.data_map.service,
                    census_id=uuid4(),
                    taken_at=taken_at,
                    tallies=tuple(tallies),
                )
            )

    async def list_doubted(self, doubt: CensusDoubted, uow: UnitOfWork[C]) -> None:
        """Name the tenants of the buckets that purger doubts, as they are now."""
        if doubt.owner != self.data_map.service or doubt.data_class not in self.classes:
            return
        async with self.eraser.acquire() as connection:
            held = await self._held(connection, doubt.data_class)
            rows = await connection.fetch(
                f"""
                SELECT {BUCKET} AS bucket, tenant_id, epoch, n FROM ({held}) AS held
                 WHERE {BUCKET} = ANY($2::integer[])
                 ORDER BY tenant_id
                """,  # noqa: S608 - made of constants and of names in the data map
                NOBODY,
                list(doubt.buckets),
            )
        by_bucket: dict[int, list[HeldTenant]] = {bucket: [] for bucket in sorted(doubt.buckets)}
        for row in rows:
            version = Version(epoch=row["epoch"], n=row["n"])
            by_bucket[row["bucket"]].append(HeldTenant(tenant_id=row["tenant_id"], version=version))
        pages = list(_pages(by_bucket))
        for number, page in enumerate(pages, start=1):
            uow.outbox.add(
                CensusListed(
                    owner=doubt.owner,
                    census_id=doubt.census_id,
                    data_class=doubt.data_class,
                    buckets=tuple(page),
                    tenants=tuple(tenant for bucket in page for tenant in by_bucket[bucket]),
                    last=number == len(pages),
                )
            )

    async def _held(self, connection: Connection, data_class: DataClass) -> str:
        """Give SQL for the tenants of a class; ``$1`` is nobody, whose rows are planted.

        Raises ``BlindVerificationError`` where this role may be shown less than there is.
        """
        tables = self.data_map.tables_of([data_class])
        for table in tables:
            if await is_blind(connection, table):
                raise BlindVerificationError(table.name)
        rows = " UNION ".join(
            f"SELECT DISTINCT {table.tenant_column} AS tenant_id FROM {table.name}"  # noqa: S608 - names come from the data map
            f" WHERE {table.erase_where or 'true'}"
            for table in tables
        )
        return f"""
            SELECT tenant_id, coalesce(known.epoch, 0) AS epoch, coalesce(known.n, 0) AS n
              FROM ({rows}) AS rows
              LEFT JOIN ({self.versions}) AS known USING (tenant_id)
             WHERE tenant_id <> $1
        """  # noqa: S608 - likewise


def with_doubts(handlers: Handlers[Any], census: Census[Any]) -> Handlers[Any]:
    """Give the same handlers, and beside them the one that lists what purger doubts."""
    heard: Handlers[Any] = Handlers(
        handlers.service, dict(handlers.by_model), dict(handlers.forgetting)
    )
    heard.hears(CensusDoubted, once=A_CENSUS_IS_OF_ITS_MOMENT)(census.list_doubted)
    return heard


def _pages(by_bucket: dict[int, list[HeldTenant]]) -> Iterator[Sequence[int]]:
    """Divide buckets so that no message becomes too large for Kafka."""
    page: list[int] = []
    size = 0
    for bucket, tenants in by_bucket.items():
        if page and size + len(tenants) > _TENANTS_A_MESSAGE:
            yield page
            page, size = [], 0
        page.append(bucket)
        size += len(tenants)
    yield page
