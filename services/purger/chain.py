"""Walks the ledger every night, as an auditor would: a verifier that nobody runs finds nothing."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

import structlog

from chassis.jobs import Job
from chassis.unit_of_work import Units
from contracts.ledger import GENESIS, BrokenChain, LedgerEntry, verify_chain
from services.purger import store
from services.purger.checkpoints import (
    Checkpoint,
    UnreadableCheckpoint,
    append_checkpoint,
    read_checkpoints,
    require_checkpoints,
)
from services.purger.context import Context
from services.purger.figures import LedgerFigures
from services.purger.store import LedgerCheck

log = structlog.get_logger(__name__)

CHECKED_EVERY: Final = timedelta(days=1)
WALKED_WHOLE_EVERY: Final = timedelta(days=7)
_ENTRIES_A_PAGE: Final = 200


class ChainWatch:
    """The job that verifies the ledger, and leaves checkpoints outside the database."""

    def __init__(
        self, units: Units[Context], figures: LedgerFigures, checkpoint_file: Path | None
    ) -> None:
        self._units = units
        self._figures = figures
        self._file = checkpoint_file

    def jobs(self) -> Sequence[Job]:
        """List the job with its interval."""
        return (Job("check ledger", CHECKED_EVERY, self.check),)

    async def check(self) -> bool:
        """Verify what was appended since the last time, once a week all of it; True when well.

        What is broken is said again with each run, and nothing is noted as
        verified beyond it.
        """
        try:
            verified = await self._verify()
        except (BrokenChain, UnreadableCheckpoint) as broken:
            log.error("ledger is broken", reason=str(broken))  # noqa: TRY400 - its frames say nothing
            self._figures.broken.set(1)
            return False
        self._figures.broken.set(0)
        self._figures.verified_number.set(verified.number)
        log.info("ledger verified", number=verified.number)
        return True

    async def _verify(self) -> LedgerCheck:
        async with self._units.begin() as uow:
            last = await store.ledger_check(uow.connection)
            end = await store.ledger_end(uow.connection)
            now, key = uow.now, uow.context.ledger_key()
        await self._require_checkpoints()
        whole = last.walked_at is None or now - last.walked_at >= WALKED_WHOLE_EVERY
        number, last_hash = (0, GENESIS) if whole else (last.number, last.hash)
        if end.number < last.number:
            raise BrokenChain(last.number, "missing, but it was verified before")
        await self._require_same(last)
        while number < end.number:
            page = await self._page(number)
            if not page or page[0].number != number + 1:
                raise BrokenChain(number + 1, "missing")
            await asyncio.to_thread(
                verify_chain, page, uow.context.ledger_key().public_keys, start_hash=last_hash
            )
            number, last_hash = page[-1].number, page[-1].hash
        verified = LedgerCheck(number, last_hash, now if whole else last.walked_at)
        await self._require_same(LedgerCheck(end.number, end.hash, None))
        async with self._units.begin() as uow:
            await store.save_ledger_check(uow.connection, verified)
        if self._file is not None and number:
            await asyncio.to_thread(
                self._leave, Checkpoint.of(number, last_hash, at=now, key=key), self._file
            )
        return verified

    async def _page(self, after: int) -> list[LedgerEntry]:
        async with self._units.begin() as uow:
            return await store.ledger_entries(uow.connection, after=after, limit=_ENTRIES_A_PAGE)

    async def _require_same(self, noted: LedgerCheck) -> None:
        """The entry that was noted still stands where it stood."""
        if not noted.number:
            return
        async with self._units.begin() as uow:
            hashes = await store.entry_hashes(uow.connection, [noted.number])
        if hashes.get(noted.number) != noted.hash:
            raise BrokenChain(noted.number, "is not the one that was noted")

    async def _require_checkpoints(self) -> None:
        if self._file is None:
            return
        checkpoints = await asyncio.to_thread(read_checkpoints, self._file)
        async with self._units.begin() as uow:
            hashes = await store.entry_hashes(
                uow.connection, [checkpoint.number for checkpoint in checkpoints]
            )
            keys = uow.context.ledger_key().public_keys
        await asyncio.to_thread(require_checkpoints, checkpoints, hashes, keys)

    def _leave(self, checkpoint: Checkpoint, file: Path) -> None:
        known = read_checkpoints(file)
        if not known or known[-1].number < checkpoint.number:
            append_checkpoint(file, checkpoint)
