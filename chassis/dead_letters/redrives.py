"""Tries dead letters again for which somebody asked, and what was parked, in the order of a purge."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Generic
from uuid import UUID

import structlog
from aiokafka import ConsumerRecord

from chassis.dead_letters.written import IS_UNSETTLED, Failure, headers_of
from chassis.jobs import Job
from chassis.unit_of_work import C, UnitOfWork, Units
from contracts.messages import Kind

log = structlog.get_logger(__name__)

JOB: Final = "redrive dead letters"
_EVERY: Final = timedelta(seconds=1)
_A_RUN: Final = 200


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter that is to be tried again, with the body that counts now."""

    dead_letter_id: UUID
    consumer: str
    topic: str
    partition: int
    offset: int
    key: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    payload: bytes | None
    failure: Failure

    def record(self) -> "ConsumerRecord[bytes | None, bytes | None]":
        """Return the record as it came, with the mended body where there is one."""
        return ConsumerRecord(
            topic=self.topic,
            partition=self.partition,
            offset=self.offset,
            timestamp=0,
            timestamp_type=0,
            key=self.key,
            value=self.payload,
            checksum=None,
            serialized_key_size=len(self.key or b""),
            serialized_value_size=len(self.payload or b""),
            headers=self.headers,
        )


async def take_up(uow: UnitOfWork[C], letter: Letter) -> bool:
    """Take a letter for this transaction; False where it is settled already.

    Whoever asks at the same time waits here, and then finds it settled.
    """
    row = await uow.connection.fetchrow(
        "SELECT 1 FROM dead_letters WHERE dead_letter_id = $1 AND state = 'redriving' FOR UPDATE",
        letter.dead_letter_id,
    )
    return row is not None


async def settle_redriven(uow: UnitOfWork[C], letter: Letter, *, was_handled: bool) -> None:
    """Note that a letter's handler has dealt with it."""
    await uow.connection.execute(
        """
        UPDATE dead_letters
           SET state = 'redriven', settled_at = $2,
               outcome = CASE WHEN $3 THEN 'handled'
                              ELSE 'nothing to do: handled before, or its data is erased' END
         WHERE dead_letter_id = $1
        """,
        letter.dead_letter_id,
        uow.now,
        was_handled,
    )
    log.info("dead letter redriven", handler=letter.failure.handler, handled=was_handled)


async def back_to_open(uow: UnitOfWork[C], letter: Letter, failure: Failure) -> None:
    """Note that a letter failed again; what waits behind it goes on waiting."""
    await uow.connection.execute(
        """
        UPDATE dead_letters
           SET state = 'open', handler = $2, reason = $3, error_type = $4, fingerprint = $5,
               attempts = attempts + $6
         WHERE dead_letter_id = $1 AND state = 'redriving'
        """,
        letter.dead_letter_id,
        failure.handler,
        failure.reason,
        failure.error_type,
        failure.fingerprint(),
        failure.attempts,
    )


@dataclass(frozen=True, slots=True)
class Redrives(Generic[C]):
    """Gives to their consumers, by name, what is to be tried again."""

    units: Units[C]
    redrive: Mapping[str, Callable[[Letter], Awaitable[None]]]

    def job(self) -> Job:
        """Return the job with its interval; a page that asks for a letter wakes it."""
        return Job(JOB, _EVERY, self.run)

    async def run(self) -> None:
        """Try each letter once, and what was parked behind one that is settled, in its order."""
        await self._let_go()
        for letter in await self._waiting():
            await self.redrive[letter.consumer](letter)

    async def _let_go(self) -> None:
        """Have the first parked command of each purge tried where nothing is left before it.

        However that came: settled, put aside, or gone after its 30 days.
        """
        await self.units.pool.execute(
            f"""
            UPDATE dead_letters d
               SET state = 'redriving'
             WHERE d.state = 'parked' AND d.consumer = ANY($1::text[])
               AND NOT EXISTS (
                    SELECT 1 FROM dead_letters e
                     WHERE e.consumer = d.consumer AND e.kind = 'command' AND e.step IS NOT NULL
                       AND e.{IS_UNSETTLED} AND e.purge_id = d.purge_id
                       AND e.number < d.number)
            """,  # noqa: S608 - made of constants
            list(self.redrive),
        )

    async def _waiting(self) -> list[Letter]:
        rows = await self.units.pool.fetch(
            """
            SELECT d.*, coalesce(v.payload, d.payload) AS body
              FROM dead_letters d
              LEFT JOIN LATERAL (SELECT payload FROM dead_letter_versions v
                                  WHERE v.dead_letter_id = d.dead_letter_id
                                  ORDER BY version DESC LIMIT 1) AS v ON true
             WHERE d.consumer = ANY($1::text[]) AND d.state = 'redriving'
             ORDER BY d.number
             LIMIT $2
            """,
            list(self.redrive),
            _A_RUN,
        )
        return [
            Letter(
                dead_letter_id=row["dead_letter_id"],
                consumer=row["consumer"],
                topic=row["topic"],
                partition=row["partition"],
                offset=row["record_offset"],
                key=row["record_key"],
                headers=tuple(headers_of(row["headers"])),
                payload=row["body"],
                failure=Failure(
                    handler=row["handler"],
                    reason=row["reason"],
                    error_type=row["error_type"],
                    tenant_id=row["tenant_id"],
                    ce_id=row["ce_id"],
                    type=row["type"],
                    purge_id=row["purge_id"],
                    step=row["step"],
                    kind=Kind(row["kind"]),
                ),
            )
            for row in rows
        ]
