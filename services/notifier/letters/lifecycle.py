"""Notices about a tenant's life: welcome, reminders, holds, early erasure, welcome back."""

from dataclasses import dataclass

from services.notifier.domain.lifecycle import Word
from services.notifier.domain.people import Recipient
from services.notifier.letters.letter import Envelope, Letter, Stationery
from services.notifier.letters.sheets import Sheets


@dataclass(frozen=True, slots=True)
class Notices:
    """Writes notices."""

    stationery: Stationery
    sheets: Sheets

    def write(self, word: Word, recipient: Recipient, envelope: Envelope) -> Letter:
        """Tell a contact of one event."""
        sheet = self.sheets.sheet(word.event, {"facts": word.facts}, recipient)
        return self.stationery.letter("sheet", {"sheet": sheet}, recipient, envelope)
