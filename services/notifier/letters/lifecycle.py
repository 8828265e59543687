"""Notices about a tenant's life: welcome, reminders, holds, early erasure, welcome back."""

from dataclasses import dataclass

from chassis.signing import TokenSigner
from contracts.exports import PATH, ExportLink
from services.notifier.domain.lifecycle import Word
from services.notifier.domain.people import Language, Recipient
from services.notifier.letters.letter import Envelope, Letter, Stationery
from services.notifier.letters.sheets import Sheets


@dataclass(frozen=True, slots=True)
class ExportLinks:
    """Makes the addresses at which config gives who has left what it keeps of them."""

    signer: TokenSigner
    config_public_url: str

    def address(self, link: ExportLink, language: Language) -> str:
        """Give the address of a link, always the same; the token stands where no browser sends it."""
        token = self.signer.sign(link.claims())
        return f"{self.config_public_url.rstrip('/')}{PATH}?language={language}#{token}"


@dataclass(frozen=True, slots=True)
class Notices:
    """Writes notices; without ``links`` nobody is given any."""

    stationery: Stationery
    sheets: Sheets
    links: ExportLinks | None = None

    def write(self, word: Word, recipient: Recipient, envelope: Envelope) -> Letter:
        """Tell a contact of one event; what opens an export goes to technical contacts alone."""
        export_url = None
        if self.links is not None and word.opens is not None and recipient.is_technical:
            export_url = self.links.address(word.opens, recipient.language)
        told = {"facts": word.facts, "export_url": export_url}
        sheet = self.sheets.sheet(word.event, told, recipient)
        return self.stationery.letter("sheet", {"sheet": sheet}, recipient, envelope)
