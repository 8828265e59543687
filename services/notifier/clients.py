"""The systems outside: the mail server that takes our messages, the desk where tickets lie."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, cast

from aiosmtplib import SMTP, SMTPException, SMTPResponseException
from pydantic import SecretStr

from chassis.egress import MakeClient
from connect.service_desk import ServiceDesk
from services.notifier.domain.deliveries import Accepted, Deferred, Outcome, Refused, Unknown
from services.notifier.letters.letter import Letter

_TIMEOUT_SECONDS: Final = 20.0
_PERMANENT: Final = 500
_LONGEST_LINE: Final = 8192
_ENDS_NO_COMMAND: Final = re.compile(r"[!-;=?-~]+")
_TAKEN, _GO_ON = 2, 354
# The first digit of each reply, to MAIL, RCPT and DATA.
_AS_WANTED: Final = (2, 2, 3)
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
    ``sign`` adds what proves by whom a single message was sent; who has many signs them together.
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
        sign: Callable[[bytes], bytes] | None = None,
    ) -> None:
        self._host = host
        self._port = port
        self._name = name
        self._must_encrypt = must_encrypt
        self._login = login
        self._authority = authority
        self._sign = sign
        self.timeout_seconds = timeout_seconds

    @asynccontextmanager
    async def session(self) -> AsyncIterator["MailSession"]:
        """One connection for many messages, opened when the first is sent."""
        session = MailSession(self._connect, self.timeout_seconds)
        try:
            yield session
        finally:
            await session.quit()

    async def hand_over(self, letter: Letter) -> Outcome:
        """Sign and send one message that is of no campaign; never raises, as `MailSession.send`."""
        if self._sign is not None:
            signed = await asyncio.to_thread(self._sign, letter.content)
            letter = replace(letter, content=signed)
        async with self.session() as session:
            return await session.send(letter)

    async def _connect(self) -> "_Line":
        client = SMTP(
            hostname=self._host,
            port=self._port,
            local_hostname=self._name,
            timeout=self.timeout_seconds,
            start_tls=True if self._must_encrypt else None,
            cert_bundle=str(self._authority) if self._authority else None,
        )
        try:
            await client.connect()
            if self._login is not None:
                password = await asyncio.to_thread(self._login.password_file.read_text, "utf-8")
                await client.login(self._login.user, password.strip())
            if client.last_ehlo_response is None:
                await client.ehlo()
            # uvloop's is one in all but name.
            transport = cast("asyncio.Transport", client.transport)
            return _Line(transport, pipelining=client.supports_extension("pipelining"))
        except BaseException:
            client.close()
            raise


class _Line:
    """A connection that was made ready by aiosmtplib, which sends one command at a time.

    With ``pipelining`` several are sent together (RFC 2920), and their replies come one by one.
    """

    def __init__(self, transport: asyncio.Transport, *, pipelining: bool) -> None:
        self.pipelining = pipelining
        self._transport = transport
        self._reader = asyncio.StreamReader(limit=_LONGEST_LINE)
        protocol = asyncio.StreamReaderProtocol(self._reader)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)

    @property
    def is_open(self) -> bool:
        return not self._transport.is_closing() and not self._reader.at_eof()

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    async def reply(self) -> tuple[int, str]:
        """Read one whole reply, its code and its last line's text (RFC 5321, section 4.2)."""
        while True:
            line = await self._reader.readline()
            if not line.endswith(b"\n"):
                raise ConnectionResetError
            if line[3:4] != b"-":
                return int(line[:3]), line[4:].decode("ascii", "replace")

    def close(self) -> None:
        self._transport.close()


