"""The letter with the link by which a person answers their own request."""

from dataclasses import dataclass

from services.notifier.domain.people import Language, Recipient
from services.notifier.domain.requests import LINK_LASTS, AnswerLinks, PersonRequest
from services.notifier.letters.letter import Envelope, Letter, Stationery
from services.notifier.letters.sheets import Sheets


@dataclass(frozen=True, slots=True)
class RequestLetters:
    """Writes them; they say nothing about whether anything is kept of the person."""

    stationery: Stationery
    sheets: Sheets

    def write(
        self,
        request: PersonRequest,
        links: AnswerLinks,
        address: str,
        language: Language,
        envelope: Envelope,
    ) -> Letter:
        """Ask whoever reads mail to an address whether the request is theirs."""
        told = {
            "kind": request.kind.value,
            "url": links.url(request.request_id),
            "page": links.page,
            "token": links.token(request.request_id),
            "reference": request.reference,
            "ends_at": request.received_at + LINK_LASTS,
            "due_on": request.due_on,
        }
        recipient = Recipient("", address, None, language)
        sheet = self.sheets.sheet("request", told, recipient)
        return self.stationery.letter("sheet", {"sheet": sheet}, recipient, envelope)
