"""Takes batches from Kafka and brings each message to its handler, in one transaction with its position.

The order in a transaction is: lock of the tenants, guard of erased ones, position, inbox, handler.
What a handler lets out is caught here and nowhere else.
"""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from typing import Any, Generic, TypeVar
from uuid import UUID

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from faststream.kafka import KafkaBroker

from chassis.data_map import MARKS_OF_A_TENANT
from chassis.database import TRANSIENT_ERRORS
from chassis.dead_letters import written
from chassis.dead_letters.redrives import Letter, back_to_open, settle_redriven, take_up
from chassis.dead_letters.written import Held, State
from chassis.handlers import DeadLetter, Handlers, Outcome, Retry
from chassis.logs import bound
from chassis.metrics import Metrics
from chassis.outbox import Cause
from chassis.positions import Positions
from chassis.readings import Arrived, NotOurs, Reader, Reading, Record, Unreadable, command_of
from chassis.tracing import SpanKind, continued, current_traceparent
from chassis.unit_of_work import UnitOfWork, Units
from contracts.classes import DataClass
from contracts.envelope import Envelope
from contracts.messages import Kind, Message
from contracts.registry import types_of
from contracts.tenants import Version
from contracts.topics import Topic

log = structlog.get_logger(__name__)

C = TypeVar("C")

# Of the last so many records, this share may become dead letters before the consumer stops: when
# nearly everything fails the fault is ours, and a person should look before more is passed by.
_WATCHED_RECORDS = 40
_TOLERATED_FAILURES = 0.9


@dataclass(frozen=True, slots=True)
class Retries:
    """How often and how long a failing message is tried before it is written down."""

    attempts: int = 4
    first_pause: timedelta = timedelta(milliseconds=100)
    longest_pause: timedelta = timedelta(seconds=5)

    def pause_seconds(self, attempt: int) -> float:
        """Return a full-jitter pause after the given attempt (1 is the first)."""
        limit = min(
            self.first_pause.total_seconds() * 2 ** (attempt - 1),
            self.longest_pause.total_seconds(),
        )
        return random.uniform(0, limit)  # noqa: S311 - spreads retries, guards nothing


class _MustRetryError(Exception):
    """A handler asked for another try."""

    def __init__(self, retry: Retry) -> None:
        super().__init__(retry.reason)
        self.retry = retry


class _MustGiveUpError(Exception):
    """A handler asked for its message to be written down."""


@dataclass(frozen=True, slots=True)
class _GivenUp:
    """Why a message is not tried any more, and how often it was."""

    reason: str
    error_type: str | None
    attempts: int


class ConsumerHaltedError(Exception):
    """Nearly everything failed, so the consumer stopped before it passed more by."""


_NOT_THE_MESSAGES_FAULT: tuple[type[BaseException], ...] = (*TRANSIENT_ERRORS, ConsumerHaltedError)


def main_group(service: str) -> str:
    """Name the consumer group of a service that hears everything but the ledger."""
    return f"{service}.main.v1"


