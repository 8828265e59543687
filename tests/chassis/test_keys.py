"""A tenant's key opens what was sealed for that tenant alone, and is gone when it is destroyed."""

import asyncio
import base64
import json
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from chassis.database import Pool, open_pool
from chassis.keys import (
    BadKeysFile,
    KeyDestroyed,
    KeyEncryptionKeys,
    NewKey,
    TenantKeys,
    Undecipherable,
)
from devstack.postgres import RunningPostgres

NOW = datetime(2026, 11, 1, tzinfo=UTC)
TENANT = uuid4()
OTHER_TENANT = uuid4()
SECRET = b"what the app and Atlassian share"
TABLE = """
    CREATE TABLE tenant_keys (
        tenant_id uuid PRIMARY KEY,
        wrapped_key bytea NOT NULL,
        kek_id text NOT NULL,
        made_at timestamptz NOT NULL
    )
"""


def key(letter: str) -> str:
    return base64.urlsafe_b64encode(letter.encode() * 32).decode().rstrip("=")


def write(path: Path, current: str, *names: str, blind_index: str = "z") -> Path:
    beside = path.with_suffix(".new")
    told = {
        "current": current,
        "keys": {name: key(name[-1]) for name in names},
        "blind_index": key(blind_index),
    }
    beside.write_text(json.dumps(told))
    return beside.replace(path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "keks.json", "2026-11", "2026-11")


@pytest.fixture
def tenant_keys(file: Path) -> TenantKeys:
    return TenantKeys("installer", KeyEncryptionKeys.load(file))


def test_what_is_sealed_opens_again(tenant_keys: TenantKeys) -> None:
    new = tenant_keys.new_wrapped_key(TENANT)
    sealed = tenant_keys.seal_with(new.plain_key, TENANT, "shared-secret", SECRET)
    assert SECRET not in sealed
    assert new.plain_key not in new.wrapped
    plain_key = tenant_keys.unwrapped_key(TENANT, new.wrapped, new.kek_id)
    assert tenant_keys.open_with(plain_key, TENANT, "shared-secret", sealed) == SECRET


@given(plaintext=st.binary(max_size=2_000), purpose=st.text(max_size=20))
def test_any_value_and_purpose_survive_the_round_trip(
    tmp_path_factory: pytest.TempPathFactory, plaintext: bytes, purpose: str
) -> None:
    path = write(tmp_path_factory.getbasetemp() / "any.json", "2026-11", "2026-11")
    tenant_keys = TenantKeys("installer", KeyEncryptionKeys.load(path))
    plain_key = tenant_keys.new_wrapped_key(TENANT).plain_key
    sealed = tenant_keys.seal_with(plain_key, TENANT, purpose, plaintext)
    assert tenant_keys.open_with(plain_key, TENANT, purpose, sealed) == plaintext


def test_equal_values_are_sealed_differently_each_time(tenant_keys: TenantKeys) -> None:
    plain_key = tenant_keys.new_wrapped_key(TENANT).plain_key
    sealed = {tenant_keys.seal_with(plain_key, TENANT, "x", SECRET) for _ in range(100)}
    assert len(sealed) == 100


def test_a_sealed_value_opens_for_its_tenant_owner_and_purpose_alone(file: Path) -> None:
    keks = KeyEncryptionKeys.load(file)
    installer, config = TenantKeys("installer", keks), TenantKeys("config", keks)
    plain_key = installer.new_wrapped_key(TENANT).plain_key
    sealed = installer.seal_with(plain_key, TENANT, "shared-secret", SECRET)
    for thief, tenant_id, purpose in (
        (config, TENANT, "shared-secret"),
        (installer, OTHER_TENANT, "shared-secret"),
        (installer, TENANT, "token"),
    ):
        with pytest.raises(Undecipherable):
            thief.open_with(plain_key, tenant_id, purpose, sealed)


def test_a_wrapped_key_opens_for_its_tenant_owner_and_kek_alone(file: Path) -> None:
    write(file, "2026-11", "2026-11", "again-1")
    keks = KeyEncryptionKeys.load(file)
    installer, config = TenantKeys("installer", keks), TenantKeys("config", keks)
    new = installer.new_wrapped_key(TENANT)
    # "again-1" has the same bytes: its name alone makes it another key.
    for thief, tenant_id, kek_id in (
        (config, TENANT, new.kek_id),
        (installer, OTHER_TENANT, new.kek_id),
        (installer, TENANT, "again-1"),
    ):
        with pytest.raises(Undecipherable):
            thief.unwrapped_key(tenant_id, new.wrapped, kek_id)


