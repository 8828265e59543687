"""What a restored purger takes over from its own topics."""

from collections.abc import Iterable, Mapping

from contracts.classes import DataClass
from contracts.ledger import EntryKind, LedgerEntry, Restoration, RestoredEntry
from contracts.purges import (
    Phase,
    Plan,
)
from services.purger.domain.steps import WAVE_OF_CONTACTS


class ForkedLedgerError(Exception):
    """Topic and table hold different ledgers, so neither can be continued before a person looked."""


def entries_beyond(
    number: int, last_hash: str, known: Mapping[int, str], said: Iterable[LedgerEntry]
) -> list[LedgerEntry]:
    """List what the topic has of the ledger beyond our last entry; ``known`` are our own hashes.

    What was said twice counts once. Raises ``ForkedLedgerError`` where the topic
    disagrees with what we hold, or does not reach back to it.
    """
    hashes, beyond = dict(known), list[LedgerEntry]()
    for entry in said:
        if entry.number > number + 1:
            raise ForkedLedgerError(
                f"ledger entry {number + 1} is missing, the topic goes on with {entry.number}:"
                " restore a younger copy of purger's database"
            )
        follows = entry.previous_hash == last_hash
        if hashes.get(entry.number, entry.hash if follows else None) != entry.hash:
            raise ForkedLedgerError(
                f"ledger entry {entry.number} of the topic is not the one of this database:"
                " one of them was written by a purger that should not have run"
            )
        if entry.number == number + 1:
            hashes[entry.number] = entry.hash
            number, last_hash = entry.number, entry.hash
            beyond.append(entry)
    return beyond


def part_of(entry: LedgerEntry) -> str:
    """Name the part of its purge that an entry records, of which there is one each."""
    match entry.kind:
        case EntryKind.TENANT_ERASED:
            return f"wave-{WAVE_OF_CONTACTS if DataClass.CONTACTS in entry.classes else 1}"
        case EntryKind.RECEIPT:
            assert entry.receipt is not None
            return f"receipt-{entry.receipt.stage}"
        case EntryKind.RESTORED:
            told = RestoredEntry.model_validate(entry.model_dump()).restoration
            return restoration_part(told, entry.classes)


def restoration_part(restoration: Restoration, classes: Iterable[DataClass]) -> str:
    """Name the part of a purge that a restore brought back: each restore is one of its own."""
    at = restoration.restored_at.isoformat()
    return "/".join(("restored", restoration.service, at, *sorted(classes)))


def plan_taken_over(said: Plan, known: Plan | None) -> Plan | None:
    """Say what a plan of the topic makes of ours; None where ours can go on as it stands.

    A purge past the point of no return whose steps we do not hold is asked for
    again: the installer says yes again, the owners answer again, and the ledger
    still knows what it has recorded of it.
    """
    if known is not None and known.phase in {Phase.ERASING, Phase.ERASED, Phase.CLOSED}:
        return None
    if said.phase in {Phase.ERASING, Phase.ERASED, Phase.CLOSED}:
        return said.model_copy(update={"phase": Phase.REQUESTED})
    return said
