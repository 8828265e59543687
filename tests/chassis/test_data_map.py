"""The data map agrees with the live schema, orders erasure and gives roles what they need."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from chassis.data_map import (
    PLUMBING,
    CyclicReferencesError,
    DataMap,
    External,
    StoredTopic,
    Table,
    erasure_order,
    grants_sql,
    undeclared,
)
from chassis.database import Connection, connect
from contracts.classes import TENANT_CLASSES, DataClass
from devstack.postgres import Roles
from tests.support.stack import Databases

PLUMBING_SQL = "".join(
    path.read_text()
    for path in sorted((Path(__file__).parents[2] / "chassis" / "migrations").glob("*.sql"))
)
SERVICE = "mapped"
VERSIONS = """
    CREATE TABLE chassis_migrations (version_num text PRIMARY KEY);
    CREATE TABLE mapped_migrations (version_num text PRIMARY KEY);
"""
OWN = """
    CREATE TABLE tenants (tenant_id uuid PRIMARY KEY);
    CREATE TABLE queries (
        query_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        tenant_id uuid NOT NULL REFERENCES tenants,
        text text NOT NULL
    );
    CREATE TABLE usage (day date NOT NULL, runs bigint NOT NULL) PARTITION BY RANGE (day);
    CREATE TABLE usage_2026 PARTITION OF usage FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
