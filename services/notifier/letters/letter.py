"""What every letter has in common: its sheet, its headers and its form on the wire."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from services.notifier.domain.people import Recipient

# Not every server on the way takes eight bits. A link in a header must not be folded in its middle.
_POLICY: Final = SMTP.clone(cte_type="7bit", max_line_length=998)


@dataclass(frozen=True, slots=True)
class Unsubscribing:
    """How a person declines what they need not be sent.

    ``one_click_url`` is of this recipient alone and ends messages of the kind (RFC 8058);
    ``preferences_url`` leads to all that the person may choose. ``list_name`` names the kind.
    """

    list_name: str
    one_click_url: str = field(repr=False)
    preferences_url: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Envelope:
    """By what id a message is known, when it is sent, and how to decline it where one may."""

    message_id: str
    sent_at: datetime
    unsubscribing: Unsubscribing | None = None


@dataclass(frozen=True, slots=True)
class Letter:
    """A message ready to be handed over."""

    sender: str
    recipient: str = field(repr=False)
    content: bytes = field(repr=False)


class Stationery:
    """The templates in ``pages/``, and what is the same in every letter."""

    def __init__(self, *, sender: str, vendor_name: str) -> None:
        self._sender = sender
        self._vendor_name = vendor_name
        self._pages = Environment(
            loader=FileSystemLoader(Path(__file__).parent.parent / "pages"),
            autoescape=select_autoescape(["html"]),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )

    def letter(
        self, template: str, told: Mapping[str, Any], recipient: Recipient, envelope: Envelope
    ) -> Letter:
        """Fill in ``<template>.subject.txt``, ``.txt`` and ``.html`` for one person.

        It loads nothing and follows nobody. What may be declined says where, in its headers and to
        the template as ``unsubscribing``; what is owed to everybody offers no way out.
        """
        unsubscribing = envelope.unsubscribing
        said = {**told, "recipient": recipient, "vendor_name": self._vendor_name}
        if unsubscribing is not None:
            said["unsubscribing"] = unsubscribing
        message = EmailMessage(policy=_POLICY)
        message["From"] = Address(self._vendor_name, addr_spec=self._sender)
        message["To"] = Address(recipient.name, addr_spec=recipient.address)
        message["Subject"] = self._render(f"{template}.subject.txt", said).strip()
        message["Date"] = format_datetime(envelope.sent_at)
        message["Message-ID"] = envelope.message_id
        # RFC 3834: no out-of-office answer is wanted.
        message["Auto-Submitted"] = "auto-generated"
        if unsubscribing is not None:
            domain = self._sender.rpartition("@")[2]
            message["List-Id"] = f"<{unsubscribing.list_name}.{domain}>"
            message["List-Unsubscribe"] = f"<{unsubscribing.one_click_url}>"
            message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
        message.set_content(self._render(f"{template}.txt", said))
        message.add_alternative(self._render(f"{template}.html", said), subtype="html")
        return Letter(self._sender, recipient.address, message.as_bytes())

    def _render(self, page: str, said: Mapping[str, Any]) -> str:
        return self._pages.get_template(page).render(said)
