"""Publishes what the outbox holds: one leader per database, in order, again after every doubt."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import asyncpg
import structlog
from aiokafka import AIOKafkaProducer
from pydantic import TypeAdapter

from chassis.broker import KafkaAccess
from chassis.clock import Clock
from chassis.database import Connection, connect
from chassis.epochs import EVENTS_KEPT, Epoch, epoch_in, mark_restated
from chassis.metrics import Metrics

log = structlog.get_logger(__name__)

# Not called xid: ORDER BY prefers an output column's name, and would sort ids as text.
_ROWS = "xid::text AS transaction_id, position, topic, record_key, headers::text, payload"

# One statement, one snapshot: a transaction that is still open holds back everything that was
# written after it began, so no row that commits late is ever passed over.
#
# A transaction may get its id before it waits for the tenant's lock, and so write a tenant's newer
# state under the lower id. Positions are drawn under that lock: a state that was written before one
# that is already past in this order is old by now, and must not become the topic's last word.
# That can only be so where some position before it is higher, which is cheap to see ($6 is the
# highest so far). OFFSET 0 keeps the planner to the tenant's index, and for state of no tenant to
# that of the key: by that of the order it would read for each row all that was ever sent.
_UNSENT = f"""
    SELECT {_ROWS},
           kind = 'state'
           AND position < greatest($6, max(position) OVER (
               ORDER BY xid, position ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING))
           AND EXISTS (
               SELECT 1
                 FROM (SELECT topic, epoch, xid, position
                         FROM outbox AS other
                        WHERE other.tenant_id = outbox.tenant_id
                          AND other.written_at >= $5
                       UNION ALL
                       SELECT topic, epoch, xid, position
                         FROM outbox AS other
                        WHERE outbox.tenant_id IS NULL
                          AND other.tenant_id IS NULL
                          AND other.record_key = outbox.record_key
                          AND other.written_at >= $5
                       OFFSET 0) AS newer
                WHERE newer.topic = outbox.topic
                  AND newer.epoch = outbox.epoch
                  AND newer.position > outbox.position
                  AND newer.xid < outbox.xid) AS overtaken
      FROM outbox
     WHERE epoch = $1
       AND (xid, position) > ($2::text::xid8, $3)
       AND xid < pg_snapshot_xmin(pg_current_snapshot())
       AND written_at >= $5
     ORDER BY xid, position
     LIMIT $4
"""  # noqa: S608 - made of constants

_HIGHEST_SENT = """
    SELECT coalesce(max(position), 0)
      FROM outbox
     WHERE epoch = $1
       AND (xid, position) <= ($2::text::xid8, $3)
       AND written_at >= $4
"""

# What an earlier life of the database left unsent: its transactions are over, so its rows need
# no snapshot and go by position. State is said anew instead.
_LEFT_OVER = f"""
    SELECT {_ROWS}, false AS overtaken
      FROM outbox
     WHERE epoch = $1
       AND (xid, position) > ($2::text::xid8, $3)
       AND position > $4
       AND kind <> ALL($6::text[])
     ORDER BY position
     LIMIT $5
"""  # noqa: S608 - made of constants

# No transaction lives longer than a few minutes (chassis.database), so no row appears later than
# that behind one that was sent; a day is ample and lets the planner skip older partitions.
_LATEST_ARRIVAL = timedelta(days=1)

# The planner has no idea how many rows are unsent. Left to itself it reads and sorts all of them
# for each batch, so that a backlog slows down the one who works it off; the index has them in
# order. Losing the last cursors in a crash costs repeats and nothing else, so they wait for no
# disk, and nothing else is written from there on.
_WHILE_FOLLOWING = """
    SET enable_seqscan = off;
    SET enable_bitmapscan = off;
    SET enable_sort = off;
    SET jit = off;
    SET plan_cache_mode = force_generic_plan;
    SET synchronous_commit = off;
"""

LEADER_LOCK = 7_301
# Small enough that reading, handing over and Kafka's work overlap well: measured, 500 drains a
# tenth faster than 1,000 and a fifth faster than 2,000.
_BATCH = 500

# Straight from JSON to what Kafka takes: half of what decoding and then encoding again costs.
_HEADERS = TypeAdapter(list[tuple[str, bytes]])


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far the relay has come in one epoch."""

    epoch: int
    xid: str
    position: int


