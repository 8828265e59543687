"""A partition on which nothing is said any more is still compacted in time."""

import asyncio
from contextlib import suppress
from dataclasses import replace

from aiokafka.partitioner import DefaultPartitioner

from chassis.broker import KafkaAccess
from chassis.heartbeats import beat, keys_for_each_partition, state_models
from contracts.tenants import TenantState
from contracts.topics import (
    INSTALLER_TENANTS,
    NOTIFIER_POLICIES,
    NOTIFIER_SUPPRESSIONS,
    PURGER_PURGES,
)
from devstack.kafka import create_topics
from tests.support.chassis import Sample
from tests.support.topics import read_all


def test_only_owners_of_state_keep_partitions_moving() -> None:
    assert state_models("installer") == {INSTALLER_TENANTS: TenantState}
    assert list(state_models("purger")) == [PURGER_PURGES]
    assert list(state_models("notifier")) == [NOTIFIER_POLICIES, NOTIFIER_SUPPRESSIONS]
    assert state_models("config") == {}


def test_each_partition_has_an_id_of_its_own_which_stays_the_same() -> None:
    partitions = list(range(INSTALLER_TENANTS.partitions))
    keys = keys_for_each_partition(INSTALLER_TENANTS)
    landed = [DefaultPartitioner()(str(key).encode(), partitions, partitions) for key in keys]
    assert landed == partitions
    assert keys == keys_for_each_partition(replace(INSTALLER_TENANTS))
    assert set(keys).isdisjoint(keys_for_each_partition(PURGER_PURGES))


async def test_a_beat_reaches_every_partition_as_a_tombstone_of_nobody(
    sample: Sample, access: KafkaAccess
) -> None:
    await create_topics([INSTALLER_TENANTS], **access.client_options())
    before = len(await read_all(access, INSTALLER_TENANTS.name))
    relay = sample.relay(access)
    task = asyncio.create_task(relay.run())
    assert await beat(sample.units(relay.wake)) == INSTALLER_TENANTS.partitions
    async with asyncio.timeout(30):
        while len(records := await read_all(access, INSTALLER_TENANTS.name)) < before + 6:
            await asyncio.sleep(0.1)
    relay.stop()
    with suppress(TimeoutError):
        await asyncio.wait_for(task, 20)
    nobody = {str(key).encode() for key in keys_for_each_partition(INSTALLER_TENANTS)}
    beats = [record for record in records if record.key in nobody]
    assert {record.partition for record in beats} == set(range(INSTALLER_TENANTS.partitions))
    assert all(record.value is None for record in beats)
