"""Letters that tell of a revision of the policy, which nobody can decline."""

from dataclasses import dataclass

from services.notifier.domain.people import Recipient
from services.notifier.domain.policies import Revision
from services.notifier.letters.letter import Envelope, Letter, Stationery
from services.notifier.letters.sheets import Sheets


@dataclass(frozen=True, slots=True)
class PolicyChanges:
    """Writes them; ``public_url`` is where anyone reads the revisions."""

    stationery: Stationery
    sheets: Sheets
    public_url: str

    def write(self, revision: Revision, recipient: Recipient, envelope: Envelope) -> Letter:
        """Tell a contact what changes, from when on, and where to read it."""
        number = revision.number
        told = {
            "number": number,
            "effective_at": revision.effective_at,
            "summary": revision.summary[recipient.language],
            "policy_url": f"{self.public_url}/policy/{number}",
            "difference_url": (
                f"{self.public_url}/policy/diff/{number - 1}...{number}" if number > 1 else None
            ),
        }
        sheet = self.sheets.sheet("policy-change", told, recipient)
        return self.stationery.letter("sheet", {"sheet": sheet}, recipient, envelope)
