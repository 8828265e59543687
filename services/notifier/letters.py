"""Writes the letters that notifier sends."""

from dataclasses import dataclass, field
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from services.notifier.domain import Receipt, Recipient, erased_classes

# Not every server on the way takes eight bits.
_POLICY: Final = SMTP.clone(cte_type="7bit")


@dataclass(frozen=True, slots=True)
class Letter:
    """A message ready to be handed over."""

    sender: str
    recipient: str = field(repr=False)
    content: bytes = field(repr=False)


class Letters:
    """The templates in ``pages/``, and what is the same in every letter."""

    def __init__(self, *, sender: str, vendor_name: str, purger_url: str) -> None:
        self._sender = sender
        self._vendor_name = vendor_name
        self._purger_url = purger_url
        self._pages = Environment(
            loader=FileSystemLoader(Path(__file__).parent / "pages"),
            autoescape=select_autoescape(["html"]),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )

    def receipt(
        self, recipient: Recipient, receipt: Receipt, *, message_id: str, sent_at: datetime
    ) -> Letter:
        """Tell a contact what was erased, when, and how to see that it is so.

        Mandatory, so it offers no way to unsubscribe; it loads nothing and follows nobody.
        """
        told = {
            "recipient": recipient,
            "vendor_name": self._vendor_name,
            "receipt_code": receipt.receipt_code,
            "receipt_url": f"{self._purger_url}/receipts/{receipt.receipt_code}",
            "public_key_url": f"{self._purger_url}/ledger/public-key",
            "erased": [line for line in erased_classes(receipt.steps) if line.erased_at],
            "still_open": [line for line in erased_classes(receipt.steps) if not line.erased_at],
        }
        message = EmailMessage(policy=_POLICY)
        message["From"] = Address(self._vendor_name, addr_spec=self._sender)
        message["To"] = Address(recipient.name, addr_spec=recipient.address)
        message["Subject"] = self._pages.get_template("receipt.subject.txt").render(told).strip()
        message["Date"] = format_datetime(sent_at)
        message["Message-ID"] = message_id
        # RFC 3834: no out-of-office answer is wanted.
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(self._pages.get_template("receipt.txt").render(told))
        message.add_alternative(
            self._pages.get_template("receipt.html").render(told), subtype="html"
        )
        return Letter(self._sender, recipient.address, message.as_bytes())