class Consumer(Generic[C]):
    """One consumer group of a service over all the topics that it hears."""

    def __init__(
        self,
        *,
        name: str,
        topics: Sequence[Topic],
        handlers: Handlers[C],
        units: Units[C],
        metrics: Metrics,
        cluster_id: str,
        retries: Retries | None = None,
        max_records: int = 500,
        passes_failures_by: bool = True,
        on_halt: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare a consumer; ``name`` is its group, ``<service>.<purpose>.v1``.

        One that does not pass failures by halts where others write a dead letter. ``on_halt`` is
        called once it has stopped.
        """
        self.name = name
        self._topics = topics
        self._reader = Reader(topics, handlers)
        self._handlers = handlers
        self._units = units
        self._metrics = metrics
        self._retries = retries or Retries()
        self._max_records = max_records
        self._positions = Positions(name, cluster_id)
        self._sought: set[TopicPartition] = set()
        self._has_joined = False
        self._working = asyncio.Lock()
        # To ask is worth it only while a replay brings what is known; the inbox drops it anyway.
        self._asks_the_inbox_first = True
        self._recent: deque[bool] = deque(maxlen=_WATCHED_RECORDS)
        self._passes_failures_by = passes_failures_by
        self._on_halt = on_halt
        self._halted = False
        self._released = asyncio.Event()
        self._subscriber: Any = None

    # -- joining ------------------------------------------------------------------------------

    def subscribe(self, broker: KafkaBroker) -> Any:
        """Register with FastStream's broker; return its subscriber, for health and for starting."""
        self._subscriber = broker.subscriber(
            *(topic.name for topic in self._topics),
            group_id=self.name,
            batch=True,
            auto_offset_reset="earliest",
            max_records=self._max_records,
            batch_timeout_ms=50,
            session_timeout_ms=45_000,
            heartbeat_interval_ms=3_000,
            listener=_Listener(self),
            parser=_parse_without_headers,
            decoder=_keep_records,
        )
        self._subscriber(self.take)
        return self._subscriber

    @property
    def halted(self) -> bool:
        """Whether nearly everything failed and a person has to look."""
        return self._halted

    def release(self) -> None:
        """Let go of a batch that is held because the consumer halted; call it before stopping."""
        self._released.set()

    def alive(self) -> bool:
        """Whether the task that polls Kafka is running."""
        tasks = self._subscriber.tasks if self._subscriber else []
        return bool(tasks) and not any(task.done() for task in tasks)

    def assigned(self) -> bool:
        """Whether this member has its share, each partition sought to where our database says.

        The share may be nothing: where there are more members than partitions, some stand by.
        """
        consumer = self._kafka()
        return self._has_joined and consumer is not None and consumer.assignment() <= self._sought

    def _kafka(self) -> AIOKafkaConsumer | None:
        return self._subscriber.consumer if self._subscriber else None

    # -- rebalances ---------------------------------------------------------------------------

    async def revoked(self) -> None:
        """Let the batch in hand come to its end, within bounds, before others take over."""
        try:
            async with asyncio.timeout(10), self._working:
                pass
        except TimeoutError:
            log.warning("batch still running at a rebalance, the fence will tell", group=self.name)
        self._sought.clear()
        self._has_joined = False

    async def joined(self, share: Iterable[TopicPartition]) -> None:
        """Take the share of the group's partitions that the coordinator gave this member."""
        await self.assigned_to(share)
        self._has_joined = True

    async def assigned_to(self, partitions: Iterable[TopicPartition]) -> None:
        """Seek to where our database says we are, however long it takes to ask it."""
        wanted = set(partitions)
        while wanted and not await self._try_to_seek(wanted):
            await asyncio.sleep(0.5)

    async def _try_to_seek(self, wanted: set[TopicPartition]) -> bool:
        consumer = self._kafka()
        if consumer is None:
            return False
        try:
            async with self._units.pool.acquire() as connection, connection.transaction():
                offsets = await self._positions.load(connection, wanted)
        except TRANSIENT_ERRORS as error:
            log.warning("database away, cannot seek yet", error=type(error).__name__)
            return False
        still_ours = wanted & consumer.assignment()
        for partition in still_ours:
            consumer.seek(partition, offsets[partition])
        self._sought |= still_ours
        return True

    # -- one batch ----------------------------------------------------------------------------

    async def take(self, records: Sequence[Record]) -> None:
        """Deal with one batch: all of it is committed when this returns, or nothing was lost.

        While the database is away the same batch is tried again and again.
        """
        async with self._working:
            records = await self._sought_only(records)
            if not records:
                return
            self._measure_lag(records)
            pause = 0.1
            while True:
                try:
                    await self._batch(await self._readings(records))
                except ConsumerHaltedError:
                    await self._stay_halted()
                except TRANSIENT_ERRORS as error:
                    log.warning("database away or busy", error=type(error).__name__)
                    self._metrics.retries_total.labels(handler="transaction").inc()
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, 5.0)
                else:
                    return

    async def _sought_only(self, records: Sequence[Record]) -> Sequence[Record]:
        """Drop what was fetched from a partition before we had sought to our own position."""
        unsought = {TopicPartition(r.topic, r.partition) for r in records} - self._sought
        if not unsought:
            return records
        await self.assigned_to(unsought)
        return [r for r in records if TopicPartition(r.topic, r.partition) not in unsought]

    async def _stay_halted(self) -> None:
        """Hold this batch until the process is stopped; to let go of it would fetch it again."""
        self._halted = True
        log.error("consumer halted until a person has looked and restarts it", group=self.name)
        self._on_halt()
        await self._released.wait()
        raise ConsumerHaltedError(self.name)

    def _measure_lag(self, records: Sequence[Record]) -> None:
        consumer = self._kafka()
        if consumer is None:
            return
        for partition, offset in _next_offsets(records).items():
            high = consumer.highwater(partition)
            self._metrics.consumer_lag.labels(
                topic=partition.topic, partition=partition.partition
            ).set(max(0, (high or 0) - offset))

    async def _batch(self, readings: Sequence[Reading[C]]) -> None:
        """Do the whole batch in one transaction; where that fails, one by one."""
        if all(isinstance(reading, NotOurs) for reading in readings):
            await self._pass_by(readings)
            return
        try:
            async with self._units.begin() as uow:
                await self._work(uow, readings)
        except _NOT_THE_MESSAGES_FAULT:
            raise
        except Exception as error:  # noqa: BLE001 - whichever it was, alone it will show itself
            log.info("batch failed, taking its messages one by one", error=type(error).__name__)
            for reading in readings:
                await self._alone(reading)
        else:
            self._recent.extend(isinstance(reading, Unreadable) for reading in readings)
            self._halt_if_all_fails()

    async def _pass_by(self, readings: Sequence[Reading[C]]) -> None:
        """Move on where there is nothing to do, in one statement; it needs no fence."""
        async with self._units.pool.acquire() as connection:
            await self._positions.save(connection, _next_offsets(r.record for r in readings))
        self._recent.extend(False for _ in readings)

    async def _alone(self, reading: Reading[C]) -> None:
        """Try one message until it is done or given up; either moves the position on."""

        async def work(uow: UnitOfWork[C]) -> None:
            await self._work(uow, [reading])

        failure = await self._tried(reading, work)
        if failure is not None:
            await self._give_up(reading, failure)
            return
        self._recent.append(isinstance(reading, Unreadable))
        self._halt_if_all_fails()

    async def _tried(
        self,
        reading: Reading[C],
        work: Callable[[UnitOfWork[C]], Awaitable[None]],
    ) -> "_GivenUp | None":
        """Do a message's work, each attempt in a transaction of its own; say why it is given up."""
        name = reading.handler.name if isinstance(reading, Arrived) else "parser"
        for attempt in range(1, self._retries.attempts + 1):
            try:
                async with self._units.begin() as uow:
                    await work(uow)
            except _NOT_THE_MESSAGES_FAULT:
                raise
            except _MustGiveUpError as error:
                return _GivenUp(str(error), None, attempt)
            except Exception as error:  # noqa: BLE001 - the handler's fault, whatever it is
                self._metrics.retries_total.labels(handler=name).inc()
                if attempt == self._retries.attempts:
                    return _GivenUp(_reason(error), type(error).__name__, attempt)
                pause = self._retries.pause_seconds(attempt)
                if isinstance(error, _MustRetryError):
                    pause = max(pause, error.retry.after.total_seconds())
                await asyncio.sleep(min(pause, self._retries.longest_pause.total_seconds()))
            else:
                return None
        raise AssertionError("there is at least one attempt")

    async def _give_up(self, reading: Reading[C], why: "_GivenUp") -> None:
        if not isinstance(reading, Arrived):  # not even its dead letter can be written
            log.error("cannot write a dead letter", group=self.name, error=why.error_type)
            raise ConsumerHaltedError(self.name)
        self._recent.append(True)
        self._halt_if_all_fails()
        failure = reading.failure(why.reason, why.error_type, why.attempts)
        async with self._units.begin() as uow:
            await self._work(uow, [Unreadable(reading.record, failure)])

    def _halt_if_all_fails(self) -> None:
        full = len(self._recent) == self._recent.maxlen
        if full and sum(self._recent) / len(self._recent) > _TOLERATED_FAILURES:
            log.error("nearly everything fails", group=self.name)
            raise ConsumerHaltedError(self.name)

    # -- dead letters -------------------------------------------------------------------------

    async def redrive(self, letter: Letter) -> None:
        """Try a dead letter again as if it had just come, and note with it what became of it.

        The guard and the inbox hold as they always do. One that is settled meanwhile is left alone.
        """
        reading = self._reader.read(letter.record())
        failed: _GivenUp | None
        if isinstance(reading, Arrived):
            failed = await self._tried(reading, lambda uow: self._redo(uow, letter, reading))
        elif isinstance(reading, Unreadable):
            failed = _GivenUp(reading.failure.reason, None, 1)
        else:
            failed = _GivenUp("no handler here takes it", None, 1)
        if failed is None:
            return
        failure = (
            reading.failure(failed.reason, failed.error_type, failed.attempts)
            if isinstance(reading, Arrived)
            else replace(letter.failure, reason=failed.reason, error_type=None)
        )
        async with self._units.begin() as uow:
            await back_to_open(uow, letter, failure)
        log.error("dead letter failed again", handler=failure.handler, reason=failure.reason)

    async def _redo(self, uow: UnitOfWork[C], letter: Letter, reading: Arrived[C]) -> None:
        erased = await self._lock_and_guard(uow, [reading])
        if not await take_up(uow, letter):
            return
        handled = await self._pass_on(uow, [reading], erased)
        await settle_redriven(uow, letter, was_handled=bool(handled))

    # -- one transaction ----------------------------------------------------------------------

    async def _work(self, uow: UnitOfWork[C], readings: Sequence[Reading[C]]) -> None:
        erased = await self._lock_and_guard(uow, readings)
        fresh = await self._move_on(uow, readings)
        commands = [command for r in fresh if (command := command_of(r))]
        held = await written.held(uow, self.name, {purge_id for purge_id, _ in commands})
        again = [command for command in commands if held.knows(command)]
        arrived = await self._in_turn(uow, fresh, held)
        wanted = await self._pass_on(uow, arrived, erased)
        done = [r.command for r in wanted if r.command in again]
        await self._settle_what_is_past(uow, wanted, [each for each in done if each is not None])

    async def _lock_and_guard(
        self, uow: UnitOfWork[C], readings: Sequence[Reading[C]]
    ) -> Mapping[UUID, frozenset[DataClass]]:
        told = [(r.handler, r.tenant_id) for r in readings if isinstance(r, Arrived)]
        writing = {tenant for handler, tenant in told if tenant and handler.writes}
        again = {r.tenant_id for r in readings if isinstance(r, Arrived) and r.mark and r.tenant_id}
        # The same erasure is ordered by command and by ledger, each heard in an order of its own.
        ordering = {
            tenant
            for handler, tenant in told
            if tenant and handler.kind in {Kind.COMMAND, Kind.LOG}
        }
        if writing or ordering:
            await uow.lock_tenants(writing, exclusively=ordering)
        guarded = writing | again
        return await uow.erased_classes(guarded) if guarded else {}

    async def _in_turn(
        self,
        uow: UnitOfWork[C],
        fresh: Sequence[Reading[C]],
        held: Held,
    ) -> list[Arrived[C]]:
        """Return what is to be handled now; what cannot be read or has to wait is written down."""
        arrived = []
        for reading in fresh:
            match reading:
                case Unreadable():
                    await self._write_down(uow, reading, held)
                case Arrived() if reading.command and held.must_wait(*reading.command):
                    await self._park(uow, reading, held)
                case Arrived():
                    arrived.append(reading)
        return arrived

    async def _write_down(self, uow: UnitOfWork[C], reading: Unreadable, held: Held) -> None:
        record, failure = reading.record, reading.failure
        if not self._passes_failures_by:
            log.error("cannot go past this record", reason=failure.reason)
            raise ConsumerHaltedError(self.name)
        if held.knows(failure.command):
            await written.count_again(uow, self.name, failure)
        else:
            await written.write(uow, self.name, record, failure)
            if failure.command:
                held.add(failure.command)
        self._metrics.dead_letters_total.labels(
            handler=failure.handler, reason=failure.error_type or "refused"
        ).inc()
        log.error(
            "dead letter",
            handler=failure.handler,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            reason=failure.reason,
        )

    async def _park(self, uow: UnitOfWork[C], reading: Arrived[C], held: Held) -> None:
        assert reading.command is not None
        failure = reading.failure("waits behind an earlier command of its purge", attempts=0)
        if not held.knows(reading.command):
            await written.write(uow, self.name, reading.record, failure, state=State.PARKED)
            held.add(reading.command)
        log.warning(
            "command parked",
            handler=failure.handler,
            purge_id=str(failure.purge_id),
            step=failure.step,
        )

    async def _pass_on(
        self,
        uow: UnitOfWork[C],
        arrived: Sequence[Arrived[C]],
        erased: Mapping[UUID, frozenset[DataClass]],
    ) -> list[Arrived[C]]:
        """Give to their handlers what is no repeat and not of the erased; return what was given."""
        arrived = await self._once(uow, self._newest(arrived))
        wanted = self._unguarded(uow, arrived, erased) if erased else arrived
        for group in _groups(wanted):
            await self._handle(uow, group)
        return wanted

    def _unguarded(
        self,
        uow: UnitOfWork[C],
        arrived: Sequence[Arrived[C]],
        erased: Mapping[UUID, frozenset[DataClass]],
    ) -> list[Arrived[C]]:
        """Drop and count what is about classes of tenants that are erased."""
        wanted = []
        for reading in arrived:
            refused = _refused_by(erased, reading)
            if refused:
                uow.count_suppressed("consumer", refused)
            else:
                wanted.append(reading)
        return wanted

    async def _settle_what_is_past(
        self,
        uow: UnitOfWork[C],
        handled: Sequence[Arrived[C]],
        again: Sequence[tuple[UUID, str]],
    ) -> None:
        """Settle dead letters that are repaired by what has just been handled."""
        states = {(r.record.topic, r.record.key) for r in handled if r.handler.kind is Kind.STATE}
        if states:
            await written.overtake_states(uow, self.name, states)
        if again:
            await written.overtake_commands(uow, self.name, again)

    async def _move_on(
        self, uow: UnitOfWork[C], readings: Sequence[Reading[C]]
    ) -> list[Reading[C]]:
        """Pass the fence: keep what nobody has done yet, and move the positions behind it."""
        next_offsets = _next_offsets(reading.record for reading in readings)
        done = {
            (partition.topic, partition.partition): offset
            for partition, offset in (
                await self._positions.lock(uow.connection, next_offsets)
            ).items()
        }
        await self._positions.save(uow.connection, next_offsets)
        return [
            r
            for r in readings
            if r.record.offset >= done.get((r.record.topic, r.record.partition), 0)
        ]

    def _newest(self, arrived: Sequence[Arrived[C]]) -> list[Arrived[C]]:
        """Of several states of one key in a batch, keep the one that counts.

        That is the highest version, whichever came last, since a relay that was in doubt says
        older ones again; a tombstone ends what came before it.
        """
        newest: dict[tuple[str, bytes | None], Arrived[C]] = {}
        for r in arrived:
            if r.handler.kind is Kind.STATE:
                name = (r.record.topic, r.record.key)
                known = newest.get(name)
                if known is None or not _passed(known, r):
                    newest[name] = r
        return [
            r
            for r in arrived
            if r.handler.kind is not Kind.STATE or newest[r.record.topic, r.record.key] is r
        ]

    async def _once(self, uow: UnitOfWork[C], arrived: Sequence[Arrived[C]]) -> list[Arrived[C]]:
        """Drop events that the inbox knows and states whose version was passed."""
        new_events = await self._new_events(uow, arrived)
        new_states = await self._new_states(uow, arrived)
        kept: list[Arrived[C]] = []
        seen: set[tuple[str, UUID]] = set()
        for r in arrived:
            if r.handler.kind is Kind.EVENT:
                entry = (self._inbox_of(r), r.envelope.id)
                if entry not in new_events or entry in seen:
                    self._asks_the_inbox_first |= r.mark is not None
                    continue
                seen.add(entry)
            if (
                r.handler.kind is Kind.STATE
                and r.message is not None
                and (r.record.topic, r.tenant_id) not in new_states
            ):
                continue
            kept.append(r)
        return kept

    async def _new_events(
        self, uow: UnitOfWork[C], arrived: Sequence[Arrived[C]]
    ) -> set[tuple[str, UUID]]:
        events = [r for r in arrived if r.handler.kind is Kind.EVENT]
        if not events:
            return set()
        rows = await uow.connection.fetch(
            """
            INSERT INTO inbox (consumer, ce_id, tenant_id, received_at)
            SELECT DISTINCT ON (e.consumer, e.ce_id)
                   e.consumer, e.ce_id, e.tenant_id, $1::timestamptz
              FROM unnest($2::text[], $3::uuid[], $4::uuid[]) AS e(consumer, ce_id, tenant_id)
             ORDER BY e.consumer, e.ce_id
            ON CONFLICT (consumer, ce_id) DO NOTHING
            RETURNING consumer, ce_id
            """,
            uow.now,
            [self._inbox_of(r) for r in events],
            [r.envelope.id for r in events],
            # An answer to an erasure can come again when all else of the tenant is gone, and then
            # nobody would come for a mark of it.
            [None if _is_proof(r.handler.model) else r.tenant_id for r in events],
        )
        return {(row["consumer"], row["ce_id"]) for row in rows}

    def _inbox_of(self, reading: Arrived[C]) -> str:
        """Name the inbox that an event goes through; a forced replay has one of its own."""
        if reading.mark is None or not reading.mark.forced or reading.handler.once:
            return self.name
        return f"{self.name} {reading.mark.replay_id}"

    async def _new_states(
        self, uow: UnitOfWork[C], arrived: Sequence[Arrived[C]]
    ) -> set[tuple[str, UUID | None]]:
        states = [r for r in arrived if r.handler.kind is Kind.STATE and r.message is not None]
        if not states:
            return set()
        versions = [_version_of(r.message) for r in states]
        rows = await uow.connection.fetch(
            """
            INSERT INTO followed_states AS f (consumer, topic, tenant_id, epoch, n)
            SELECT $1, s.topic, s.tenant_id, s.epoch, s.n
              FROM unnest($2::text[], $3::uuid[], $4::bigint[], $5::bigint[])
                   AS s(topic, tenant_id, epoch, n)
             ORDER BY s.topic, s.tenant_id
            ON CONFLICT (consumer, topic, tenant_id) DO UPDATE
               SET epoch = excluded.epoch, n = excluded.n
             WHERE (f.epoch, f.n) < (excluded.epoch, excluded.n)
            RETURNING topic, tenant_id
            """,
            self.name,
            [r.record.topic for r in states],
            [r.tenant_id for r in states],
            [version.epoch for version in versions],
            [version.n for version in versions],
        )
        return {(row["topic"], row["tenant_id"]) for row in rows}

    async def _handle(self, uow: UnitOfWork[C], group: Sequence[Arrived[C]]) -> None:
        handler = group[0].handler
        with self._metrics.handler_seconds.labels(handler=handler.name).time():
            if len(group) == 1:
                outcome = await self._handle_one(uow, group[0])
            else:
                outcome = await self._handle_many(uow, group)
            forgotten = [r.tenant_id for r in group if r.message is None and r.tenant_id]
            await _forget(uow, forgotten)
        match outcome:
            case Retry():
                raise _MustRetryError(outcome)
            case DeadLetter(reason):
                raise _MustGiveUpError(reason)
        for reading in group:
            self._metrics.events_handled_total.labels(
                topic=reading.record.topic, type=reading.envelope.type, outcome="done"
            ).inc()

    async def _handle_one(self, uow: UnitOfWork[C], reading: Arrived[C]) -> Outcome | None:
        handler, envelope = reading.handler, reading.envelope
        uow.outbox.causes = {}
        uow.outbox.causation = envelope.id
        uow.outbox.correlation = _correlation_of(envelope)
        with (
            bound(handler=handler.name, type=envelope.type, event_id=str(envelope.id)),
            continued(envelope.traceparent, handler.name, SpanKind.CONSUMER),
        ):
            return await handler.function(reading.argument, uow)

    async def _handle_many(self, uow: UnitOfWork[C], group: Sequence[Arrived[C]]) -> Outcome | None:
        handler = group[0].handler
        assert handler.together is not None
        causes: dict[UUID | None, Cause] = {}
        for reading in group:
            envelope = reading.envelope
            with continued(envelope.traceparent, handler.name, SpanKind.CONSUMER):
                causes[reading.tenant_id] = Cause(
                    envelope.id, _correlation_of(envelope), current_traceparent()
                )
        causes.pop(None, None)
        uow.outbox.causes = causes
        uow.outbox.causation = uow.outbox.correlation = None
        with (
            bound(handler=handler.name, messages=len(group)),
            continued(None, handler.name, SpanKind.CONSUMER),
        ):
            return await handler.together([reading.argument for reading in group], uow)

    # -- reading ------------------------------------------------------------------------------

    async def _readings(self, records: Sequence[Record]) -> list[Reading[C]]:
        """Read records; of a replay only what the inbox does not know, as most of it does."""
        if not self._asks_the_inbox_first:
            return [self._reader.read(record) for record in records]
        ids = [self._reader.unforced_id(record) for record in records]
        asked = [each for each in ids if each is not None]
        known = await self._known_again(asked)
        self._asks_the_inbox_first = bool(known) or not asked
        return [
            NotOurs(record) if ce_id in known else self._reader.read(record)
            for record, ce_id in zip(records, ids, strict=True)
        ]

    async def _known_again(self, ids: Sequence[UUID]) -> set[UUID | None]:
        if not ids:
            return set()
        async with self._units.pool.acquire() as connection:
            rows = await connection.fetch(
                "SELECT ce_id FROM inbox WHERE consumer = $1 AND ce_id = ANY($2::uuid[])",
                self.name,
                ids,
            )
        return {row["ce_id"] for row in rows}


