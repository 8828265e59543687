"""A notifier for every test of it, each with a mail server of its own and an empty database."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from devstack.mail import MailSink, start_mail_sink
from devstack.postgres import Roles
from services.notifier.data_map import DATA_MAP
from tests.notifier.builders import Notifier, notifier_of
from tests.support.stack import Migrated


@pytest.fixture
async def notifier_roles(emptied: Migrated) -> Roles:
    """A migrated database with nothing in it, the same for each test: leave its schema as it is."""
    return await emptied(DATA_MAP)


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
    """All of notifier on that database."""
    async with notifier_of(notifier_roles, tmp_path, sink) as opened:
        yield opened