"""


def a_table(name: str, *columns: str, **different: Any) -> Table:
    given: dict[str, Any] = {
        "data_class": DataClass.CONTENT,
        "promise": "P2",
        "purpose": "what customers create",
        "retention": "until the purge",
        "tenant_column": "tenant_id",
        "columns": dict.fromkeys(("tenant_id", *columns), "needed"),
    }
    return Table(name=name, **given | different)


TENANTS = a_table("tenants", data_class=DataClass.INSTALLATION)
QUERIES = a_table("queries", "query_id", "text")
USAGE = a_table(
    "usage",
    data_class=DataClass.PLUMBING,
    tenant_column=None,
    columns={"day": "of use", "runs": "how many"},
    job_table=True,
)
MAP = DataMap(SERVICE, tables=(TENANTS, QUERIES, USAGE))


@pytest.fixture
async def roles(databases: Databases) -> Roles:
    return (await databases(SERVICE))[SERVICE]


@pytest.fixture
async def owner(roles: Roles) -> AsyncIterator[Connection]:
    connection = await connect(roles.owner_url, name="test")
    yield connection
    await connection.close()


@pytest.fixture
async def migrated(owner: Connection) -> Connection:
    for sql in (PLUMBING_SQL, VERSIONS, OWN):
        await owner.execute(sql)
    return owner


async def test_the_plumbing_of_the_migrations_is_the_plumbing_of_the_map(
    migrated: Connection,
) -> None:
    assert await undeclared(migrated, MAP) == []


async def test_what_is_not_declared_is_named_and_so_is_what_does_not_exist(
    migrated: Connection,
) -> None:
    await migrated.execute(
        """
        CREATE TABLE forgotten (email text);
        CREATE MATERIALIZED VIEW copies AS SELECT query_id FROM queries;
        CREATE SCHEMA aside;
        CREATE TABLE aside.hidden ();
        ALTER TABLE tenants ADD COLUMN client_key text;
        ALTER TABLE queries DROP COLUMN text;
        ALTER TABLE inbox ADD COLUMN payload bytea;
        ALTER TABLE usage DROP COLUMN runs;
        DROP TABLE erasures;
        """
    )
    assert await undeclared(migrated, MAP) == [
        "column inbox.payload is not declared",
        "column queries.text does not exist",
        "column tenants.client_key is not declared",
        "column usage.runs does not exist",
        "table aside.hidden is not declared",
        "table copies is not declared",
        "table erasures does not exist",
        "table forgotten is not declared",
    ]


async def test_partitions_count_as_their_parent_until_they_are_detached(
    migrated: Connection,
) -> None:
    await migrated.execute("ALTER TABLE usage DETACH PARTITION usage_2026")
    assert await undeclared(migrated, MAP) == ["table usage_2026 is not declared"]


async def test_who_refers_is_erased_before_who_is_meant(owner: Connection) -> None:
    await owner.execute(
        """
        CREATE TABLE a (tenant_id uuid, id int PRIMARY KEY);
        CREATE TABLE b (tenant_id uuid, id int PRIMARY KEY REFERENCES a ON DELETE CASCADE);
        CREATE TABLE c (tenant_id uuid, id int REFERENCES b, a int REFERENCES a)
            PARTITION BY LIST (id);
        CREATE TABLE c_1 PARTITION OF c FOR VALUES IN (1);
        CREATE TABLE d (tenant_id uuid, id int PRIMARY KEY);
        CREATE TABLE outside (id int REFERENCES a);
        ALTER TABLE d ADD COLUMN up int REFERENCES d ON DELETE SET NULL;
        """
    )
    a, b, c, d = (a_table(name) for name in "abcd")
    assert await erasure_order(owner, [a, b, c, d]) == [c, d, b, a]
    assert await erasure_order(owner, [d, b, a, c]) == [c, d, b, a]
    assert await erasure_order(owner, [a, c]) == [c, a]
    assert await erasure_order(owner, []) == []


async def test_rows_can_be_deleted_in_the_order_found(migrated: Connection) -> None:
    tenant = "0192f0c0-0000-7000-8000-000000000001"
    await migrated.execute(
        f"""
        INSERT INTO tenants VALUES ('{tenant}');
        INSERT INTO queries (tenant_id, text) VALUES ('{tenant}', 'x');
        """
    )
    for table in await erasure_order(migrated, [TENANTS, QUERIES]):
        await migrated.execute(f"DELETE FROM {table.name} WHERE tenant_id = $1", tenant)


async def test_a_circle_of_references_is_an_error_that_names_it(owner: Connection) -> None:
    await owner.execute(
        """
        CREATE TABLE a (tenant_id uuid, id int PRIMARY KEY);
        CREATE TABLE b (tenant_id uuid, id int PRIMARY KEY REFERENCES a);
        ALTER TABLE a ADD COLUMN b int REFERENCES b;
        """
    )
    with pytest.raises(CyclicReferencesError, match=r"^(a -> b -> a|b -> a -> b)$"):
        await erasure_order(owner, [a_table("a"), a_table("b")])


async def test_a_table_that_refers_to_itself_and_keeps_its_rows_is_a_circle(
    owner: Connection,
) -> None:
    await owner.execute("CREATE TABLE a (tenant_id uuid, id int PRIMARY KEY, up int REFERENCES a)")
    with pytest.raises(CyclicReferencesError, match="a -> a"):
        await erasure_order(owner, [a_table("a")])


async def grant(owner: Connection) -> None:
    async with owner.transaction():
        for statement in grants_sql(MAP, SERVICE):
            await owner.execute(statement)


async def verbs(owner: Connection, role: str, table: str) -> str:
    """What a role may do with a table, as initials: s, i, u, d and t for truncate."""
    answer: str = await owner.fetchval(
        """
        SELECT coalesce(string_agg(lower(left(verb, 1)), '' ORDER BY position), '')
          FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE'])
               WITH ORDINALITY AS verbs (verb, position)
         WHERE has_table_privilege($1, $2, verb)
        """,
        f"{SERVICE}_{role}",
        table,
    )
    return answer


@pytest.mark.parametrize(
    ("table", "runtime", "worker", "eraser"),
    [
        ("tenants", "siud", "", "sd"),
        ("queries", "siud", "", "sd"),
        ("usage", "siud", "siud", ""),
        ("outbox", "siud", "siud", "sd"),
        ("inbox", "siud", "siud", "sd"),
        ("tenant_keys", "siud", "siud", "sd"),
        ("relay_cursor", "siud", "siud", "s"),
        ("positions", "siud", "siud", ""),
        ("erased_tenants", "siud", "siud", ""),
        ("erasures", "siud", "siud", ""),
        ("chassis_migrations", "s", "s", ""),
        ("mapped_migrations", "s", "s", ""),
    ],
)
async def test_each_role_may_do_what_it_needs_and_nothing_else(
    migrated: Connection, table: str, runtime: str, worker: str, eraser: str
) -> None:
    await grant(migrated)
    found = [await verbs(migrated, role, table) for role in ("runtime", "worker", "eraser")]
    assert found == [runtime, worker, eraser]
    assert await verbs(migrated, "backup", table) == "s"


async def test_roles_really_get_in_where_they_may_and_nowhere_else(
    migrated: Connection, roles: Roles
) -> None:
    await grant(migrated)
    tenant = "0192f0c0-0000-7000-8000-000000000001"
    runtime = await connect(roles.runtime_url, name="test")
    worker = await connect(roles.worker_url, name="test")
    eraser = await connect(roles.eraser_url, name="test")
    try:
        await runtime.execute("INSERT INTO tenants VALUES ($1)", tenant)
        await runtime.execute("INSERT INTO queries (tenant_id, text) VALUES ($1, 'x')", tenant)
        await worker.execute("INSERT INTO usage VALUES ('2026-05-01', 1)")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await worker.execute("SELECT FROM tenants")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await eraser.execute("UPDATE tenants SET tenant_id = tenant_id")
        for table in await erasure_order(eraser, MAP.tables_of(TENANT_CLASSES)):
            gone = await eraser.execute(f"DELETE FROM {table.name} WHERE tenant_id = $1", tenant)
            assert gone == "DELETE 1"
    finally:
        for connection in (runtime, worker, eraser):
            await connection.close()


async def test_the_worker_alone_makes_and_drops_days_of_the_outbox(
    migrated: Connection, roles: Roles
) -> None:
    await grant(migrated)
    runtime = await connect(roles.runtime_url, name="test")
    worker = await connect(roles.worker_url, name="test")
    try:
        for call in (
            "outbox_make_partitions('2026-11-23', 2)",
            "outbox_drop_partitions('2027-1-1')",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await runtime.execute(f"SELECT {call}")
            assert await worker.fetchval(f"SELECT {call}") == 2
    finally:
        await runtime.close()
        await worker.close()


async def test_granting_again_takes_back_what_the_map_does_not_give(migrated: Connection) -> None:
    await migrated.execute(
        """
        CREATE TABLE forgotten (email text);
        GRANT SELECT ON forgotten TO mapped_runtime;
        GRANT UPDATE ON tenants TO mapped_eraser;
        """
    )
    for _ in range(2):
        await grant(migrated)
    assert await verbs(migrated, "runtime", "forgotten") == ""
    assert await verbs(migrated, "eraser", "tenants") == "sd"


def test_the_hash_changes_with_the_content_and_not_with_the_order() -> None:
    backwards = DataMap(SERVICE, tables=(USAGE, QUERIES, TENANTS))
    assert MAP.hash() == backwards.hash()
    assert len(MAP.hash()) == 64
    shuffled = replace(QUERIES, columns=dict(sorted(QUERIES.columns.items(), reverse=True)))
    assert DataMap(SERVICE, tables=(TENANTS, shuffled, USAGE)).hash() == MAP.hash()
    topic = StoredTopic(name="t", data_class=DataClass.CONTENT, purpose="p", retention="r")
    external = External(name="backups", purpose="p", retention="14 days")
    others = {
        DataMap("other", tables=MAP.tables).hash(),
        DataMap(SERVICE, tables=(TENANTS, USAGE)).hash(),
        DataMap(SERVICE, tables=(TENANTS, replace(QUERIES, retention="x"), USAGE)).hash(),
        DataMap(SERVICE, tables=MAP.tables, topics=(topic,)).hash(),
        DataMap(SERVICE, tables=MAP.tables, externals=(external,)).hash(),
        MAP.hash(),
    }
    assert len(others) == 6


def test_tables_of_classes_are_the_services_own() -> None:
    assert MAP.tables_of([DataClass.CONTENT]) == (QUERIES,)
    assert MAP.tables_of(TENANT_CLASSES) == (TENANTS, QUERIES)
    assert MAP.tables_of([DataClass.PLUMBING]) == ()


def test_every_column_of_the_plumbing_has_a_class_and_payloads_may_tell_more() -> None:
    outbox = next(table for table in PLUMBING if table.name == "outbox")
    assert outbox.class_of("payload") is DataClass.INSTALLATION
    assert outbox.class_of("topic") is DataClass.PLUMBING


@pytest.mark.parametrize(
    ("different", "complaint"),
    [
        ({"purpose": " "}, "needs a purpose"),
        ({"retention": ""}, "needs a purpose"),
        ({"columns": {"tenant_id": ""}}, "needs a purpose"),
        ({"columns": {}, "tenant_column": None, "data_class": DataClass.PLUMBING}, "needs a purp"),
        ({"tenant_column": None}, "needs a tenant column"),
        ({"tenant_column": "customer"}, "no such columns: customer"),
        ({"column_classes": {"email": DataClass.CONTACTS}}, "no such columns: email"),
        ({"columns": {"tenant_id": "x", 'a"; DROP': "x"}}, "not a plain"),
    ],
)
def test_a_table_with_a_gap_is_refused(different: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        a_table("queries", **different)


def test_names_are_plain_and_declared_once() -> None:
    with pytest.raises(ValueError, match="not a plain"):
        a_table('queries"; DROP TABLE tenants; --')
    with pytest.raises(ValueError, match="not a plain"):
        DataMap("a-b")
    with pytest.raises(ValueError, match="not a plain"):
        grants_sql(MAP, 'x"')
    with pytest.raises(ValueError, match="declared twice: outbox"):
        DataMap(SERVICE, tables=(a_table("outbox"),))