@dataclass(slots=True)
class _InFlight:
    acknowledgements: "list[asyncio.Future[Any]]"
    reaches: Cursor


class Relay:
    """Publishes one database's outbox.

    Any number of processes may run one; a session lock lets one of them lead, on the same
    connection that reads, so that a leader that lost its lock reads nothing more. Every message is
    published at least once, in the order (transaction, position); a message whose fate is unknown
    is published again with the same CloudEvents id.
    """

    def __init__(
        self,
        *,
        database_url: str,
        kafka: KafkaAccess,
        clock: Clock,
        metrics: Metrics,
        restate: Callable[[], Awaitable[None]],
        event_retention: timedelta = EVENTS_KEPT,
        idle: timedelta = timedelta(milliseconds=500),
        acknowledged_within: timedelta = timedelta(seconds=30),
    ) -> None:
        """Prepare a relay; ``restate`` says all state again after a new epoch was opened.

        The producer retries for ever by itself, and can get stuck at it (aiokafka #1017), so one
        that gets no answer ``acknowledged_within`` is given up and its batch sent by another.
        """
        self._database_url = database_url
        self._kafka = kafka
        self._clock = clock
        self._metrics = metrics
        self._restate = restate
        self._event_retention = event_retention
        self._idle_seconds = idle.total_seconds()
        self._patience_seconds = acknowledged_within.total_seconds()
        self._wake = asyncio.Event()
        self._stopping = False
        self.leading = asyncio.Event()

    def wake(self) -> None:
        """Look into the outbox now: something has been committed."""
        self._wake.set()

    def stop(self) -> None:
        """End `run` after what is on its way has been acknowledged."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Lead or wait to lead until stopped; every failure starts the leadership anew."""
        pause = 0.1
        while not self._stopping:
            try:
                await self._campaign()
                pause = 0.1
            except Exception as error:  # noqa: BLE001 - whatever it was, the outbox is still there
                log.warning("relay interrupted, starts again", error=type(error).__name__)
                self._metrics.retries_total.labels(handler="relay").inc()
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5.0)
            finally:
                self.leading.clear()

    async def _campaign(self) -> None:
        connection = await connect(self._database_url, name="relay")
        try:
            while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", LEADER_LOCK):
                if self._stopping:
                    return
                await self._pause(1.0)
            await self._lead(connection)
        finally:
            connection.terminate()

    async def _lead(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        cluster_id = await self._kafka.cluster_id()
        epoch = await epoch_in(
            connection,
            cluster_id,
            wall=self._clock.wall(),
            event_retention=self._event_retention,
        )
        async with self._kafka.producing() as producer:
            await self._send_left_over(connection, producer, epoch)
            if not epoch.restated:
                await self._restate()
                await mark_restated(connection, epoch, wall=self._clock.wall())
            self.leading.set()
            log.info("relay leads", epoch=epoch.number)
            await self._follow(connection, producer, epoch)

    async def _send_left_over(
        self, connection: Connection, producer: AIOKafkaProducer, present: Epoch
    ) -> None:
        earlier = await connection.fetch(
            "SELECT epoch, xid::text AS xid, position, cluster_id FROM relay_cursor"
            " WHERE epoch < $1 ORDER BY epoch",
            present.number,
        )
        here = await connection.fetchval(
            "SELECT cluster_id FROM relay_cursor WHERE epoch = $1", present.number
        )
        for cursor in earlier:
            position, highest = 0, None
            # A log that another cluster lost is written anew by its owner, from its beginning.
            left_out = ["state"] if cursor["cluster_id"] in {None, here} else ["state", "log"]
            while rows := await connection.fetch(
                _LEFT_OVER,
                cursor["epoch"],
                cursor["xid"],
                cursor["position"],
                position,
                _BATCH,
                left_out,
            ):
                await self._acknowledged(await self._enqueue(producer, rows))
                position = rows[-1]["position"]
                highest = position
            if highest is not None:
                log.warning("sent what an earlier epoch left", epoch=cursor["epoch"])
            await connection.execute(
                """
                UPDATE relay_cursor
                   SET (xid, position, saved_at) =
                       (SELECT coalesce(max(o.xid::text::numeric), 0)::text::xid8,
                               coalesce(max(o.position), 0), $2::timestamptz
                          FROM outbox o WHERE o.epoch = $1)
                 WHERE epoch = $1
                """,
                cursor["epoch"],
                self._clock.wall(),
            )

    async def _follow(
        self,
        connection: "asyncpg.Connection[asyncpg.Record]",
        producer: AIOKafkaProducer,
        epoch: Epoch,
    ) -> None:
        cursor, saved_at = await self._load_cursor(connection, epoch)
        await connection.execute(_WHILE_FOLLOWING)
        unsent = await connection.prepare(_UNSENT)
        highest: int = await connection.fetchval(
            _HIGHEST_SENT, cursor.epoch, cursor.xid, cursor.position, saved_at - _LATEST_ARRIVAL
        )

        async def read() -> "list[asyncpg.Record]":
            self._wake.clear()
            since = saved_at - _LATEST_ARRIVAL
            return await unsent.fetch(
                cursor.epoch, cursor.xid, cursor.position, _BATCH, since, highest
            )

        ahead: list[asyncpg.Record] | None = None
        in_flight: _InFlight | None = None
        pause = 0.0
        while not self._stopping or in_flight is not None:
            rows = await read() if ahead is None else ahead
            ahead, following = None, None
            if rows:
                cursor = Cursor(cursor.epoch, rows[-1]["transaction_id"], rows[-1]["position"])
                highest = max(highest, *(row["position"] for row in rows))
                enqueuing = self._enqueue(producer, rows)
                if len(rows) < _BATCH:
                    enqueued = await enqueuing
                else:
                    # There is more: the database looks for it while this is handed over.
                    ahead, enqueued = await asyncio.gather(read(), enqueuing)
                following = _InFlight(enqueued, cursor)
            if in_flight is not None:
                saved_at = await self._settle(connection, in_flight)
            in_flight = following
            if rows or in_flight is not None:
                pause = 0.0
                continue
            # Woken, but nothing to see yet: some transaction still holds the snapshot back.
            pause = min(max(pause * 2, 0.005), self._idle_seconds)
            await self._pause(pause)

    async def _load_cursor(self, connection: Connection, epoch: Epoch) -> tuple[Cursor, Any]:
        row = await connection.fetchrow(
            "SELECT xid::text AS xid, position, saved_at FROM relay_cursor WHERE epoch = $1",
            epoch.number,
        )
        assert row is not None
        return Cursor(epoch.number, row["xid"], row["position"]), row["saved_at"]

    async def _enqueue(
        self, producer: AIOKafkaProducer, rows: Sequence[asyncpg.Record]
    ) -> "list[asyncio.Future[Any]]":
        send, headers_of = producer.send, _HEADERS.validator.validate_json
        async with asyncio.timeout(self._patience_seconds):
            return [
                await send(topic, value=payload, key=key.encode(), headers=headers_of(headers))
                for _, _, topic, key, headers, payload, overtaken in rows
                if not overtaken
            ]

    async def _acknowledged(self, acknowledgements: "list[asyncio.Future[Any]]") -> None:
        """Wait for all; they come in order, so one after another costs least."""
        try:
            async with asyncio.timeout(self._patience_seconds):
                for each in acknowledgements:
                    await each
        except BaseException:
            for each in acknowledgements:
                # What failed besides is no news to anybody.
                if not each.cancel() and not each.cancelled():
                    each.exception()
            raise

    async def _settle(self, connection: Connection, sent: _InFlight) -> Any:
        """Remember how far we came, once Kafka has it."""
        await self._acknowledged(sent.acknowledgements)
        wall = self._clock.wall()
        await connection.execute(
            """
            UPDATE relay_cursor
               SET xid = $2::text::xid8, position = $3, saved_at = $4
             WHERE epoch = $1
            """,
            sent.reaches.epoch,
            sent.reaches.xid,
            sent.reaches.position,
            wall,
        )
        self._metrics.relay_sent_total.inc(len(sent.acknowledgements))
        return wall

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._wake.wait(), seconds)
        except TimeoutError:
            return
