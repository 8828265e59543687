"""Notifier's mail job in a process of its own, to be killed: `python -m tests.support.mail_worker`.

It reads a JSON object from its first argument: where the database, the keys and the server are.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

from chassis.clock import SystemClock
from chassis.database import Connection, open_pool_patiently
from chassis.jobs import JobRunner
from chassis.keys import KeyEncryptionKeys, TenantKeys
from chassis.metrics import Metrics
from chassis.unit_of_work import Units
from services.notifier.clients import MailServer
from services.notifier.context import Context
from services.notifier.domain.campaigns import Kind
from services.notifier.domain.deliveries import Pace
from services.notifier.domain.people import Recipient
from services.notifier.jobs.deliveries import Deliveries, Writer
from services.notifier.letters.letter import Envelope, Letter, Stationery


async def what_it_says(_: Connection, campaign_id: UUID) -> str:
    return str(campaign_id)


async def work(told: dict[str, Any]) -> None:
    stationery = Stationery(
        sender="privacy@vendor.example", vendor_name="Vendor", pages=Path(told["pages"])
    )

    def write(says: str, recipient: Recipient, envelope: Envelope) -> Letter:
        return stationery.letter("notice", {"says": says}, recipient, envelope)

    keys = TenantKeys("notifier", KeyEncryptionKeys.load(Path(told["keys"])))
    runtime = await open_pool_patiently(told["runtime_url"], name="runtime")
    worker = await open_pool_patiently(told["worker_url"], name="worker")
    units = Units(
        "notifier",
        runtime,
        SystemClock(),
        Context(keys, "vendor.example", has_desk=False),
        lambda: None,
    )
    writer = Writer(what_it_says, write)
    deliveries = Deliveries(
        units=units,
        worker=worker,
        server=MailServer(
            "127.0.0.1", told["smtp_port"], name="vendor.example", timeout_seconds=1.0
        ),
        writers={Kind.POLICY_CHANGE: writer, Kind.PRODUCT_UPDATE: writer},
        public_url="https://notifier.vendor.example",
        pace=Pace(domain_per_second=10_000, domain_connections=50),
    )
    await JobRunner(deliveries.jobs(), Metrics()).run()


if __name__ == "__main__":
    asyncio.run(work(json.loads(sys.argv[1])))
