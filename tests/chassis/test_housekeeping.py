"""The plumbing keeps its own promises about age, and keys follow the key-encryption key."""

import json
from base64 import urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from cryptography.x509 import load_pem_x509_certificate

from chassis.clock import ManualClock
from chassis.housekeeping import Housekeeping
from chassis.keys import KeyEncryptionKeys, TenantKeys, Undecipherable
from chassis.metrics import Metrics
from chassis.outbox import OutboxRow, write_rows
from contracts.classes import DataClass
from contracts.messages import Kind
from devstack.certificates import ensure_certificates
from tests.support.chassis import Sample

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def write_keys(path: Path, current: str, made_at: datetime | None = None, **keys: bytes) -> None:
    encoded = {name: urlsafe_b64encode(key).decode() for name, key in keys.items()}
    blind = urlsafe_b64encode(b"b" * 32).decode()
    fresh = path.with_suffix(".new")
    told = {"current": current, "keys": encoded, "blind_index": blind}
    if made_at is not None:
        told["made_at"] = {current: made_at.isoformat()}
    fresh.write_text(json.dumps(told))
    fresh.chmod(0o600)
    fresh.replace(path)


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    write_keys(path, "november", november=b"n" * 32)
    return path


def housekeeping(sample: Sample, clock: ManualClock, keys_file: Path) -> Housekeeping:
    keys = TenantKeys("sample", KeyEncryptionKeys.load(keys_file))
    return Housekeeping(clock, sample.worker, Metrics(), keys)


async def say(sample: Sample, at: datetime, data_class: DataClass = DataClass.PLUMBING) -> None:
    row = OutboxRow("t", Kind.EVENT, "k", None, uuid4(), "x", "[]", None, data_class)
    async with sample.worker.acquire() as connection:
        await write_rows(connection, [row], wall=at)


async def send_all(sample: Sample) -> None:
    await sample.worker.execute(
        "UPDATE relay_cursor SET (xid, position) ="
        " (SELECT max(xid::text::numeric)::text::xid8, max(position) FROM outbox)"
    )


async def partitions(sample: Sample) -> set[str]:
    rows = await sample.worker.fetch(
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
        " WHERE i.inhparent = 'outbox'::regclass"
    )
    return {row["relname"] for row in rows}


async def test_days_are_made_ahead_and_dropped_after_150_days_only_when_sent(
    sample: Sample, keys_file: Path
) -> None:
    clock = ManualClock(NOW)
    keeper = housekeeping(sample, clock, keys_file)
    await keeper.tidy()
    assert {"outbox_20261123", "outbox_20261130"} <= await partitions(sample)
    await say(sample, NOW)
    clock.advance(timedelta(days=151))
    await keeper.tidy()
    assert "outbox_20261123" in await partitions(sample)
    await send_all(sample)
    await keeper.tidy()
    left = await partitions(sample)
    assert "outbox_20261123" not in left
    assert {"outbox_rest", "outbox_20270423"} <= left


async def test_a_row_of_a_day_that_nobody_made_is_kept_and_goes_like_any_other(
    sample: Sample, keys_file: Path
) -> None:
    clock = ManualClock(NOW)
    await say(sample, NOW)
    keeper = housekeeping(sample, clock, keys_file)
    await keeper.tidy()
    assert "outbox_20261123" not in await partitions(sample)
    clock.advance(timedelta(days=151))
    await keeper.tidy()
    assert await sample.worker.fetchval("SELECT count(*) FROM outbox") == 1
    await send_all(sample)
    await keeper.tidy()
    assert await sample.worker.fetchval("SELECT count(*) FROM outbox") == 0


async def test_the_age_of_the_key_and_the_end_of_certificates_are_shown(
    sample: Sample, keys_file: Path, tmp_path: Path
) -> None:
    authority = ensure_certificates(tmp_path).ca_file
    keys = TenantKeys("sample", KeyEncryptionKeys.load(keys_file))
    metrics = Metrics()
    keeper = Housekeeping(
        ManualClock(NOW), sample.worker, metrics, keys, {"kafka-ca": authority, "other": authority}
    )
    await keeper.look_at_keys()
    figure = metrics.registry.get_sample_value
    # Nobody wrote down when this key was made, and a guess would be wrong.
    assert figure("keepword_key_made_timestamp_seconds", {"key": "key-encryption"}) is None
    ends = figure("keepword_certificate_expires_timestamp_seconds", {"certificate": "kafka-ca"})
    told = load_pem_x509_certificate(authority.read_bytes())
    assert ends == told.not_valid_after_utc.timestamp()

    write_keys(keys_file, "november", made_at=NOW, november=b"n" * 32)
    await keeper.look_at_keys()
    made_at = figure("keepword_key_made_timestamp_seconds", {"key": "key-encryption"})
    assert made_at == NOW.timestamp()

    authority.write_text("nothing of the kind")
    with pytest.raises(ValueError, match="PEM"):
        await keeper.look_at_keys()


