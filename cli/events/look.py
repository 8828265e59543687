"""`keepword events tail`, `show` and `find`: what was said, in Kafka or in the services' outboxes.

Of a message's body only those fields are shown that the contracts classify as fit for the bus.
"""

import asyncio
import json
import signal
import sys
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from threading import current_thread, main_thread
from typing import Any, Final, TypeAlias
from uuid import UUID

from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from chassis.broker import KafkaAccess
from chassis.history import Told, Wanted, newest
from cli.events.places import (
    Misunderstood,
    complain,
    connected,
    environment,
    kafka_of,
    outboxes,
    run,
)
from cli.events.topics import Record, bounds, pages, partitions_of, readable, reader, said_at
from cli.running import FAILED, INTERRUPTED
from contracts.classes import shown
from contracts.envelope import Envelope, MalformedEnvelope, from_headers
from contracts.registry import by_ce_type
from contracts.topics import Topic

# Without a tenant or an id everything has to be read, so a day is what is asked for by itself.
_USUALLY_SINCE: Final = timedelta(days=1)
_COLOURS: Final = {"state": "cyan", "command": "magenta", "event": "green", "log": "blue"}

Write: TypeAlias = Callable[["Seen"], None]


@dataclass(frozen=True, slots=True)
class Seen:
    """A message as a person sees it."""

    said_at: datetime
    topic: str
    where: str
    key: str
    envelope: Envelope | None
    payload: bytes | None

    @classmethod
    def of_row(cls, service: str, told: Told) -> "Seen":
        """See a row of a service's outbox."""
        place = f"outbox of {service}, {told.place.position}"
        return cls(told.said_at, told.topic, place, told.key, _envelope(told.headers), told.payload)

    @classmethod
    def of_record(cls, record: Record) -> "Seen":
        """See a record of a topic, whatever it holds."""
        return cls(
            said_at(record),
            record.topic,
            f"partition {record.partition}, offset {record.offset}",
            (record.key or b"").decode("utf-8", "replace"),
            _envelope(record.headers),
            record.value,
        )

    def body(self) -> Any:
        """Give what may be shown of the body, or say in words why there is nothing."""
        known = by_ce_type(self.envelope.type) if self.envelope else None
        if self.payload is None:
            return None
        if known is None:
            return "(hidden: nobody has classified what this is)"
        try:
            return shown(known.model.decode(self.payload))
        except ValidationError:
            return "(hidden: it does not fit its schema)"

    def told(self) -> dict[str, Any]:
        """Give it as JSON has it."""
        told: dict[str, Any] = {"said_at": self.said_at.isoformat(), "topic": self.topic}
        told |= {"where": self.where, "key": self.key}
        if self.envelope is not None:
            each = self.envelope
            told |= {
                "id": str(each.id),
                "type": each.type,
                "source": each.source,
                "time": each.time.isoformat(),
                "tenant_id": each.subject,
                "traceparent": each.traceparent,
                "causation_id": each.causationid,
                "correlation_id": each.correlationid,
                "schema": each.dataschema,
            }
        return told | {"body": self.body()}


def run_find(
    question: Callable[[], Wanted], *, source: str, services: Sequence[str], limit: int
) -> int:
    """Show the last messages that fit, the oldest first."""

    async def find(write: Write) -> int:
        wanted = _bounded(question())
        found = await _found(wanted, source, services, limit)
        for each in found:
            write(each)
        return 0 if found else FAILED

    return _run(find, "Nothing fits. Look further back with --since, or elsewhere with --from.")


def run_show(ce_id: UUID, *, source: str, services: Sequence[str]) -> int:
    """Show all that may be shown of one message, as JSON."""

    async def show(_: Write) -> int:
        found = await _found(Wanted(ce_id=ce_id), source, services, 1)
        for each in found:
            text = json.dumps(each.told(), indent=1)
            if sys.stdout.isatty():
                Console().print_json(text)
            else:
                print(text)  # noqa: T201 - for programs, so not wrapped
        return 0 if found else FAILED

    return _run(show, "No message has this id, or it is forgotten where you look.")


def run_tail(question: Callable[[], Wanted], *, count: int | None) -> int:
    """Show messages as they come into Kafka, until Ctrl-C or ``count`` of them."""

    async def tail(write: Write) -> int:
        wanted, left = question(), count
        task = asyncio.current_task()
        assert task is not None
        if current_thread() is main_thread():
            # Also where it was started with Ctrl-C ignored, as a shell does with what runs behind it.
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, task.cancel)
        with suppress(asyncio.CancelledError):
            async with aclosing(_coming(kafka_of(environment()), wanted)) as coming:
                async for each in coming:
                    write(each)
                    left = None if left is None else left - 1
                    if left == 0:
                        break
        return 0

    return _run(tail, "", at_once=True)


async def _found(
    wanted: Wanted, source: str, services: Sequence[str], limit: int
) -> Sequence[Seen]:
    if source == "outbox":
        return await _in_outboxes(services, wanted, limit)
    if source == "topic":
        return await _in_topics(kafka_of(environment()), wanted, limit)
    raise Misunderstood(f"--from {source}: look into the outbox or a topic.")


