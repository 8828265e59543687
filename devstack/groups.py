"""Tells Kafka at once that consumers have died, which it would notice by itself in 45 s."""

from collections.abc import Collection
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.group import LeaveGroupRequest


async def forget_consumers(services: Collection[str], **client_options: Any) -> None:
    """Take every member out of the groups of these services, none of which may be running.

    A member that was killed keeps its partitions until its session is over, and
    whoever starts in its place waits for that. On a laptop nobody else can be
    in these groups, so there is nothing to wait for.
    """
    admin = AIOKafkaAdminClient(**client_options)
    await admin.start()
    try:
        prefixes = tuple(f"{service}." for service in services)
        known = [name for name, _ in await admin.list_consumer_groups()]
        for group in known:
            if group.startswith(prefixes):
                await _empty(admin, group)
    finally:
        await admin.close()


async def _empty(admin: AIOKafkaAdminClient, group: str) -> None:
    coordinator = await admin.find_coordinator(group)
    for answer in await admin.describe_consumer_groups([group], coordinator):
        for described in answer.groups:
            # The sixth field of a description are the members, whose first field is their id.
            for member in described[5]:
                # aiokafka knows the request but offers no method for it.
                await admin._send_request(LeaveGroupRequest(group, member[0]), coordinator)  # noqa: SLF001 - no public way
