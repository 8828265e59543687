"""Keeps idle partitions of state topics moving, so that Kafka compacts them in time.

Kafka rolls a segment only when it appends, and never cleans the one it appends to. On a partition
where nothing is said any more, what a tombstone should remove would stay for ever.
"""

from collections.abc import Mapping
from functools import cache
from itertools import count
from uuid import UUID, uuid5

from aiokafka.partitioner import DefaultPartitioner

from chassis.unit_of_work import C, Units
from contracts.messages import Kind, Message
from contracts.registry import MESSAGE_TYPES
from contracts.topics import Topic

_NOBODY_AT_ALL = UUID("5f0c2b5e-6f0b-5a5c-9d3a-0c7f4f3a1b11")


def state_models(service: str) -> Mapping[Topic, type[Message]]:
    """Return the state topics that a service owns, each with the model of its records."""
    return {
        topic: each.model
        for each in MESSAGE_TYPES
        for topic in each.topics
        if topic.owner == service and topic.kind is Kind.STATE
    }


@cache
def keys_for_each_partition(topic: Topic) -> tuple[UUID, ...]:
    """Return one id of no tenant for each partition, the same ones each time."""
    partitioner, partitions = DefaultPartitioner(), list(range(topic.partitions))
    found: dict[int, UUID] = {}
    for number in count():
        candidate = uuid5(_NOBODY_AT_ALL, f"{topic.name}/{number}")
        partition = partitioner(str(candidate).encode(), partitions, partitions)
        found.setdefault(partition, candidate)
        if len(found) == topic.partitions:
            break
    return tuple(found[partition] for partition in partitions)


async def beat(units: Units[C]) -> int:
    """Say on every partition of our state topics that nobody is gone; return how many that were.

    A tombstone of an id that was never a tenant's changes nothing for whoever reads it.
    """
    said = 0
    async with units.begin() as uow:
        for topic, model in state_models(units.service).items():
            for nobody in keys_for_each_partition(topic):
                uow.outbox.tombstone(model, nobody)
                said += 1
    return said