class MailSession:
    """A connection that is opened again whenever the server has ended it.

    To announce a message, to hand it over, and to make ready for the next takes at most
    ``step_seconds`` each. While ``handing_over``, whoever is cut off cannot know whether the
    message was taken.
    """

    def __init__(self, connect: Callable[[], Awaitable[_Line]], step_seconds: float) -> None:
        self._connect = connect
        self._step_seconds = step_seconds
        self._line: _Line | None = None
        self._announced: Letter | None = None
        self.handing_over = False

    async def send(self, letter: Letter, following: Letter | None = None) -> Outcome:
        """Hand a message over; never raises for what the server or the network does.

        Before the message itself is sent nothing can have been taken. From then on
        only an answer tells, and without one the outcome is unknown (RFC 1047).
        A server that lets us is told of the ``following`` message together with this one, which
        RFC 2920 section 3.1 allows; it is the one to send next, and another one costs the connection.
        """
        was_open = self._line is not None
        refused = await self._announce(letter)
        if was_open and refused == Deferred(None):
            # It may have ended the connection between two messages, as servers do.
            refused = await self._announce(letter)
        return refused or await self._transfer(letter, following)

    async def quit(self) -> None:
        """End the connection, if there is one, as politely as the server lets us."""
        if self._line is not None and self._line.is_open and self._announced is None:
            await self._step(b"QUIT\r\n")
        self._close()

    async def _announce(self, letter: Letter) -> Outcome | None:
        try:
            async with asyncio.timeout(self._step_seconds):
                refused = await self._ask(letter)
        except SMTPResponseException as refusal:
            # It turned us away, not this message: that is ours to mend, and the message waits.
            self._close()
            return Deferred(refusal.code)
        except _FAILURES:
            self._close()
            return Deferred(None)
        if refused is not None:
            await self._step(b"RSET\r\n")
        return refused

    async def _ask(self, letter: Letter) -> Outcome | None:
        """Ask whether the message may come; None where the server waits for it."""
        was_asked = self._announced is letter
        line = await self._line_for(letter)
        commands = _commands(letter)
        if line.pipelining and not was_asked:
            line.write(b"".join(commands))
        refused: Outcome | None = None
        code = 0
        for number, command in enumerate(commands):
            if not line.pipelining:
                line.write(command)
            try:
                code, text = await line.reply()
            except _FAILURES:
                if refused is None:
                    raise
                self._close()
                return refused
            if code // 100 == _AS_WANTED[number]:
                continue
            # A refused sender is ours to mend, whatever the code.
            refused = refused or (_not_taken(code, text) if number else Deferred(code))
            if not line.pipelining:
                break
        if refused is not None and code == _GO_ON:
            # It waits for a message that it has nobody for.
            line.write(b".\r\n")
            await line.reply()
        return refused

    async def _line_for(self, letter: Letter) -> _Line:
        announced, self._announced = self._announced, None
        # A server that waits for another message would take this one for it.
        usable = announced is letter or (announced is None and self._line and self._line.is_open)
        if self._line is None or not usable:
            self._close()
            self._line = await self._connect()
        return self._line

    async def _transfer(self, letter: Letter, following: Letter | None) -> Outcome:
        assert self._line is not None
        parts = [letter.content.replace(b"\r\n.", b"\r\n.."), b".\r\n"]
        if following is not None and self._line.pipelining and _is_sendable(following):
            parts += _commands(following)
            self._announced = following
        self.handing_over = True
        try:
            async with asyncio.timeout(self._step_seconds):
                self._line.write(b"".join(parts))
                code, text = await self._line.reply()
        except _FAILURES:
            self._close()
            self.handing_over = False
            return Unknown()
        self.handing_over = False
        if code // 100 == _TAKEN:
            return Accepted(code)
        if self._announced is None:
            await self._step(b"RSET\r\n")
        return _not_taken(code, text)

    async def _step(self, command: bytes) -> None:
        """Say what has no answer that matters; a connection that is out of order is closed."""
        if self._line is None:
            return
        try:
            async with asyncio.timeout(self._step_seconds):
                self._line.write(command)
                await self._line.reply()
        except _FAILURES:
            self._close()

    def _close(self) -> None:
        self._announced = None
        if self._line is not None:
            self._line.close()
            self._line = None


def _is_sendable(letter: Letter) -> bool:
    return all(map(_ENDS_NO_COMMAND.fullmatch, (letter.sender, letter.recipient)))


def _commands(letter: Letter) -> tuple[bytes, bytes, bytes]:
    """What announces a message; raises ValueError for an address that could say more than that."""
    if not _is_sendable(letter):
        raise ValueError
    return (
        b"MAIL FROM:<%s>\r\n" % letter.sender.encode("ascii"),
        b"RCPT TO:<%s>\r\n" % letter.recipient.encode("ascii"),
        b"DATA\r\n",
    )


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
    client: MakeClient = field(repr=False)

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
        async with self.client() as http:
            yield ServiceDesk(
                http,
                self.url,
                self.project,
                licence_field=self.licence_field,
                account=self.account,
                token=SecretStr(token.strip()),
            )
