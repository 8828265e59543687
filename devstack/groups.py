"""Tells Kafka at once that consumers have died, which it would notice by itself in 45 s."""

import asyncio
import time
from collections.abc import Collection
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupLoadInProgressError
from aiokafka.protocol.group import LeaveGroupRequest

_READ_WITHIN_SECONDS: Final = 30.0
_LOOK_EVERY_SECONDS: Final = 0.2


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
        for group in await _groups(admin):
            if group.startswith(prefixes):
                await _empty(admin, group)
    finally:
        await admin.close()


async def _groups(admin: AIOKafkaAdminClient) -> list[str]:
    """Name all groups, once a broker that has just started has read them."""
    gives_up_at = time.monotonic() + _READ_WITHIN_SECONDS
    while True:
        try:
            return [name for name, _ in await admin.list_consumer_groups()]
        except GroupLoadInProgressError:
            if time.monotonic() > gives_up_at:
                raise
        await asyncio.sleep(_LOOK_EVERY_SECONDS)


async def _empty(admin: AIOKafkaAdminClient, group: str) -> None:
    coordinator = await admin.find_coordinator(group)
    for answer in await admin.describe_consumer_groups([group], coordinator):
        for described in answer.groups:
            # The sixth field of a description are the members, whose first field is their id.
            for member in described[5]:
                # aiokafka knows the request but offers no method for it.
                await admin._send_request(LeaveGroupRequest(group, member[0]), coordinator)  # noqa: SLF001 - no public way
