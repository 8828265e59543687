"""Keeps the plumbing's own promises: partitions ahead, old rows gone, figures fresh."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

import structlog
from cryptography.x509 import load_pem_x509_certificates

from chassis import audit
from chassis.audit import AuditBroken
from chassis.clock import Clock
from chassis.database import Pool
from chassis.dead_letters.acts import ACTS_KEPT
from chassis.epochs import note_alive
from chassis.jobs import Job
from chassis.keys import Rewrapped, TenantKeys
from chassis.metrics import Metrics
from chassis.signing import TokenSigner
from chassis.staff import sessions
from chassis.syslog import Syslog

log = structlog.get_logger(__name__)

OUTBOX_AND_INBOX_KEPT = timedelta(days=150)
ERASURE_PROOF_KEPT = timedelta(days=30)
DEAD_LETTERS_KEPT = timedelta(days=30)
GUARDS_KEPT = timedelta(days=400)
REPLAYS_KEPT = timedelta(days=400)
_PARTITIONS_AHEAD = 8
_KEYS_A_TRANSACTION = 500
_AUDIT_COPIED_EVERY = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class AuditKeeping:
    """Where a service's audit is copied to, and what signs how far it had come before months go."""

    service: str = ""
    file: Path | None = None
    signer: TokenSigner | None = None
    syslog: Syslog | None = None


