"""Reads again what was said, from outboxes or topics, so that it can stop anywhere and go on there."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Protocol, TypeAlias
from uuid import UUID

from aiokafka import TopicPartition

from chassis.broker import KafkaAccess
from chassis.history import Place, Wanted, in_order
from cli.events.places import Environment, connected
from cli.events.topics import Record, bounds, pages, partitions_of, reader, said_at
from contracts.envelope import Headers, MalformedEnvelope, from_headers
from contracts.registry import by_ce_type
from contracts.topics import Topic

_A_PAGE: Final = 500

Progress: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Found:
    """A message that may be said again, with its bytes as they are."""

    said_at: datetime
    ce_id: UUID
    type: str
    tenant_id: UUID | None
    key: bytes
    headers: Headers
    payload: bytes


Page: TypeAlias = tuple[Sequence[Found], Progress]


class Source(Protocol):
    """Where messages come from; each page says how to go on behind it."""

    def pages(self, progress: Mapping[str, Any]) -> AsyncGenerator[Page, None]:
        """Yield what there is behind ``progress``, which is empty at the beginning."""
        ...


@dataclass(frozen=True, slots=True)
class Outboxes:
    """The outboxes of the owners of what is wanted, one after another."""

    owners: Sequence[str]
    wanted: Wanted
    environment: Environment

    async def pages(self, progress: Mapping[str, Any]) -> AsyncGenerator[Page, None]:
        """Yield page by page; tombstones, which are of states alone, are left out."""
        owners = list(self.owners)
        if "owner" in progress:
            owners = owners[owners.index(progress["owner"]) :]
        for owner in owners:
            here = owner == progress.get("owner")
            after = Place(*progress["after"]) if here else None
            async with (
                connected(owner, self.environment) as connection,
                aclosing(in_order(connection, self.wanted, after=after, page=_A_PAGE)) as read,
            ):
                async for told in read:
                    place = told[-1].place
                    found = [
                        Found(
                            each.said_at,
                            each.ce_id,
                            each.type,
                            each.tenant_id,
                            each.key.encode(),
                            each.headers,
                            each.payload,
                        )
                        for each in told
                        if each.payload is not None
                    ]
                    after_this = [place.epoch, place.xid, place.position]
                    yield found, {"owner": owner, "after": after_this}


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics that hold what is wanted, as far as they reached when the first page was asked for."""

    topics: Sequence[Topic]
    wanted: Wanted
    access: KafkaAccess

    async def pages(self, progress: Mapping[str, Any]) -> AsyncGenerator[Page, None]:
        """Yield page by page; what cannot be read is left out, nobody could handle it."""
        key = str(self.wanted.tenant_id) if self.wanted.tenant_id else None
        partitions = partitions_of(self.topics, key)
        async with reader(self.access) as consumer:
            first, end = await bounds(
                consumer, partitions, since=self.wanted.since, until=self.wanted.until
            )
            if progress:
                first = _offsets(progress["next"])
                end = _offsets(progress["end"])
            async with aclosing(pages(consumer, first, end)) as read:
                async for page in read:
                    for record in page:
                        first[TopicPartition(record.topic, record.partition)] = record.offset + 1
                    told = {"next": _told(first), "end": _told(end)}
                    yield [each for each in map(self._found, page) if each is not None], told

    def _found(self, record: Record) -> Found | None:
        try:
            envelope = from_headers(record.headers)
        except MalformedEnvelope:
            return None
        known = by_ce_type(envelope.type)
        if record.value is None or known is None or envelope.type not in self.wanted.types:
            return None
        tenant_id = _uuid(envelope.subject)
        if self.wanted.tenant_id is not None and tenant_id != self.wanted.tenant_id:
            return None
        headers = [(name, value or b"") for name, value in record.headers]
        return Found(
            said_at(record),
            envelope.id,
            envelope.type,
            tenant_id,
            record.key or b"",
            headers,
            record.value,
        )


def before(wanted: Wanted, moment: datetime) -> Wanted:
    """Leave out what is said from then on, so that what is wanted stays the same."""
    return replace(wanted, until=min(moment, wanted.until or moment))


def _uuid(text: str | None) -> UUID | None:
    try:
        return UUID(text or "")
    except ValueError:
        return None


def _told(offsets: Mapping[TopicPartition, int]) -> list[list[Any]]:
    return [[each.topic, each.partition, offset] for each, offset in offsets.items()]


def _offsets(told: Sequence[Sequence[Any]]) -> dict[TopicPartition, int]:
    return {TopicPartition(topic, number): offset for topic, number, offset in told}
