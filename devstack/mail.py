"""A mail server that delivers nothing: every message becomes a file, and a page shows them.

It can be told to turn the next messages away, or to hang up on them, as real
servers do. Run it with ``python -m devstack.mail``, or use
:func:`start_mail_sink` within a test.
"""

import argparse
import asyncio
import contextlib
import email.policy
import json
import signal
import socket
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.parser import BytesParser
from enum import StrEnum
from pathlib import Path
from secrets import token_hex
from urllib.parse import parse_qs
from weakref import WeakSet

import uvicorn
from aiosmtpd.smtp import SMTP, Envelope, Session
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.templating import Jinja2Templates

from devstack.processes import LOOPBACK

# A page of ours runs no script and loads nothing; a mail's own page may not even follow a link.
PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-src 'self'; form-action 'self'"
BODY_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"
SEE_OTHER = 303


class Answer(StrEnum):
    """What the server does to a message that it does not take."""

    DEFER = "defer"  # a 4xx reply: try again later
    REFUSE = "refuse"  # a 5xx reply: never try again
    DROP = "drop"  # no reply: the connection ends


class Moment(StrEnum):
    """When it does that: at the recipient's address, or when the whole message has come."""

    BEFORE_DATA = "before-data"
    AFTER_DATA = "after-data"


