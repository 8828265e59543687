"""A notifier for every test of it, each with a mail server of its own and an empty database."""

from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from chassis.erasure import NOBODY
from chassis.migrations import migrate
from devstack.mail import MailSink, start_mail_sink
from devstack.postgres import Roles
from services.notifier.data_map import DATA_MAP
from tests.notifier.builders import Notifier, notifier_of
from tests.support.stack import Databases


@pytest.fixture(scope="session")
async def notifier_roles(databases: Databases) -> Roles:
    """One migrated database for all tests of notifier: leave its schema as it is."""
    roles = (await databases("notifier"))["notifier"]
    await migrate(roles.owner_url, DATA_MAP)
    return roles


@pytest.fixture
async def sink(tmp_path: Path) -> AsyncIterator[MailSink]:
    """A mail server that keeps what it is sent."""
    sink = await start_mail_sink(tmp_path / "mails")
    yield sink
    await sink.stop()


@pytest.fixture
async def notifier(
    notifier_roles: Roles, tmp_path: Path, sink: MailSink
) -> AsyncIterator[Notifier]:
    """All of notifier on that database, with nothing in it: the mail job looks at all of it."""
    await _empty(notifier_roles)
    async with notifier_of(notifier_roles, tmp_path, sink) as opened:
        yield opened


async def _empty(roles: Roles) -> None:
    eraser = await asyncpg.connect(roles.eraser_url)
    owner = await asyncpg.connect(roles.owner_url)
    try:
        await owner.execute(
            """
            ALTER TABLE policy_drafts DISABLE TRIGGER kept;
            ALTER TABLE policy_revisions DISABLE TRIGGER kept;
            TRUNCATE policy_drafts, policy_revisions, policy_plans, policy_evidence
                     RESTART IDENTITY;
            ALTER TABLE policy_drafts ENABLE TRIGGER kept;
            ALTER TABLE policy_revisions ENABLE TRIGGER kept;
            TRUNCATE licence_reports, licence_contacts, campaigns, audience, suppressions, deliveries, receipts, moves, tenants, erasures, erased_tenants, tenant_keys, outbox,
                     ledger_reader, relay_epochs, relay_cursor, licences, tickets, ticket_erasures,
                     lifecycles, notices, doubted_until, product_news, campaign_acts
            """
        )
        await eraser.execute("DELETE FROM contacts WHERE tenant_id <> $1", NOBODY)
    finally:
        await eraser.close()
        await owner.close()
