"""Keeps how far a consumer has come in its own database; Kafka's committed offset only feeds lag."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from aiokafka import TopicPartition

from chassis.database import Connection


@dataclass(frozen=True, slots=True)
class Positions:
    """The positions of one consumer in one Kafka cluster."""

    consumer: str
    cluster_id: str

    async def load(
        self, connection: Connection, partitions: Iterable[TopicPartition]
    ) -> dict[TopicPartition, int]:
        """Return the next offset for each partition, 0 for one that was never read here.

        A position of another cluster counts for nothing. Rows are made where there are none, so
        that two consumers that meet in a rebalance have something to lock.
        """
        wanted = list(partitions)
        topics = [partition.topic for partition in wanted]
        numbers = [partition.partition for partition in wanted]
        await connection.execute(
            """
            INSERT INTO positions (consumer, topic, partition, cluster_id, next_offset)
            SELECT $1, t.topic, t.partition, $2, 0
              FROM unnest($3::text[], $4::integer[]) AS t(topic, partition)
             ORDER BY t.topic, t.partition
            ON CONFLICT (consumer, topic, partition) DO UPDATE
               SET cluster_id = excluded.cluster_id, next_offset = 0
             WHERE positions.cluster_id <> excluded.cluster_id
            """,
            self.consumer,
            self.cluster_id,
            topics,
            numbers,
        )
        return await self._select(connection, topics, numbers, lock="")

    async def lock(
        self, connection: Connection, partitions: Iterable[TopicPartition]
    ) -> dict[TopicPartition, int]:
        """Return the next offsets and keep other consumers from moving them until the end.

        This is the fence: a member that was thought dead finds here what has been done without it.
        """
        wanted = sorted(partitions)
        return await self._select(
            connection,
            [partition.topic for partition in wanted],
            [partition.partition for partition in wanted],
            lock="FOR UPDATE OF p",
        )

    async def _select(
        self, connection: Connection, topics: list[str], numbers: list[int], *, lock: str
    ) -> dict[TopicPartition, int]:
        rows = await connection.fetch(
            f"""
            SELECT p.topic, p.partition, p.next_offset
              FROM positions p
              JOIN unnest($3::text[], $4::integer[]) AS t(topic, partition)
                ON (p.topic, p.partition) = (t.topic, t.partition)
             WHERE p.consumer = $1 AND p.cluster_id = $2
             ORDER BY p.topic, p.partition {lock}
            """,  # noqa: S608 - the lock clause is one of two constants above
            self.consumer,
            self.cluster_id,
            topics,
            numbers,
        )
        return {TopicPartition(row["topic"], row["partition"]): row["next_offset"] for row in rows}

    async def save(
        self, connection: Connection, next_offsets: Mapping[TopicPartition, int]
    ) -> None:
        """Move on, never back."""
        await connection.execute(
            """
            UPDATE positions p
               SET next_offset = t.next_offset
              FROM unnest($3::text[], $4::integer[], $5::bigint[])
                   AS t(topic, partition, next_offset)
             WHERE p.consumer = $1 AND p.cluster_id = $2
               AND (p.topic, p.partition) = (t.topic, t.partition)
               AND p.next_offset < t.next_offset
            """,
            self.consumer,
            self.cluster_id,
            [partition.topic for partition in next_offsets],
            [partition.partition for partition in next_offsets],
            list(next_offsets.values()),
        )