def test_every_changed_bit_and_every_shortening_is_noticed(tenant_keys: TenantKeys) -> None:
    plain_key = tenant_keys.new_wrapped_key(TENANT).plain_key
    sealed = tenant_keys.seal_with(plain_key, TENANT, "x", b"four")
    changed = [
        sealed[:at] + bytes([sealed[at] ^ 1 << bit]) + sealed[at + 1 :]
        for at in range(len(sealed))
        for bit in range(8)
    ]
    shortened = [sealed[:end] for end in range(len(sealed))]
    for broken in (*changed, *shortened, sealed + b"\0"):
        with pytest.raises(Undecipherable):
            tenant_keys.open_with(plain_key, TENANT, "x", broken)


def test_keys_do_not_print(tenant_keys: TenantKeys, file: Path) -> None:
    new = tenant_keys.new_wrapped_key(TENANT)
    assert repr(new) == str(new) == f"NewKey(kek_id={new.kek_id!r})"
    assert f"{b'1' * 32!r}" not in repr(KeyEncryptionKeys.load(file)._keys)
    assert isinstance(new, NewKey)


def test_a_new_kek_is_used_as_soon_as_the_file_names_it(
    tenant_keys: TenantKeys, file: Path
) -> None:
    before = tenant_keys.new_wrapped_key(TENANT)
    write(file, "2026-12", "2026-11", "2026-12")
    after = tenant_keys.new_wrapped_key(TENANT)
    assert (before.kek_id, after.kek_id) == ("2026-11", "2026-12")
    assert tenant_keys.unwrapped_key(TENANT, *before[1:]) == before.plain_key
    assert tenant_keys.unwrapped_key(TENANT, *after[1:]) == after.plain_key


def test_a_key_wrapped_under_a_destroyed_kek_is_unreadable(
    tenant_keys: TenantKeys, file: Path
) -> None:
    in_an_old_backup = tenant_keys.new_wrapped_key(TENANT)
    write(file, "2026-12", "2026-12")
    with pytest.raises(Undecipherable, match="2026-11"):
        tenant_keys.unwrapped_key(TENANT, *in_an_old_backup[1:])


def test_a_file_that_turns_bad_keeps_the_keys_and_is_logged_once(
    tenant_keys: TenantKeys, file: Path
) -> None:
    for nonsense in ("{", '{"current": "x"}'):
        file.write_text(nonsense)
        with capture_logs() as logged:
            assert tenant_keys.new_wrapped_key(TENANT).kek_id == "2026-11"
            tenant_keys.new_wrapped_key(TENANT)
        assert [line["event"] for line in logged] == ["key-encryption keys not read again"]
    write(file, "2026-12", "2026-12")
    assert tenant_keys.new_wrapped_key(TENANT).kek_id == "2026-12"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (None, "cannot be read"),
        ("hunter2", "is not"),
        ("[]", "is not"),
        ('{"keys": {}}', "has no member 'current'"),
        ('{"current": "a", "keys": ["hunter2"], "blind_index": "x"}', "is not"),
        ('{"current": "a", "keys": {"a": "hunter2"}, "blind_index": "x"}', "32 bytes"),
        ('{"current": "a", "keys": {"a": "hunter 2"}, "blind_index": "x"}', "base64url"),
        (f'{{"current": "b", "keys": {{"a": "{key("a")}"}}, "blind_index": "{key("b")}"}}', "cur"),
        (f'{{"current": "a", "keys": {{"a": "{key("a")}"}}}}', "blind_index"),
        (
            json.dumps(
                {
                    "current": "a",
                    "keys": {"a": key("a")},
                    "blind_index": key("b"),
                    "made_at": {"a": "hunter2"},
                }
            ),
            "is not",
        ),
    ],
)
def test_a_bad_file_is_refused_at_start_without_showing_it(
    tmp_path: Path, text: str | None, complaint: str
) -> None:
    path = tmp_path / "keks.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BadKeysFile, match=complaint) as refused:
        KeyEncryptionKeys.load(path)
    assert "hunter" not in str(refused.value)


