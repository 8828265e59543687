"""Receipts: what was erased, when, and how to see that it is so."""

from dataclasses import dataclass

from services.notifier.domain.people import Recipient
from services.notifier.domain.receipts import Receipt, erased_classes
from services.notifier.letters.letter import Envelope, Letter, Stationery
from services.notifier.letters.sheets import Sheets


@dataclass(frozen=True, slots=True)
class Receipts:
    """Writes receipts; ``purger_url`` is where anyone sees that they are true."""

    stationery: Stationery
    sheets: Sheets
    purger_url: str

    def write(self, receipt: Receipt, recipient: Recipient, envelope: Envelope) -> Letter:
        """Tell a contact what was erased."""
        lines = erased_classes(receipt.steps)
        told = {
            "receipt_code": receipt.receipt_code,
            "receipt_url": f"{self.purger_url}/receipts/{receipt.receipt_code}",
            "public_key_url": f"{self.purger_url}/ledger/public-key",
            "erased": [line for line in lines if line.erased_at],
            "still_open": [line for line in lines if not line.erased_at],
        }
        sheet = self.sheets.sheet("receipt", told, recipient)
        return self.stationery.letter("sheet", {"sheet": sheet}, recipient, envelope)