async def _in_outboxes(services: Sequence[str], wanted: Wanted, limit: int) -> list[Seen]:
    found: list[Seen] = []
    named = environment()
    for service in outboxes(services, named):
        async with connected(service, named) as connection:
            rows = await newest(connection, wanted, limit=limit)
        found += [Seen.of_row(service, each) for each in rows]
    return sorted(found, key=lambda each: each.said_at)[-limit:]


async def _in_topics(access: KafkaAccess, wanted: Wanted, limit: int) -> Sequence[Seen]:
    last: deque[Seen] = deque(maxlen=limit)
    partitions = partitions_of(_topics(access, wanted), _key(wanted))
    async with reader(access) as consumer:
        first, end = await bounds(consumer, partitions, since=wanted.since, until=wanted.until)
        found = []
        async with aclosing(pages(consumer, first, end)) as read:
            async for page in read:
                found += [each for each in map(Seen.of_record, page) if fits(each, wanted)]
    last.extend(sorted(found, key=lambda each: each.said_at))
    return last


async def _coming(access: KafkaAccess, wanted: Wanted) -> AsyncGenerator[Seen, None]:
    partitions = partitions_of(_topics(access, wanted), _key(wanted))
    async with reader(access) as consumer:
        first, end = await bounds(consumer, partitions, since=wanted.since, until=None)
        begin = first if wanted.since is not None else end
        async with aclosing(pages(consumer, begin)) as read:
            async for page in read:
                for each in map(Seen.of_record, page):
                    if fits(each, wanted):
                        yield each


def fits(seen: Seen, wanted: Wanted) -> bool:
    """Whether a message is one of those that are looked for; times are not looked at."""
    tenant_id = str(wanted.tenant_id) if wanted.tenant_id else None
    if tenant_id is not None and tenant_id not in (
        seen.key,
        seen.envelope.subject if seen.envelope else None,
    ):
        return False
    if not (wanted.types or wanted.ce_id or wanted.trace_id):
        return True
    return (
        seen.envelope is not None
        and (not wanted.types or seen.envelope.type in wanted.types)
        and wanted.ce_id in (None, seen.envelope.id)
        and (wanted.trace_id is None or wanted.trace_id in (seen.envelope.traceparent or ""))
    )


def _topics(access: KafkaAccess, wanted: Wanted) -> Sequence[Topic]:
    """List the topics that may hold what is looked for."""
    topics = readable(access)
    if not wanted.types:
        return topics
    meant = {
        topic for each in wanted.types if (known := by_ce_type(each)) for topic in known.topics
    }
    return [topic for topic in topics if topic in meant]


def _key(wanted: Wanted) -> str | None:
    return str(wanted.tenant_id) if wanted.tenant_id else None


def _bounded(wanted: Wanted) -> Wanted:
    if wanted.since or wanted.until or wanted.tenant_id or wanted.ce_id:
        return wanted
    return replace(wanted, since=datetime.now(UTC) - _USUALLY_SINCE)


def _envelope(headers: Any) -> Envelope | None:
    try:
        return from_headers(headers)
    except MalformedEnvelope:
        return None


# -- on the screen ----------------------------------------------------------------------------------


def _run(look: Callable[[Write], Awaitable[int]], if_none: str, *, at_once: bool = False) -> int:
    """Look, and write what is seen: lines of JSON for programs, a table for a person."""
    console = Console()
    rows: list[Seen] = []
    write: Write = _write_json if not console.is_terminal else rows.append
    if at_once and console.is_terminal:
        write = lambda seen: console.print(_line(seen), soft_wrap=True)  # noqa: E731 - one of three ways
    status = run(lambda: look(write), when_stopped=0 if at_once else INTERRUPTED)
    if rows:
        console.print(table(rows))
    if status == FAILED and if_none:
        complain(if_none)
    return status


def _write_json(seen: Seen) -> None:
    print(json.dumps(seen.told()), flush=True)  # noqa: T201 - for programs, so not wrapped


def table(rows: Sequence[Seen]) -> Table:
    """Lay messages out for a person, each kind in its colour."""
    laid = Table("said at", "type", "tenant", "id", "trace", "where")
    for each in rows:
        laid.add_row(*_cells(each), style=_colour(each))
    return laid


def _line(seen: Seen) -> Text:
    return Text("  ".join(_cells(seen)), style=_colour(seen))


def _cells(seen: Seen) -> tuple[str, ...]:
    envelope = seen.envelope
    trace = (envelope.traceparent or "").split("-") if envelope else []
    return (
        f"{seen.said_at:%Y-%m-%d %H:%M:%S}",
        _name(seen),
        (envelope.subject if envelope else None) or seen.key,
        str(envelope.id) if envelope else "",
        trace[1][:8] if len(trace) > 1 else "",
        f"{seen.topic}, {seen.where}",
    )


def _name(seen: Seen) -> str:
    if seen.envelope is None:
        return "(unreadable)"
    known = by_ce_type(seen.envelope.type)
    name = known.name if known else seen.envelope.type
    return f"{name} (tombstone)" if seen.payload is None else name


def _colour(seen: Seen) -> str:
    known = by_ce_type(seen.envelope.type) if seen.envelope else None
    return _COLOURS[known.kind] if known else "red"