def _version_of(state: Message | None) -> Version:
    version: Version = getattr(state, "version")  # noqa: B009 - every state has one, its base has not
    return version


def _groups(arrived: Sequence[Arrived[C]]) -> list[list[Arrived[C]]]:
    """Gather what a handler takes together; messages of one key stay in their order."""
    groups: list[list[Arrived[C]]] = []
    open_groups: dict[str, int] = {}
    last_of_key: dict[bytes | None, int] = {}
    for reading in arrived:
        name, key = reading.handler.name, reading.record.key
        place = open_groups.get(name, -1) if reading.handler.together else -1
        if place < last_of_key.get(key, 0):
            place = len(groups)
            groups.append([])
            open_groups[name] = place
        groups[place].append(reading)
        last_of_key[key] = place
    return groups


def _next_offsets(records: Iterable[Record]) -> dict[TopicPartition, int]:
    """Say for each partition of these records what comes behind them."""
    found: dict[tuple[str, int], int] = {}
    for record in records:
        place = (record.topic, record.partition)
        if record.offset >= found.get(place, 0):
            found[place] = record.offset + 1
    return {TopicPartition(*place): offset for place, offset in found.items()}


@cache
def _is_proof(model: type[Message]) -> bool:
    """Whether what a message says outlives its tenant, as what is said of an erasure does."""
    return all(
        topic.erases_as is DataClass.ERASURE_PROOF
        for each in types_of(model)
        for topic in each.topics
    )