@dataclass(frozen=True, slots=True)
class Housekeeping:
    """The jobs that every service has."""

    clock: Clock
    worker: Pool
    metrics: Metrics
    keys: TenantKeys | None
    certificates: Mapping[str, Path] = field(default_factory=dict)
    audit: AuditKeeping = AuditKeeping()

    def jobs(self) -> list[Job]:
        """Return the jobs with their intervals."""
        return [
            Job("tidy plumbing", timedelta(hours=1), self.tidy),
            Job("measure plumbing", timedelta(seconds=5), self.measure),
            Job("look at keys", timedelta(minutes=10), self.look_at_keys),
            Job("verify audit", timedelta(days=1), self.verify_audit),
            *([Job("copy audit", _AUDIT_COPIED_EVERY, self.copy_audit)] if self.audit.file else []),
            *(
                [Job("send audit", _AUDIT_COPIED_EVERY, self.send_audit)]
                if self.audit.syslog
                else []
            ),
            *([Job("rewrap keys", timedelta(hours=1), self.rewrap_keys)] if self.keys else []),
        ]

    async def tidy(self) -> None:
        """Make the outbox's coming partitions, drop old ones that are sent, forget old rows.

        Leaves a mark of the day, by which an old copy of the database is known as such.
        Partitions go by the wall clock, which stamps their rows; all else by business time.
        """
        today, now = self.clock.wall().date(), self.clock.now()
        await note_alive(self.worker, wall=self.clock.wall())
        await self.worker.execute(
            "SELECT outbox_make_partitions($1::date, $2)", today, _PARTITIONS_AHEAD
        )
        await self.worker.execute(
            "SELECT outbox_drop_partitions($1::date)", today - OUTBOX_AND_INBOX_KEPT
        )
        await self._tidy_audit(today)
        await sessions.tidy(self.worker, wall=self.clock.wall())
        # The second date is for rows of days that no partition was made for.
        await self.worker.execute(
            """
            DELETE FROM outbox
             WHERE (data_class = 'erasure-proof' AND written_at < $1 OR written_at < $2)
               AND EXISTS (SELECT 1 FROM relay_cursor c
                            WHERE c.epoch = outbox.epoch
                              AND (outbox.xid, outbox.position) <= (c.xid, c.position))
            """,
            self.clock.wall() - ERASURE_PROOF_KEPT,
            self.clock.wall() - OUTBOX_AND_INBOX_KEPT,
        )
        for statement, kept in (
            ("DELETE FROM inbox WHERE received_at < $1", OUTBOX_AND_INBOX_KEPT),
            ("DELETE FROM dead_letters WHERE first_failed_at < $1", DEAD_LETTERS_KEPT),
            ("DELETE FROM dead_letter_acts WHERE at < $1", ACTS_KEPT),
            (
                "DELETE FROM erasures WHERE state = 'erased' AND erased_at < $1",
                ERASURE_PROOF_KEPT,
            ),
            ("DELETE FROM erased_tenants WHERE erased_at < $1", GUARDS_KEPT),
            ("DELETE FROM replays WHERE changed_at < $1", REPLAYS_KEPT),
        ):
            await self.worker.execute(statement, now - kept)

    async def _tidy_audit(self, today: date) -> None:
        """Make the coming months, and drop old ones whose end is signed; without a key they stay."""
        async with self.worker.acquire() as connection, connection.transaction():
            await connection.execute("SELECT audit_make_partitions($1::date, 2)", today)
            if self.audit.signer is None:
                return
            before = today - audit.KEPT
            number = await audit.sign_what_goes(
                connection, self.audit.signer, self.audit.service, before=before
            )
            await connection.execute("SELECT audit_drop_partitions($1::date)", before)
        if number is not None:
            log.info("audit signed before it goes", number=number)

    async def measure(self) -> None:
        """Set the gauges that only the database knows."""
        row = await self.worker.fetchrow(
            """
            SELECT count(*) AS unsent, min(o.written_at) AS oldest
              FROM outbox o
              JOIN relay_cursor c USING (epoch)
             WHERE (o.xid, o.position) > (c.xid, c.position)
               AND o.written_at >= c.saved_at - interval '1 day'
            """
        )
        assert row is not None
        oldest = row["oldest"]
        age = (self.clock.wall() - oldest).total_seconds() if oldest else 0.0
        self.metrics.outbox_unsent.set(row["unsent"])
        self.metrics.outbox_oldest_seconds.set(max(0.0, age))
        applied = await self.worker.fetchval("SELECT applied_number FROM ledger_reader")
        if applied is not None:
            self.metrics.ledger_applied_number.set(applied)
        await self._measure_dead_letters()

    async def _measure_dead_letters(self) -> None:
        row = await self.worker.fetchrow(
            """
            SELECT count(*) FILTER (WHERE state = 'open') AS open,
                   count(*) FILTER (WHERE state = 'parked') AS parked,
                   min(first_failed_at) AS oldest
              FROM dead_letters
             WHERE state IN ('open', 'parked', 'redriving')
            """
        )
        assert row is not None
        oldest = row["oldest"]
        age = (self.clock.now() - oldest).total_seconds() if oldest else 0.0
        self.metrics.dead_letters_open.set(row["open"])
        self.metrics.dead_letters_parked.set(row["parked"])
        self.metrics.dead_letters_oldest_seconds.set(max(0.0, age))

    async def look_at_keys(self) -> None:
        """Show since when the present key is in use, and until when certificates are good.

        A certificate that cannot be read fails the job, which is seen as well.
        """
        if self.keys is not None and (made_at := self.keys.current_made_at):
            self.metrics.key_made_timestamp_seconds.labels("key-encryption").set(
                made_at.timestamp()
            )
        for name, path in self.certificates.items():
            told = load_pem_x509_certificates(await asyncio.to_thread(path.read_bytes))
            self.metrics.certificate_expires_timestamp_seconds.labels(name).set(
                min(each.not_valid_after_utc for each in told).timestamp()
            )

    async def verify_audit(self) -> bool:
        """Walk the audit from its beginning, and show whether it is whole; True when it is."""
        try:
            async with (
                self.worker.acquire() as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                number = await audit.verify(
                    connection,
                    copy=self.audit.file,
                    keys=self.audit.signer.public_keys if self.audit.signer else None,
                )
        except AuditBroken as broken:
            log.error("audit is broken", reason=str(broken))  # noqa: TRY400 - its frames say nothing
            self.metrics.audit_broken.set(1)
            return False
        self.metrics.audit_broken.set(0)
        log.info("audit verified", number=number)
        return True

    async def copy_audit(self) -> int:
        """Copy what was added to the audit to its file outside the database; return how many."""
        assert self.audit.file is not None
        async with self.worker.acquire() as connection:
            return await audit.copy_to(connection, self.audit.file)

    async def send_audit(self) -> int:
        """Send what was added to the audit to the syslog server; return how many."""
        assert self.audit.syslog is not None
        async with self.worker.acquire() as connection:
            return await audit.send_to(connection, self.audit.syslog.send)

    async def rewrap_keys(self) -> Rewrapped:
        """Wrap the tenants' keys under the current key-encryption key.

        Once none remains under an older one, that one can be destroyed, and with it whatever
        older copies of this database hold encrypted.
        """
        assert self.keys is not None
        result = await self.keys.rewrap(self.worker, limit=_KEYS_A_TRANSACTION)
        if result.done or result.remaining:
            log.info("keys rewrapped", done=result.done, remaining=result.remaining)
        return result