async def test_how_far_the_ledger_is_applied_is_shown(sample: Sample, keys_file: Path) -> None:
    keeper = housekeeping(sample, ManualClock(NOW), keys_file)
    async with sample.runtime.acquire() as connection:
        await connection.execute(
            "INSERT INTO ledger_reader (applied_number, applied_hash, cluster_id, head_number)"
            " VALUES (7, 'x', 'y', 7)"
        )
    await keeper.measure()
    shown = keeper.metrics.registry.get_sample_value("keepword_ledger_applied_number")
    assert shown == 7


async def test_a_guard_stays_for_400_days(sample: Sample, keys_file: Path) -> None:
    clock = ManualClock(NOW)
    keeper = housekeeping(sample, clock, keys_file)
    await sample.worker.execute(
        "INSERT INTO erased_tenants VALUES ($1, 'content', 1, $1, $2)", uuid4(), NOW
    )
    clock.advance(timedelta(days=400))
    await keeper.tidy()
    assert await sample.worker.fetchval("SELECT count(*) FROM erased_tenants") == 1
    clock.advance(timedelta(days=1))
    await keeper.tidy()
    assert await sample.worker.fetchval("SELECT count(*) FROM erased_tenants") == 0


async def test_what_is_said_about_an_erasure_goes_after_30_days(
    sample: Sample, keys_file: Path
) -> None:
    clock = ManualClock(NOW)
    keeper = housekeeping(sample, clock, keys_file)
    await say(sample, NOW, DataClass.ERASURE_PROOF)
    await say(sample, NOW, DataClass.PLUMBING)
    await sample.worker.execute(
        "INSERT INTO erasures (purge_id, step, tenant_id, classes, ledger_number, state,"
        " queued_at, erased_at) VALUES ($1, 's', $1, '{}', 1, 'erased', $2, $2)",
        uuid4(),
        NOW,
    )
    await send_all(sample)
    clock.advance(timedelta(days=29))
    await keeper.tidy()
    assert await sample.worker.fetchval("SELECT count(*) FROM outbox") == 2
    clock.advance(timedelta(days=2))
    await keeper.tidy()
    assert await sample.worker.fetchval("SELECT array_agg(data_class) FROM outbox") == ["plumbing"]
    assert await sample.worker.fetchval("SELECT count(*) FROM erasures") == 0


async def test_the_age_of_the_oldest_unsent_message_is_measured(
    sample: Sample, keys_file: Path
) -> None:
    clock = ManualClock(datetime.now(UTC))
    keeper = housekeeping(sample, clock, keys_file)
    await say(sample, clock.wall())
    clock.advance(timedelta(seconds=90))
    await keeper.measure()
    assert b"keepword_outbox_unsent 1.0" in keeper.metrics.exposition()
    assert b"keepword_outbox_oldest_seconds 90.0" in keeper.metrics.exposition()
    await send_all(sample)
    await keeper.measure()
    assert b"keepword_outbox_oldest_seconds 0.0" in keeper.metrics.exposition()


async def test_once_the_key_encryption_key_has_moved_on_an_older_copy_cannot_be_read(
    sample: Sample, keys_file: Path
) -> None:
    keeper = housekeeping(sample, ManualClock(NOW), keys_file)
    assert keeper.keys is not None
    tenant = uuid4()
    async with sample.worker.acquire() as connection:
        sealed = await keeper.keys.seal(connection, tenant, "note", b"secret", now=NOW)
        older_copy = await connection.fetchrow("SELECT * FROM tenant_keys")
    assert older_copy is not None
    write_keys(keys_file, "december", november=b"n" * 32, december=b"d" * 32)
    assert (await keeper.rewrap_keys()).remaining == 0
    write_keys(keys_file, "december", december=b"d" * 32)
    async with sample.worker.acquire() as connection:
        assert await keeper.keys.open(connection, tenant, "note", sealed) == b"secret"
    with pytest.raises(Undecipherable):
        keeper.keys.unwrapped_key(tenant, older_copy["wrapped_key"], older_copy["kek_id"])