def _refused_by(
    erased: Mapping[UUID, frozenset[DataClass]], reading: Arrived[C]
) -> DataClass | None:
    """Name the class because of whose guard a message is not handled.

    A replay says nothing at all of a tenant of whom anything is erased: what is still to be done
    about it purger asks for by itself.
    """
    guarded = erased.get(reading.tenant_id, frozenset()) if reading.tenant_id else frozenset()
    if reading.mark is not None:
        return min(guarded, default=None)
    return reading.handler.writes if reading.handler.writes in guarded else None


def _correlation_of(envelope: Envelope) -> str:
    return envelope.correlationid or str(envelope.id)


def _passed(known: Arrived[C], came: Arrived[C]) -> bool:
    """Whether a state that came later in a batch is older than one that came before."""
    if known.message is None or came.message is None:
        return False
    return _version_of(came.message) < _version_of(known.message)


async def _forget(uow: UnitOfWork[C], tenant_ids: Sequence[UUID]) -> None:
    """Drop what the plumbing still holds of tenants of whom there is nothing left to know.

    Owners have erased it by then; a service that owns no data of tenants does it here.
    """
    if not tenant_ids:
        return
    for table in MARKS_OF_A_TENANT:
        await uow.connection.execute(
            f"DELETE FROM {table} WHERE tenant_id = ANY($1::uuid[])",  # noqa: S608 - one of three constants
            list(tenant_ids),
        )


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka publishes no types
    """Tells a consumer what the group's coordinator decided."""

    def __init__(self, consumer: Consumer[Any]) -> None:
        self._consumer = consumer

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        del revoked  # eager assignment revokes all
        await self._consumer.revoked()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        await self._consumer.joined(assigned)


async def _parse_without_headers(records: tuple[Record, ...], original: Any) -> Any:
    """Let FastStream build its message without looking at headers.

    Its own parser decodes every header as UTF-8; for one that is null or not UTF-8 it raises where
    nothing rewinds, and the record is skipped and committed past. Of a batch it needs both ends.
    """
    ends = (records[0], records[-1])
    message = await original(tuple(replace(record, headers=()) for record in ends))
    message.raw_message = records
    return message


async def _keep_records(message: Any) -> Any:
    """Hand the records on as they are; decoding by content type would guess where none is given."""
    return message.raw_message


def _reason(error: Exception) -> str:
    """Name an error without its text, which may repeat what a message or a row holds."""
    if isinstance(error, _MustRetryError):
        return f"still not possible: {error.retry.reason}"
    return f"handler raised {type(error).__name__}"
