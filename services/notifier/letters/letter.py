"""What every letter has in common: its sheet, its headers and its form on the wire."""

import binascii
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.headerregistry import Address
from email.policy import SMTP
from email.utils import format_datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from css_inline import CSSInliner
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template, select_autoescape

from services.notifier.domain.people import Recipient

_LONGEST_LINE: Final = 998
_ONE_LINE_HEADER: Final = 76
# What is written as it is, in headers: no quoting, folding or encoding is needed for it.
_PLAIN: Final = re.compile(r"[ -~]*")
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9]+( [A-Za-z0-9]+)*")
_UNPRINTABLE: Final = re.compile(r"[^\S ]|[\x00-\x1f\x7f-\x9f]")


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
    """The templates in ``pages/``, and what is the same in every letter.

    A template's style sheet is put into its elements once, when it is read, as few mail programs
    look at style sheets. What is optional comes from ``news_sender``.
    """

    def __init__(
        self,
        *,
        sender: str,
        vendor_name: str,
        news_sender: str | None = None,
        pages: Path = Path(__file__).parent.parent / "pages",
    ) -> None:
        self._vendor_name = vendor_name
        self._sender = sender
        self._news_sender = news_sender or sender
        self._from = {
            each: _header("From", _mailbox(vendor_name, each))
            for each in (sender, self._news_sender)
        }
        self._domain = sender.rpartition("@")[2]
        self._templates: dict[str, Template] = {}
        self._pages = Environment(
            loader=_InlinedStyles(pages),
            autoescape=select_autoescape(["html"]),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            auto_reload=False,
        )

    def letter(
        self,
        template: str,
        told: Mapping[str, Any],
        recipient: Recipient,
        envelope: Envelope,
    ) -> Letter:
        """Fill in ``<template>.subject.txt``, ``.txt`` and ``.html`` for one person.

        It loads nothing and follows nobody. What may be declined says where, in its headers and to
        the template as ``unsubscribing``; what is owed to everybody offers no way out.
        """
        unsubscribing = envelope.unsubscribing
        said = {**told, "recipient": recipient, "vendor_name": self._vendor_name}
        sender = self._sender
        if unsubscribing is not None:
            sender = self._news_sender
            said["unsubscribing"] = unsubscribing
        headers = [
            self._from[sender],
            _header("To", _mailbox(recipient.name, recipient.address)),
            _subject(self._render(f"{template}.subject.txt", said)),
            _header("Date", _date(envelope.sent_at)),
            _header("Message-ID", envelope.message_id),
            # RFC 3834: no out-of-office answer is wanted.
            "Auto-Submitted: auto-generated\r\n",
        ]
        if unsubscribing is not None:
            headers += [
                _header("List-Id", f"<{unsubscribing.list_name}.{self._domain}>"),
                _header("List-Unsubscribe", f"<{unsubscribing.one_click_url}>"),
                _header("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"),
            ]
        # Whoever writes a part cannot know this, as who lacks the key cannot know the Message-ID.
        boundary = f"=_{hashlib.sha256(envelope.message_id.encode()).hexdigest()[:40]}"
        content = _multipart(
            headers,
            boundary,
            self._render(f"{template}.txt", said),
            self._render(f"{template}.html", said),
        )
        return Letter(sender, recipient.address, content)

    def _render(self, page: str, said: Mapping[str, Any]) -> str:
        template = self._templates.get(page)
        if template is None:
            template = self._templates[page] = self._pages.get_template(page)
            # As it comes it is a chain of mappings, which costs more to copy than to fill in a page.
            template.globals = dict(template.globals)
        return template.render(said)


def _multipart(headers: list[str], boundary: str, text: str, html: str) -> bytes:
    """Put a message of two forms into the form it has on the wire."""
    lines = [
        *headers,
        "MIME-Version: 1.0\r\n",
        f'Content-Type: multipart/alternative; boundary="{boundary}"\r\n\r\n',
    ]
    return b"".join(
        (
            "".join(lines).encode("ascii"),
            _part(boundary, "plain", text),
            _part(boundary, "html", html),
            f"--{boundary}--\r\n".encode(),
        )
    )


