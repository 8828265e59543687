"""What staff did is added, never changed, and whatever is changed all the same is found."""

import asyncio
import json
import socketserver
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest
from asyncpg import InsufficientPrivilegeError, RestrictViolationError
from joserfc.jwk import OKPKey

from chassis import audit
from chassis.audit import KEPT, AuditBroken
from chassis.clock import ManualClock
from chassis.housekeeping import AuditKeeping, Housekeeping
from chassis.metrics import Metrics
from chassis.signing import TokenSigner
from chassis.syslog import BadSyslogAddress, Syslog
from devstack.key_files import ensure_signing_key
from tests.support.chassis import Sample

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


async def act(sample: Sample, *, at: datetime = NOW, subject: str = "ada", times: int = 1) -> None:
    await sample.worker.execute("SELECT audit_make_partitions($1::date, 2)", at.date())
    for _ in range(times):
        async with sample.runtime.acquire() as connection, connection.transaction():
            await audit.append(
                connection, subject=subject, act="POST /staff/x", about={"x": "1"}, wall=at
            )


async def verified(
    sample: Sample, copy: Path | None = None, keys: Sequence[OKPKey] | None = None
) -> int:
    async with sample.worker.acquire() as connection:
        return await audit.verify(connection, copy=copy, keys=keys)


async def tamper(sample: Sample, statement: str) -> None:
    """Do what only somebody can who owns the table, and takes its guards away."""
    connection = await asyncpg.connect(sample.roles.owner_url)
    try:
        await connection.execute("ALTER TABLE audit_entries DISABLE TRIGGER ALL")
        await connection.execute(statement)
    finally:
        await connection.close()


async def test_a_chain_is_whole_as_it_was_written(sample: Sample) -> None:
    assert await verified(sample) == 0
    await act(sample, times=3)
    assert await verified(sample) == 3


async def test_an_act_that_is_taken_back_leaves_no_gap(sample: Sample) -> None:
    await act(sample)
    async with sample.runtime.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await audit.append(connection, subject="a", act="b", about={}, wall=NOW)
        await transaction.rollback()
    await act(sample)
    assert await verified(sample) == 2


async def test_nobody_changes_what_was_written_its_owner_neither(sample: Sample) -> None:
    await act(sample)
    owner = await asyncpg.connect(sample.roles.owner_url)
    try:
        for table in ("audit_entries", "audit_entries_202611"):
            for statement in (
                f"UPDATE {table} SET subject = 'eve'",
                f"DELETE FROM {table}",
                f"TRUNCATE {table}",
            ):
                with pytest.raises(RestrictViolationError):
                    await owner.execute(statement)
                for pool in (sample.runtime, sample.worker, sample.eraser):
                    with pytest.raises(InsufficientPrivilegeError):
                        await pool.execute(statement)
    finally:
        await owner.close()


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("UPDATE audit_entries SET subject = 'eve' WHERE number = 2", "entry 2 is not what it was"),
        ("UPDATE audit_entries SET about = '{}' WHERE number = 1", "entry 1 is not what it was"),
        ("UPDATE audit_entries SET hash = sha256('x') WHERE number = 2", "entry 2"),
        ("DELETE FROM audit_entries WHERE number = 2", "entry 2 is missing"),
        ("DELETE FROM audit_entries WHERE number = 3", "ends with entry 2"),
    ],
)
async def test_what_is_tampered_with_is_found(sample: Sample, statement: str, reason: str) -> None:
    await act(sample, times=3)
    await tamper(sample, statement)
    with pytest.raises(AuditBroken, match=reason):
        await verified(sample)


async def test_an_end_that_is_cut_off_with_care_is_found_by_the_copy(
    sample: Sample, tmp_path: Path
) -> None:
    copy, metrics = tmp_path / "audit.jsonl", Metrics()
    keeping = Housekeeping(
        ManualClock(NOW), sample.worker, metrics, None, audit=AuditKeeping(file=copy)
    )
    await act(sample, times=2)
    assert await keeping.copy_audit() == 2
    await act(sample)
    assert await keeping.copy_audit() == 1
    assert len(copy.read_text().splitlines()) == 3
    assert await keeping.verify_audit()

    await tamper(
        sample,
        "DELETE FROM audit_entries WHERE number = 3;"
        "UPDATE audit_ends SET number = 2, hash ="
        " (SELECT hash FROM audit_entries WHERE number = 2) WHERE id = 'head'",
    )
    assert await verified(sample) == 2
    assert not await keeping.verify_audit()
    assert "keepword_audit_broken 1.0" in metrics.exposition().decode()
    # Whoever goes on from there writes another third entry.
    await act(sample, subject="eve")
    with pytest.raises(AuditBroken, match="entry 3 is not that of the copy"):
        await verified(sample, copy)


