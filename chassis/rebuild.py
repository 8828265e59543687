"""Lets a service forget what it has built from others' states, so that it builds it anew."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from chassis.data_map import DataMap, Table
from chassis.database import Connection


@dataclass(frozen=True, slots=True)
class Built:
    """A table that is built from others' states, and how many rows it has now."""

    table: Table
    rows: int


def built_tables(data_map: DataMap, topics: Collection[str] = ()) -> tuple[Table, ...]:
    """List the tables that a service builds from these state topics, or from any."""
    return tuple(
        table
        for table in data_map.tables
        if table.built_from and (not topics or set(topics) & set(table.built_from))
    )


def topics_of(tables: Collection[Table]) -> tuple[str, ...]:
    """List the state topics that these tables are built from."""
    return tuple(sorted({topic for table in tables for topic in table.built_from}))


async def count(connection: Connection, tables: Collection[Table]) -> Sequence[Built]:
    """Count what there is of these tables."""
    return [
        Built(table, await connection.fetchval(f"SELECT count(*) FROM {table.name}"))  # noqa: S608 - names come from the data map
        for table in tables
    ]


async def forget_built(
    connection: Connection, tables: Collection[Table], *, consumer: str, reread: bool
) -> Mapping[str, int]:
    """Drop the rows of these tables and let the newest states be taken again; count what went.

    Versions are taken back by one, so that older states, which a topic still has for days, stay
    passed by. ``reread`` takes the consumer's positions back to the beginnings of the topics as
    well, which only a consumer notices that starts after this. Rows that have to stay are
    overwritten as states come. To be called in a transaction, which no batch of the consumer
    crosses.
    """
    topics = list(topics_of(tables))
    # Who holds these is in the middle of a batch, and follows states that are forgotten here.
    await connection.execute(
        "SELECT 1 FROM positions WHERE consumer = $1 AND topic = ANY($2::text[])"
        " ORDER BY topic, partition FOR UPDATE",
        consumer,
        topics,
    )
    await connection.execute(
        "UPDATE followed_states SET n = n - 1 WHERE consumer = $1 AND topic = ANY($2::text[])",
        consumer,
        topics,
    )
    gone: dict[str, int] = {}
    for table in tables:
        if not table.rows_stay:
            done = await connection.execute(f"DELETE FROM {table.name}")  # noqa: S608 - names come from the data map
            gone[table.name] = int(done.rpartition(" ")[2])
    if reread:
        await connection.execute(
            "UPDATE positions SET next_offset = 0 WHERE consumer = $1 AND topic = ANY($2::text[])",
            consumer,
            topics,
        )
    return gone