def test_a_blind_index_is_equal_for_equal_values_of_one_owner_and_purpose(file: Path) -> None:
    keks = KeyEncryptionKeys.load(file)
    notifier = TenantKeys("notifier", keks)
    index = notifier.blind_index("email", "anna@example.com")
    assert len(index) == 32
    assert index == notifier.blind_index("email", b"anna@example.com")
    others = {
        notifier.blind_index("email", "bert@example.com"),
        notifier.blind_index("phone", "anna@example.com"),
        notifier.blind_index("emailanna", "@example.com"),
        TenantKeys("installer", keks).blind_index("email", "anna@example.com"),
    }
    write(file, "2026-12", "2026-12")
    assert notifier.blind_index("email", "anna@example.com") == index
    write(file, "2026-12", "2026-12", blind_index="y")
    others.add(notifier.blind_index("email", "anna@example.com"))
    assert len(others | {index}) == 6


@pytest.fixture
async def pool(postgres: RunningPostgres) -> AsyncIterator[Pool]:
    name = f"keys_{uuid4().hex}"
    maker = await asyncpg.connect(postgres.superuser_url())
    await maker.execute(f'CREATE DATABASE "{name}"')
    pool = await open_pool(postgres.superuser_url(name), name="test")
    await pool.execute(TABLE)
    yield pool
    await pool.close()
    await maker.execute(f'DROP DATABASE "{name}"')
    await maker.close()


async def kept(pool: Pool) -> dict[UUID, str]:
    rows = await pool.fetch("SELECT tenant_id, kek_id FROM tenant_keys")
    return {row["tenant_id"]: row["kek_id"] for row in rows}


async def test_the_first_sealing_makes_the_key_and_later_ones_use_it(
    pool: Pool, tenant_keys: TenantKeys
) -> None:
    async with pool.acquire() as connection, connection.transaction():
        first = await tenant_keys.seal(connection, TENANT, "a", b"1", now=NOW)
        second = await tenant_keys.seal(connection, TENANT, "b", b"2", now=NOW)
    async with pool.acquire() as connection:
        assert await tenant_keys.open(connection, TENANT, "a", first) == b"1"
        assert await tenant_keys.open(connection, TENANT, "b", second) == b"2"
        made_at = await connection.fetchval("SELECT made_at FROM tenant_keys")
    assert await kept(pool) == {TENANT: "2026-11"}
    assert made_at == NOW


async def test_a_key_made_in_a_transaction_that_fails_is_not_kept(
    pool: Pool, tenant_keys: TenantKeys
) -> None:
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await tenant_keys.seal(connection, TENANT, "a", b"1", now=NOW)
        await transaction.rollback()
    assert await kept(pool) == {}


async def test_two_transactions_that_need_the_first_key_at_once_end_with_one(
    pool: Pool, tenant_keys: TenantKeys
) -> None:
    async with pool.acquire() as one, pool.acquire() as other:
        transaction = one.transaction()
        await transaction.start()
        first = await tenant_keys.seal(one, TENANT, "a", b"1", now=NOW)

        async def seal_too() -> bytes:
            async with other.transaction():
                return await tenant_keys.seal(other, TENANT, "a", b"2", now=NOW)

        racing = asyncio.create_task(seal_too())
        await until_waiting_for_a_lock(pool)
        await transaction.commit()
        second = await racing
        assert await tenant_keys.open(one, TENANT, "a", first) == b"1"
        assert await tenant_keys.open(one, TENANT, "a", second) == b"2"
    assert len(await kept(pool)) == 1


async def test_the_second_transaction_makes_the_key_when_the_first_fails(
    pool: Pool, tenant_keys: TenantKeys
) -> None:
    async with pool.acquire() as one, pool.acquire() as other:
        transaction = one.transaction()
        await transaction.start()
        await tenant_keys.seal(one, TENANT, "a", b"1", now=NOW)
        racing = asyncio.create_task(tenant_keys.seal(other, TENANT, "a", b"2", now=NOW))
        await until_waiting_for_a_lock(pool)
        await transaction.rollback()
        assert await tenant_keys.open(one, TENANT, "a", await racing) == b"2"


async def until_waiting_for_a_lock(pool: Pool) -> None:
    async with asyncio.timeout(10):
        while not await pool.fetchval(
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"
        ):
            pass


