"""What lies in an older database is there after its migration."""

import shutil
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import asyncpg

from chassis.data_map import DataMap
from chassis.database import prepare_connection
from chassis.erasure import NOBODY
from chassis.migrations import migrate
from chassis.versions import migrations_of
from devstack.postgres import RunningPostgres
from services.config.data_map import DATA_MAP
from tests.config.builders import NOW
from tests.support.stack import Databases

BEFORE_THINGS = ("0001", "0002", "0003")


async def test_datasources_of_all_tenants_become_things(
    databases: Databases, postgres: RunningPostgres, tmp_path: Path
) -> None:
    for file in migrations_of("config").iterdir():
        if file.name.startswith(BEFORE_THINGS):
            shutil.copy(file, tmp_path)
    roles = (await databases("config"))["config"]
    await migrate(roles.owner_url, DataMap("config"), own=tmp_path)
    connection = await asyncpg.connect(
        postgres.superuser_url(urlsplit(roles.owner_url).path.removeprefix("/"))
    )
    try:
        await prepare_connection(connection)
        tenants = [uuid4(), uuid4()]
        written = {
            (tenant, UUID(int=number + 1)): {
                "name": f"source {number}",
                "kind": "rest",
                "url": f"https://{number}.example.com",
                "options": {"timeout_seconds": number, "read_only": True},
                "username": None if number else "reader",
                "credentials": b"sealed" if number else None,
                "version": number + 1,
            }
            for tenant in tenants
            for number in range(3)
        }
        for (tenant, datasource_id), row in written.items():
            await connection.execute(
                """
                INSERT INTO datasources (tenant_id, datasource_id, name, kind, url, options,
                                         username, credentials, version, created_at, updated_at)
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10)
                """,
                tenant,
                datasource_id,
                *row.values(),
                NOW,
            )

        await migrate(roles.owner_url, DATA_MAP)

        things = await connection.fetch("SELECT * FROM things ORDER BY tenant_id, position")
        for tenant in tenants:
            own = [thing["thing_id"] for thing in things if thing["tenant_id"] == tenant]
            assert own == [UUID(int=1), UUID(int=2), UUID(int=3)]
        for thing in things:
            if thing["tenant_id"] == NOBODY:
                continue
            row = written.pop((thing["tenant_id"], thing["thing_id"]))
            own_fields = ("kind", "url", "options", "username")
            assert thing["body"] == {name: row[name] for name in own_fields}
            assert (thing["kind"], thing["tags"], thing["created_at"]) == ("datasource", [], NOW)
            for name in ("name", "credentials", "version"):
                assert thing[name] == row[name]
        assert written == {}
        totals = await connection.fetch("SELECT tenant_id, things FROM tenant_totals")
        assert dict(map(tuple, totals)) == {**dict.fromkeys(tenants, 3), NOBODY: 1}
        assert await connection.fetchval("SELECT to_regclass('datasources')") is None
    finally:
        await connection.close()
