"""The SMTP port at which our mail comes back: bounces and complaints, of which nothing is kept."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from uuid import UUID

import structlog
from aiosmtpd.smtp import SMTP, Envelope, Session

from chassis.database import TRANSIENT_ERRORS
from chassis.unit_of_work import Units
from services.notifier.context import Context
from services.notifier.domain.bounces import Bounce, Complaint, ReturnPaths, read_report
from services.notifier.domain.suppressions import ALL_OPTIONAL, EVERYTHING, Reason
from services.notifier.figures import MailFigures
from services.notifier.store import bounces as store
from services.notifier.store.suppressions import suppress

log = structlog.get_logger(__name__)

_MOST_BYTES: Final = 256 * 1024
_IDLE_SECONDS: Final = 60.0
_TAKEN: Final = "250 2.0.0 Thank you"


class Returns:
    """Takes what comes back and does what follows from it, before it says that it has taken it.

    Who lacks the key of an address cannot have sent it: such mail is refused. What is said in
    a message is used to suppress and to count, and is neither stored nor logged.
    """

    def __init__(self, units: Units[Context], paths: ReturnPaths, figures: MailFigures) -> None:
        self._units = units
        self._paths = paths
        self._figures = figures

    @asynccontextmanager
    async def listening(self, host: str, port: int) -> AsyncIterator[int]:
        """Take mail at this port, 0 for any free one, as long as the block lasts; give the port."""
        # It names whom it talks about on the level below.
        logging.getLogger("mail.log").setLevel(logging.WARNING)
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: self._conversation(loop), host, port)
        async with server:
            yield server.sockets[0].getsockname()[1]

    def _conversation(self, loop: asyncio.AbstractEventLoop) -> SMTP:
        return SMTP(
            self,
            data_size_limit=_MOST_BYTES,
            hostname=self._paths.domain,
            ident="keepword",
            timeout=_IDLE_SECONDS,
            loop=loop,
        )

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _: SMTP, __: Session, envelope: Envelope, address: str, ___: list[str]
    ) -> str:
        """Take what is for one delivery, or for complaints, and nothing else."""
        if envelope.rcpt_tos:
            return "452 4.5.3 One recipient at a time"
        if not self._paths.is_for_complaints(address) and self._paths.read(address) is None:
            self._count("forged")
            return "550 5.1.1 No such address"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, _: SMTP, __: Session, envelope: Envelope
    ) -> str:
        """Do what follows; while our database is away, ask for the message again."""
        try:
            report = read_report(envelope.original_content or b"")
        except Exception as failure:  # noqa: BLE001 - whatever a message does to its parser, it is no report
            log.warning("returned mail unreadable", error=type(failure).__name__)
            report = None
        try:
            self._count(await self._settle(envelope.rcpt_tos[0], report))
        except TRANSIENT_ERRORS as failure:
            log.warning("returned mail waits for the database", error=type(failure).__name__)
            return "451 4.3.0 Try again later"
        return _TAKEN

    async def _settle(self, address: str, report: Bounce | Complaint | None) -> str:
        match report:
            case Bounce() if delivery_id := self._paths.read(address):
                return await self._bounced(delivery_id, report)
            case Complaint() if self._paths.is_for_complaints(address):
                delivery_id = self._paths.read(report.return_path)
                return "forged" if delivery_id is None else await self._complained(delivery_id)
            case _:
                return "no-report"

    async def _bounced(self, delivery_id: UUID, bounce: Bounce) -> str:
        if not bounce.for_good:
            return "late"
        async with self._units.begin() as uow:
            sent = await store.sent(uow.connection, delivery_id)
            if sent is None:
                return "unknown"
            new = await store.note_bounce(uow.connection, delivery_id, now=uow.now)
            if bounce.nobody_is_there:
                await suppress(uow, sent.address_index, scope=EVERYTHING, reason=Reason.BOUNCED)
        if new:
            log.info(
                "delivery bounced",
                campaign_id=sent.campaign_id,
                kind=sent.kind,
                nobody_is_there=bounce.nobody_is_there,
            )
        if not new:
            return "repeated"
        return "bounced" if bounce.nobody_is_there else "undelivered"

    async def _complained(self, delivery_id: UUID) -> str:
        async with self._units.begin() as uow:
            sent = await store.sent(uow.connection, delivery_id)
            if sent is None:
                return "unknown"
            new = await suppress(
                uow, sent.address_index, scope=ALL_OPTIONAL, reason=Reason.COMPLAINED
            )
        if new:
            log.info("delivery complained of", campaign_id=sent.campaign_id, kind=sent.kind)
        return "complained" if new else "repeated"

    def _count(self, what: str) -> None:
        self._figures.mail_returned_total.labels(what).inc()