async def test_a_destroyed_key_is_dead_at_once_for_all_who_used_it(
    pool: Pool, tenant_keys: TenantKeys, file: Path
) -> None:
    other_process = TenantKeys("installer", KeyEncryptionKeys.load(file))
    async with pool.acquire() as connection:
        sealed = await tenant_keys.seal(connection, TENANT, "a", SECRET, now=NOW)
        assert await other_process.open(connection, TENANT, "a", sealed) == SECRET
        assert await tenant_keys.destroy(connection, TENANT) is True
        assert await tenant_keys.destroy(connection, TENANT) is False
        for each in (tenant_keys, other_process):
            with pytest.raises(KeyDestroyed):
                await each.open(connection, TENANT, "a", sealed)
        await tenant_keys.seal(connection, TENANT, "a", b"new", now=NOW)
        with pytest.raises(Undecipherable):
            await tenant_keys.open(connection, TENANT, "a", sealed)


async def test_survivors_are_wrapped_again_and_open_without_the_old_kek(
    pool: Pool, tenant_keys: TenantKeys, file: Path
) -> None:
    tenants = [uuid4() for _ in range(7)]
    async with pool.acquire() as connection:
        sealed = {
            tenant_id: await tenant_keys.seal(connection, tenant_id, "a", SECRET, now=NOW)
            for tenant_id in tenants
        }
        backup = await connection.fetchrow(
            "SELECT * FROM tenant_keys WHERE tenant_id = $1", tenants[0]
        )
    write(file, "2026-12", "2026-11", "2026-12")
    assert await tenant_keys.rewrap(pool, limit=3) == (7, (), 0)
    assert set((await kept(pool)).values()) == {"2026-12"}
    assert await tenant_keys.rewrap(pool, limit=3) == (0, (), 0)
    write(file, "2026-12", "2026-12")
    async with pool.acquire() as connection:
        for tenant_id, value in sealed.items():
            assert await tenant_keys.open(connection, tenant_id, "a", value) == SECRET
    assert backup is not None
    with pytest.raises(Undecipherable):
        tenant_keys.unwrapped_key(tenants[0], backup["wrapped_key"], backup["kek_id"])


async def test_a_rewrapping_that_is_cut_off_keeps_what_it_did_and_goes_on_later(
    pool: Pool, tenant_keys: TenantKeys, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pool.acquire() as connection:
        for _ in range(6):
            await tenant_keys.seal(connection, uuid4(), "a", SECRET, now=NOW)
    write(file, "2026-12", "2026-11", "2026-12")
    renew, batches = tenant_keys._renewed, 0

    def cut_off(rows: list[asyncpg.Record], failed: list[UUID]) -> list[tuple[UUID, bytes, str]]:
        nonlocal batches
        batches += 1
        if batches == 3:
            raise asyncio.CancelledError
        return renew(rows, failed)

    with monkeypatch.context() as patched:
        patched.setattr(tenant_keys, "_renewed", cut_off)
        with pytest.raises(asyncio.CancelledError):
            await tenant_keys.rewrap(pool, limit=2)
    assert sorted((await kept(pool)).values()) == ["2026-11"] * 2 + ["2026-12"] * 4
    assert await tenant_keys.rewrap(pool, limit=2) == (2, (), 0)


async def test_a_key_that_cannot_be_rewrapped_is_named_and_holds_up_no_other(
    pool: Pool, tenant_keys: TenantKeys, file: Path
) -> None:
    tenants = sorted(uuid4() for _ in range(4))
    async with pool.acquire() as connection:
        for tenant_id in tenants:
            await tenant_keys.seal(connection, tenant_id, "a", SECRET, now=NOW)
        await connection.execute(
            "UPDATE tenant_keys SET wrapped_key = $2 WHERE tenant_id = $1", tenants[0], b"broken"
        )
    write(file, "2026-12", "2026-11", "2026-12")
    with capture_logs() as logged:
        assert await tenant_keys.rewrap(pool, limit=1) == (3, (tenants[0],), 1)
    assert [line["tenant_id"] for line in logged] == [tenants[0]]


async def test_no_statement_logs_key_bytes(
    pool: Pool, tenant_keys: TenantKeys, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    made: list[NewKey] = []
    make = tenant_keys.new_wrapped_key

    def remembered(tenant_id: UUID) -> NewKey:
        made.append(make(tenant_id))
        return made[-1]

    tenant_keys.new_wrapped_key = remembered  # type: ignore[method-assign]
    async with pool.acquire() as connection:
        with capture_logs() as logged:
            await tenant_keys.seal(connection, TENANT, "a", SECRET, now=NOW)
    (new,) = made
    told = caplog.text + str(logged)
    for told_bytes in (new.plain_key, new.wrapped, SECRET):
        assert told_bytes.hex() not in told
        assert repr(told_bytes) not in told