async def test_months_older_than_400_days_go_and_the_chain_goes_on_from_there(
    sample: Sample, tmp_path: Path
) -> None:
    await act(sample, times=2)
    later = NOW + timedelta(days=40)
    await act(sample, at=later)
    clock = ManualClock(NOW + timedelta(days=409))
    signer = TokenSigner.load(ensure_signing_key(tmp_path / "audit.pem"))
    # Without a key nothing goes.
    await Housekeeping(clock, sample.worker, Metrics(), None).tidy()
    assert await sample.runtime.fetchval("SELECT min(number) FROM audit_entries") == 1
    keeping = Housekeeping(
        clock, sample.worker, Metrics(), None, audit=AuditKeeping("sample", signer=signer)
    )
    for _ in range(2):
        await keeping.tidy()
    assert await sample.runtime.fetchval("SELECT min(number) FROM audit_entries") == 3
    await act(sample, at=clock.wall())
    assert await verified(sample) == 4
    assert await verified(sample, keys=signer.public_keys) == 4
    assert await keeping.verify_audit()

    other = TokenSigner.load(ensure_signing_key(tmp_path / "other.pem"))
    with pytest.raises(AuditBroken, match="signed by none of the keys"):
        await verified(sample, keys=other.public_keys)
    # What is gone cannot be told otherwise by whoever owns the database.
    await tamper(sample, "UPDATE audit_ends SET hash = sha256('x') WHERE id = 'base'")
    with pytest.raises(AuditBroken, match="entry 2 is not that of its checkpoint"):
        await verified(sample)
    await tamper(sample, "DELETE FROM audit_checkpoints")
    with pytest.raises(AuditBroken, match="gone without a checkpoint"):
        await verified(sample)


async def test_a_month_whose_end_is_not_signed_stays(sample: Sample) -> None:
    await act(sample)
    await sample.worker.execute("SELECT audit_drop_partitions($1::date)", NOW.date() + KEPT)
    assert await verified(sample) == 1


class _Listener(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self.server.lines += self.rfile.readlines()  # type: ignore[attr-defined]


async def test_entries_are_sent_to_a_syslog_server_once_it_is_there(sample: Sample) -> None:
    with socketserver.TCPServer(("127.0.0.1", 0), _Listener, bind_and_activate=False) as server:
        server.lines = []  # type: ignore[attr-defined]
        server.server_bind()
        url = f"tcp://127.0.0.1:{server.server_address[1]}"
        keeping = Housekeeping(
            ManualClock(NOW),
            sample.worker,
            Metrics(),
            None,
            audit=AuditKeeping("sample", syslog=Syslog("sample", url)),
        )
        await act(sample, times=2)
        with pytest.raises(OSError):
            await keeping.send_audit()
        server.server_activate()
        taking = asyncio.create_task(asyncio.to_thread(server.handle_request))
        assert await keeping.send_audit() == 2
        await taking
        assert await keeping.send_audit() == 0
        await act(sample)
        taking = asyncio.create_task(asyncio.to_thread(server.handle_request))
        assert await keeping.send_audit() == 1
        await taking
        lines = [line.decode() for line in server.lines]  # type: ignore[attr-defined]
    assert [json.loads(line.split(" - ", 3)[3])["number"] for line in lines] == [1, 2, 3]
    # Facility authpriv, severity notice (RFC 5424, section 6.2.1).
    assert all(
        line.startswith("<85>1 2026-11-23T12:00:00+00:00 - keepword-sample") for line in lines
    )


@pytest.mark.parametrize(
    "url", ["", "tcp://", "tcp://host", "http://host:1", "tcp://host:x", "udp://[:1"]
)
def test_what_is_no_syslog_address_is_refused(url: str) -> None:
    with pytest.raises(BadSyslogAddress):
        Syslog("sample", url)


async def test_times_never_go_back_in_the_chain(sample: Sample) -> None:
    await act(sample)
    await act(sample, at=NOW - timedelta(days=1))
    times = await sample.runtime.fetch("SELECT at FROM audit_entries ORDER BY number")
    assert [row["at"] for row in times] == [NOW, NOW]
