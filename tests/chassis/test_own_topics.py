"""What a service has said stands on its topics, and is read there without joining anybody."""

from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from chassis.broker import KafkaAccess
from chassis.own_topics import Said, last_said, pages_of
from contracts.envelope import to_headers
from contracts.tenants import TenantState
from contracts.topics import INSTALLER_TENANTS, Topic
from tests.support.bus import an_envelope
from tests.support.chassis import a_tenant
from tests.support.topics import a_topic

SAID_AT = datetime(2026, 5, 4, 3, 2, tzinfo=UTC)


async def a_state_topic(access: KafkaAccess) -> Topic:
    name = await a_topic(access, partitions=3)
    return replace(INSTALLER_TENANTS, name=name, partitions=3)


async def say(access: KafkaAccess, topic: Topic, *records: tuple[UUID, bytes | None]) -> None:
    headers = to_headers(replace(an_envelope("tenant-updated"), time=SAID_AT))
    async with access.producer() as producer:
        for tenant_id, value in records:
            key = str(tenant_id).encode()
            # A bare tombstone, as a tool may set it, has no headers at all.
            said = headers if value is not None else []
            await producer.send_and_wait(topic.name, value, key=key, headers=said)


async def states(access: KafkaAccess, topic: Topic) -> list[Said[TenantState]]:
    found: list[Said[TenantState]] = []
    async with aclosing(last_said(access, topic, TenantState)) as partitions:
        async for page in partitions:
            found += page
    return found


async def test_the_last_state_of_each_key_is_found_and_tombstones_are_not(
    access: KafkaAccess,
) -> None:
    topic = await a_state_topic(access)
    living, gone, back = a_tenant(), a_tenant(), a_tenant()
    newer = a_tenant(n=2, tenant_id=living.tenant_id)
    others = [a_tenant() for _ in range(20)]
    await say(
        access,
        topic,
        (living.tenant_id, living.encode()),
        (gone.tenant_id, gone.encode()),
        (back.tenant_id, None),
        *((each.tenant_id, each.encode()) for each in others),
        (gone.tenant_id, None),
        (back.tenant_id, back.encode()),
        (living.tenant_id, newer.encode()),
    )
    found = await states(access, topic)
    assert {said.said_at for said in found} == {SAID_AT}
    by_id = {said.state.tenant_id: said.state for said in found}
    assert by_id == {each.tenant_id: each for each in (newer, back, *others)}
    assert len(found) == len(by_id)


async def test_an_empty_topic_has_nothing_to_say(access: KafkaAccess) -> None:
    topic = await a_state_topic(access)
    assert await states(access, topic) == []
    async with aclosing(pages_of(access, topic)) as pages:
        assert [page async for page in pages] == []
