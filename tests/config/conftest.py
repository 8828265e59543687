"""A config for every test of it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chassis.migrations import migrate
from devstack.postgres import Roles
from services.config.data_map import DATA_MAP
from tests.config.builders import Config, config_of
from tests.support.stack import Databases


@pytest.fixture(scope="session")
async def config_roles(databases: Databases) -> Roles:
    """One migrated database for all tests of config: make tenants of your own."""
    roles = (await databases("config"))["config"]
    await migrate(roles.owner_url, DATA_MAP)
    return roles


@pytest.fixture
async def config(config_roles: Roles, tmp_path: Path) -> AsyncIterator[Config]:
    """All of config on that database."""
    async with config_of(config_roles, tmp_path) as opened:
        # What an earlier test ordered and nobody did.
        await opened.eraser_job().run()
        yield opened
