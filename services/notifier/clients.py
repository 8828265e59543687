"""The systems outside: the mail server that takes our messages, the desk where tickets lie."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx2
from aiosmtplib import (
    SMTP,
    SMTPDataError,
    SMTPException,
    SMTPRecipientRefused,
    SMTPResponseException,
)
from pydantic import SecretStr

from connect.service_desk import ServiceDesk
from services.notifier.domain.deliveries import Accepted, Deferred, Outcome, Refused, Unknown
from services.notifier.letters.letter import Letter

_TIMEOUT_SECONDS: Final = 20.0
_PERMANENT: Final = 500
# Errors of aiosmtplib carry addresses, so none of them gets further than this module.
_FAILURES: Final = (SMTPException, OSError, TimeoutError, ValueError)


@dataclass(frozen=True, slots=True)
class Login:
    """As whom mail is handed over; the password is read from its file for each connection."""

    user: str
    password_file: Path


class MailServer:
    """The server that takes our mail; encryption is used as soon as it offers any.

    ``name`` is what we call ourselves (RFC 5321 section 4.1.1.1), which must
    not be this machine's name. With ``must_encrypt`` nothing is sent to a server
    that offers no encryption; what is offered and does not work is never passed over.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        name: str,
        timeout_seconds: float = _TIMEOUT_SECONDS,
        must_encrypt: bool = False,
        login: Login | None = None,
        authority: Path | None = None,
    ) -> None:
        self._host = host
        self._port = port
        self._name = name
        self._must_encrypt = must_encrypt
        self._login = login
        self._authority = authority
        self.timeout_seconds = timeout_seconds

    @asynccontextmanager
    async def session(self) -> AsyncIterator["MailSession"]:
        """One connection for many messages, opened when the first is sent."""
        client = SMTP(
            hostname=self._host,
            port=self._port,
            local_hostname=self._name,
            timeout=self.timeout_seconds,
            start_tls=True if self._must_encrypt else None,
            cert_bundle=str(self._authority) if self._authority else None,
        )
        try:
            yield MailSession(client, self.timeout_seconds, self._login)
        finally:
            if client.is_connected:
                with suppress(*_FAILURES):
                    await client.quit()
            client.close()


class MailSession:
    """A connection that is opened again whenever the server has ended it.

    To announce a message, to hand it over, and to make ready for the next takes at most
    ``step_seconds`` each. While ``handing_over``, whoever is cut off cannot know whether the
    message was taken.
    """

    def __init__(self, client: SMTP, step_seconds: float, login: Login | None = None) -> None:
        self._client = client
        self._step_seconds = step_seconds
        self._login = login
        self.handing_over = False

    async def send(self, letter: Letter) -> Outcome:
        """Hand a message over; never raises for what the server or the network does.

        Before the message itself is sent nothing can have been taken. From then on
        only an answer tells, and without one the outcome is unknown (RFC 1047).
        """
        was_open = self._client.is_connected
        refused = await self._announce(letter)
        if was_open and refused == Deferred(None):
            # It may have ended the connection between two messages, as servers do.
            refused = await self._announce(letter)
        return refused or await self._transfer(letter)

    async def _announce(self, letter: Letter) -> Outcome | None:
        try:
            async with asyncio.timeout(self._step_seconds):
                if not self._client.is_connected:
                    await self._connect()
                await self._client.mail(letter.sender)
                await self._client.rcpt(letter.recipient)
        except SMTPRecipientRefused as refused:
            await self._reset()
            return _not_taken(refused.code, refused.message)
        except SMTPResponseException as refused:
            # It turned us away, not this message: that is ours to mend, and the message waits.
            await self._reset()
            return Deferred(refused.code)
        except _FAILURES:
            self._client.close()
            return Deferred(None)
        return None

    async def _connect(self) -> None:
        await self._client.connect()
        if self._login is not None:
            password = await asyncio.to_thread(self._login.password_file.read_text, "utf-8")
            await self._client.login(self._login.user, password.strip())

    async def _transfer(self, letter: Letter) -> Outcome:
        self.handing_over = True
        try:
            async with asyncio.timeout(self._step_seconds):
                reply = await self._client.data(letter.content)
        except SMTPDataError as refused:
            await self._reset()
            self.handing_over = False
            return _not_taken(refused.code, refused.message)
        except _FAILURES:
            self._client.close()
            self.handing_over = False
            return Unknown()
        self.handing_over = False
        return Accepted(reply.code)

    async def _reset(self) -> None:
        """Be ready for the next message, on a new connection where this one is out of order."""
        try:
            if self._client.is_connected:
                await self._client.rset()
        except _FAILURES:
            self._client.close()


_ENHANCED: Final = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}(?![0-9.])")


def _not_taken(code: int, message: str) -> Outcome:
    """Keep the numbers of a reply; its text repeats addresses."""
    found = _ENHANCED.match(message)
    enhanced = found[0] if found else None
    return Refused(code, enhanced) if code >= _PERMANENT else Deferred(code, enhanced)


class TokenUnreadableError(Exception):
    """The file with the desk's token is not there, or is no text."""


@dataclass(frozen=True, slots=True)
class TicketDesk:
    """Where the vendor's support tickets lie, and as whom they are reached."""

    url: str
    project: str
    licence_field: str
    account: str = field(repr=False)
    token_file: Path

    @asynccontextmanager
    async def session(self) -> AsyncIterator[ServiceDesk]:
        """Reach the desk with the token that the file holds now.

        Raises:
            TokenUnreadableError: it holds none.
        """
        try:
            token = await asyncio.to_thread(self.token_file.read_text, "utf-8")
        except (OSError, UnicodeDecodeError):
            raise TokenUnreadableError from None
        async with httpx2.AsyncClient() as http:
            yield ServiceDesk(
                http,
                self.url,
                self.project,
                licence_field=self.licence_field,
                account=self.account,
                token=SecretStr(token.strip()),
            )
