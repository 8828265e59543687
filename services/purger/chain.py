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
from services.purger.checkpoints import (
    Checkpoint,
    MissingCheckpoint,
    UnreadableCheckpoint,
    append_checkpoint,
    read_checkpoints,
    require_checkpoints,
)
from services.purger.context import Context
from services.purger.figures import LedgerFigures
from services.purger.store import chain, ledger
from services.purger.store.chain import LedgerCheck

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
        except (BrokenChain, UnreadableCheckpoint, MissingCheckpoint) as broken:
            log.error("ledger is broken", reason=str(broken))  # noqa: TRY400 - its frames say nothing
            self._figures.broken.set(1)
            return False
        self._figures.broken.set(0)
        self._figures.verified_number.set(verified.number)
        log.info("ledger verified", number=verified.number)
        return True

    async def _verify(self) -> LedgerCheck:
        async with self._units.begin() as uow:
            last = await chain.ledger_check(uow.connection)
            end = await ledger.ledger_end(uow.connection)
            now, key = uow.now, uow.context.ledger_key()
        await self._require_checkpoints(last.checkpoint_number)
        whole = last.walked_at is None or now - last.walked_at >= WALKED_WHOLE_EVERY
        number, last_hash = (0, GENESIS) if whole else (last.number, last.hash)
        if end.number < last.number:
            raise BrokenChain(last.number, "missing, but it was verified before")
        await self._require_same(last.number, last.hash)
        while number < end.number:
            page = await self._page(number)
            if not page or page[0].number != number + 1:
                raise BrokenChain(number + 1, "missing")
            await asyncio.to_thread(
                verify_chain, page, uow.context.ledger_key().public_keys, start_hash=last_hash
            )
            number, last_hash = page[-1].number, page[-1].hash
        await self._require_same(end.number, end.hash)
        noted = last.checkpoint_number
        if self._file is not None and number:
            # Before it is noted: what is noted and not there is missed.
            noted = await asyncio.to_thread(
                self._leave, Checkpoint.of(number, last_hash, at=now, key=key), self._file
            )
        verified = LedgerCheck(number, last_hash, now if whole else last.walked_at, noted)
        async with self._units.begin() as uow:
            await chain.save_ledger_check(uow.connection, verified)
        return verified

    async def _page(self, after: int) -> list[LedgerEntry]:
        async with self._units.begin() as uow:
            return await ledger.ledger_entries(uow.connection, after=after, limit=_ENTRIES_A_PAGE)

    async def _require_same(self, number: int, noted_hash: str) -> None:
        """The entry that was noted still stands where it stood."""
        if not number:
            return
        async with self._units.begin() as uow:
            hashes = await ledger.entry_hashes(uow.connection, [number])
        if hashes.get(number) != noted_hash:
            raise BrokenChain(number, "is not the one that was noted")

    async def _require_checkpoints(self, noted: int) -> None:
        """The ledger has all that the file names, and the file all that was left in it."""
        file = self._file
        checkpoints = [] if file is None else await asyncio.to_thread(read_checkpoints, file)
        async with self._units.begin() as uow:
            hashes = await ledger.entry_hashes(
                uow.connection, [checkpoint.number for checkpoint in checkpoints]
            )
            keys = uow.context.ledger_key().public_keys
        await asyncio.to_thread(require_checkpoints, checkpoints, hashes, keys)
        if noted > max((each.number for each in checkpoints), default=0):
            raise MissingCheckpoint(noted)

    def _leave(self, checkpoint: Checkpoint, file: Path) -> int:
        known = read_checkpoints(file)
        if known and known[-1].number >= checkpoint.number:
            return known[-1].number
        append_checkpoint(file, checkpoint)
        return checkpoint.number