def _part(boundary: str, subtype: str, text: str) -> bytes:
    """One form of a message; not every server on the way takes eight bits."""
    text = text.replace("\r\n", "\n")
    if not text.endswith("\n"):
        text += "\n"
    if text.isascii() and max(map(len, text.split("\n"))) <= _LONGEST_LINE and "\r" not in text:
        charset, encoding, body = "us-ascii", "7bit", text.encode("ascii")
    else:
        charset, encoding = "utf-8", "quoted-printable"
        body = binascii.b2a_qp(text.encode("utf-8", "replace"), istext=True)
    head = (
        f'--{boundary}\r\nContent-Type: text/{subtype}; charset="{charset}"\r\n'
        f"Content-Transfer-Encoding: {encoding}\r\n\r\n"
    )
    # The last end of line belongs to the boundary that follows.
    return head.encode("ascii") + body.replace(b"\n", b"\r\n") + b"\r\n"


def _header(name: str, value: str) -> str:
    """Write a header; one that is long or not plain is encoded and folded."""
    line = f"{name}: {value}"
    if len(line) <= _ONE_LINE_HEADER and _PLAIN.fullmatch(value):
        return f"{line}\r\n"
    if name == "List-Unsubscribe":
        # An address is never folded in its middle.
        return f"{name}:\r\n {value}\r\n"
    folded: str = SMTP.fold(name, SMTP.header_factory(name, value))
    return folded


def _mailbox(name: str, address: str) -> str:
    """A person as a header names them; what could end a header is a space in a name."""
    name = _on_one_line(name)
    if _PLAIN_NAME.fullmatch(name):
        return f"{name} <{address}>"
    if name and _PLAIN.fullmatch(name):
        quoted = name.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{quoted}" <{address}>'
    return str(Address(name, addr_spec=address))


@lru_cache(maxsize=16)
def _date(sent_at: datetime) -> str:
    """Write the time, which is the same in all letters of a chunk."""
    return format_datetime(sent_at)


@lru_cache(maxsize=16)
def _subject(text: str) -> str:
    """Write the subject, which is the same in most letters of a campaign."""
    return _header("Subject", _on_one_line(text))


def _on_one_line(text: str) -> str:
    return _UNPRINTABLE.sub(" ", text).strip()


_STYLES: Final = CSSInliner(
    keep_style_tags=False, keep_at_rules=True, load_remote_stylesheets=False
)
_STATEMENT: Final = re.compile(r"\{%.*?%\}|\{#.*?#\}", re.DOTALL)
_EXPRESSION: Final = re.compile(r"\{\{.*?\}\}", re.DOTALL)
_STANDS_FOR: Final = re.compile(r"<!--jinja-([0-9]+)-->|jinja-([0-9]+)-")


class _InlinedStyles(FileSystemLoader):
    """Reads templates; the style sheet of a page goes into its elements."""

    def get_source(self, environment: Environment, template: str) -> tuple[str, str, Any]:
        source, filename, is_fresh = super().get_source(environment, template)
        if template.endswith(".html") and "<style" in source:
            source = inline_styles(source)
        return source, filename, is_fresh


def inline_styles(source: str) -> str:
    """Put the style sheet of a template into its elements; what Jinja reads stays as it is.

    A statement becomes a comment meanwhile, which may stand anywhere but within a tag, also
    between the rows of a table; an expression becomes a word.
    """
    kept: list[str] = []

    def comment(found: re.Match[str]) -> str:
        kept.append(found[0])
        return f"<!--jinja-{len(kept) - 1}-->"

    def word(found: re.Match[str]) -> str:
        kept.append(found[0])
        return f"jinja-{len(kept) - 1}-"

    page = _STYLES.inline(_EXPRESSION.sub(word, _STATEMENT.sub(comment, source)))
    return _STANDS_FOR.sub(lambda found: kept[int(found[1] or found[2])], page)