REPLIES = {
    Answer.DEFER: "451 4.2.1 Mailbox is busy",
    Answer.REFUSE: "550 5.1.1 No such mailbox",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong with one message."""

    answer: Answer
    moment: Moment


@dataclass(frozen=True, slots=True)
class Mail:
    """A message that was taken, as its sender wrote it."""

    id: str
    received_at: str
    sender: str
    recipients: tuple[str, ...]
    subject: str
    headers: tuple[tuple[str, str], ...]
    text: str
    html: str


class Mailbox:
    """The folder with the messages, ``<id>.eml`` each, and the faults that still wait."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.faults: list[Fault] = []
        folder.mkdir(parents=True, exist_ok=True)

    def fail_next(self, answer: Answer, moment: Moment, messages: int = 1) -> None:
        """Meet the next ``messages`` messages so, in place of what was to go wrong before.

        A connection that is dropped after the data leaves the message in the
        folder: the server took it, and the sender cannot know.
        """
        self.faults = [Fault(answer, moment)] * messages

    def take_fault(self) -> Fault | None:
        """Return what goes wrong with the message that comes now."""
        return self.faults.pop(0) if self.faults else None

    def keep(self, sender: str, recipients: list[str], content: bytes) -> None:
        """Write the message down, whole or not at all, below the headers of its delivery."""
        mail_id = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{token_hex(4)}"
        # As a server does at final delivery: RFC 5321, section 4.4; the second is customary.
        lines = [f"Return-Path: <{sender}>", *(f"Delivered-To: {each}" for each in recipients)]
        delivery = "".join(f"{line}\r\n" for line in lines).encode()
        unfinished = self.folder / f".{mail_id}.unfinished"
        unfinished.write_bytes(delivery + content)
        unfinished.rename(self.path(mail_id))

    def path(self, mail_id: str) -> Path:
        """Return where the message of that name stands."""
        return self.folder / f"{mail_id}.eml"

    def messages(self) -> list[Mail]:
        """Return every message that was taken, the first one first."""
        return [_read(path) for path in sorted(self.folder.glob("*.eml"))]

    def message(self, mail_id: str) -> Mail | None:
        """Return the message of that name."""
        return next((mail for mail in self.messages() if mail.id == mail_id), None)


class _Conversation:
    """One connection's side of SMTP, as aiosmtpd calls it."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._fault: Fault | None = None

    async def handle_EHLO(  # noqa: N802 - aiosmtpd's name
        self, _: SMTP, session: Session, __: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        """Let commands be sent together (RFC 2920): whoever comes is read line by line anyway."""
        session.host_name = hostname
        return [*responses[:-1], "250-PIPELINING", responses[-1]]

    async def handle_MAIL(  # noqa: N802 - aiosmtpd's name
        self, _: SMTP, __: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Begin a message, and learn what goes wrong with it."""
        self._fault = self._mailbox.take_fault()
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 OK"

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, _: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take a recipient, whoever it is."""
        if self._fault is not None and self._fault.moment is Moment.BEFORE_DATA:
            return await self._fail(server, self._fault)
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 2.1.5 OK"

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, _: Session, envelope: Envelope
    ) -> str:
        """Take the message; a server that hangs up now has taken it as well."""
        if self._fault is None or self._fault.answer is Answer.DROP:
            self._mailbox.keep(
                envelope.mail_from or "", envelope.rcpt_tos, envelope.original_content or b""
            )
        if self._fault is not None:
            return await self._fail(server, self._fault)
        return "250 2.0.0 Kept"

    async def _fail(self, server: SMTP, fault: Fault) -> str:
        if fault.answer is not Answer.DROP:
            return REPLIES[fault.answer]
        transport = server.transport
        assert isinstance(transport, asyncio.Transport)
        transport.abort()
        # No reply can leave any more; aiosmtpd cancels us when it hears of it.
        await asyncio.get_running_loop().create_future()
        raise AssertionError


class MailSink:
    """The two servers of a mailbox, SMTP and HTTP, on the loopback address."""

    def __init__(
        self,
        mailbox: Mailbox,
        *,
        smtp: asyncio.Server,
        http: uvicorn.Server,
        http_socket: socket.socket,
        conversations: WeakSet[SMTP],
    ) -> None:
        self.mailbox = mailbox
        self.smtp_port: int = smtp.sockets[0].getsockname()[1]
        self.http_port: int = http_socket.getsockname()[1]
        self._smtp = smtp
        self._conversations = conversations
        self._http = http
        self._serving = asyncio.create_task(http.serve([http_socket]))

    @property
    def url(self) -> str:
        """Where the page with the messages is."""
        return f"http://{LOOPBACK}:{self.http_port}/"

    async def stop(self) -> None:
        """Close both doors and every connection. The messages stay."""
        self._smtp.close()
        for conversation in self._conversations:
            if conversation.transport is not None:
                conversation.transport.close()
        self._http.should_exit = True
        await self._serving


async def start_mail_sink(folder: Path, *, smtp_port: int = 0, http_port: int = 0) -> MailSink:
    """Open both servers on the running loop; port 0 stands for any free one.

    Both take connections when this returns. Messages from before are shown too.
    """
    mailbox = Mailbox(folder)
    loop = asyncio.get_running_loop()

    conversations: WeakSet[SMTP] = WeakSet()

    def conversation() -> SMTP:
        smtp = SMTP(_Conversation(mailbox), hostname="localhost", enable_SMTPUTF8=True, loop=loop)
        conversations.add(smtp)
        return smtp

    # Listens from here on, so that who connects before uvicorn runs waits a moment.
    http_socket = socket.create_server((LOOPBACK, http_port))
    try:
        smtp = await loop.create_server(conversation, LOOPBACK, smtp_port)
    except OSError:
        http_socket.close()
        raise
    config = uvicorn.Config(
        application(mailbox), log_level="warning", lifespan="off", ws="none", access_log=False
    )
    return MailSink(
        mailbox,
        smtp=smtp,
        http=_QuietServer(config),
        http_socket=http_socket,
        conversations=conversations,
    )


class _QuietServer(uvicorn.Server):
    """A server that leaves signals to the program it is part of."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def application(mailbox: Mailbox) -> Starlette:
    """Build the pages of a mailbox, and the switch for its faults."""
    templates = Jinja2Templates(directory=Path(__file__).parent / "pages")
    policy = {"Content-Security-Policy": PAGE_POLICY}

    def known(request: Request) -> Mail:
        mail = mailbox.message(request.path_params["mail_id"])
        if mail is None:
            raise HTTPException(404)
        return mail

    async def show_list(request: Request) -> Response:
        context = {
            "mails": mailbox.messages()[::-1],
            "faults": mailbox.faults,
            "answers": list(Answer),
            "moments": list(Moment),
        }
        return templates.TemplateResponse(request, "mails.html", context, headers=policy)

    async def show_mail(request: Request) -> Response:
        context = {"mail": known(request)}
        return templates.TemplateResponse(request, "mail.html", context, headers=policy)

    async def show_body(request: Request) -> Response:
        return HTMLResponse(known(request).html, headers={"Content-Security-Policy": BODY_POLICY})

    async def show_source(request: Request) -> Response:
        source = mailbox.path(known(request).id).read_bytes()
        return PlainTextResponse(source, headers={"X-Content-Type-Options": "nosniff"})

    async def list_as_json(_: Request) -> Response:
        return JSONResponse([asdict(mail) for mail in mailbox.messages()])

    async def set_fault(request: Request) -> Response:
        form = parse_qs((await request.body()).decode(errors="replace"))
        try:
            answer, moment = Answer(form["answer"][0]), Moment(form["moment"][0])
            messages = int(form["messages"][0])
        except (KeyError, ValueError) as error:
            raise HTTPException(400, "wanted: answer, moment, messages") from error
        mailbox.fail_next(answer, moment, messages)
        return Response(status_code=SEE_OTHER, headers={"Location": "/"})

    return Starlette(
        routes=[
            Route("/", show_list),
            Route("/messages.json", list_as_json),
            Route("/messages/{mail_id}", show_mail),
            Route("/messages/{mail_id}/body", show_body),
            Route("/messages/{mail_id}/source", show_source),
            Route("/faults", set_fault, methods=["POST"]),
        ]
    )


def _read(path: Path) -> Mail:
    message = BytesParser(policy=email.policy.default).parsebytes(path.read_bytes())
    delivery = {"return-path", "delivered-to"}
    headers = [(name, str(value)) for name, value in message.items()]
    return Mail(
        id=path.stem,
        received_at=_received_at(path.stem).isoformat(timespec="seconds"),
        sender=str(message["return-path"]).strip("<>"),
        recipients=tuple(str(each) for each in message.get_all("delivered-to", [])),
        subject=str(message.get("subject", "")),
        headers=tuple(each for each in headers if each[0].lower() not in delivery),
        text=_content(message, "plain"),
        html=_content(message, "html"),
    )


def _received_at(mail_id: str) -> datetime:
    return datetime.strptime(mail_id.rpartition("-")[0], "%Y%m%dT%H%M%S.%f").replace(tzinfo=UTC)


def _content(message: EmailMessage, kind: str) -> str:
    part = message.get_body(preferencelist=(kind,))
    return "" if part is None else str(part.get_content())


async def serve(folder: Path, *, smtp_port: int, http_port: int) -> None:
    """Serve until this process is told to stop; say on standard output where, once it listens."""
    stopped = asyncio.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(each, stopped.set)
    sink = await start_mail_sink(folder, smtp_port=smtp_port, http_port=http_port)
    ports = {"smtp_port": sink.smtp_port, "http_port": sink.http_port}
    sys.stdout.write(json.dumps(ports) + "\n")
    sys.stdout.flush()
    await stopped.wait()
    await sink.stop()


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m devstack.mail", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where the messages go")
    parser.add_argument("--smtp-port", type=int, default=0)
    parser.add_argument("--http-port", type=int, default=0)
    options = parser.parse_args(arguments)
    asyncio.run(serve(options.folder, smtp_port=options.smtp_port, http_port=options.http_port))


if __name__ == "__main__":
    main()
