"""Sends what is due, and settles what has become too late."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Generic, TypeVar
from uuid import UUID

import structlog

from chassis.database import Connection, Pool
from chassis.housekeeping import ERASURE_PROOF_KEPT
from chassis.jobs import Job
from chassis.keys import KeyDestroyed, Undecipherable
from chassis.unit_of_work import UnitOfWork, Units
from services.notifier.clients import MailServer, MailSession
from services.notifier.context import Context
from services.notifier.domain.campaigns import Kind
from services.notifier.domain.deliveries import PATIENCE, Deferred, Outcome, message_id, pause_after
from services.notifier.domain.people import ADDRESS, NAME, Recipient
from services.notifier.domain.preferences import Links
from services.notifier.letters.letter import Envelope, Letter, Unsubscribing
from services.notifier.store import deliveries as store
from services.notifier.store import people

log = structlog.get_logger(__name__)

Told = TypeVar("Told")

# Longer than all the waiting that one message can cause: three steps of 20 seconds.
_LEASE: Final = timedelta(seconds=75)


@dataclass(frozen=True, slots=True)
class Writer(Generic[Told]):
    """How campaigns of one kind are put into words.

    ``read`` says what a campaign says, or None where that is not known any
    more; ``write`` says it to one person.
    """

    read: Callable[[Connection, UUID], Awaitable[Told | None]]
    write: Callable[[Told, Recipient, Envelope], Letter]

    async def letter(
        self, connection: Connection, campaign_id: UUID, recipient: Recipient, envelope: Envelope
    ) -> Letter | None:
        """Write what a campaign says to one person, unless that is not known any more."""
        told = await self.read(connection, campaign_id)
        return None if told is None else self.write(told, recipient, envelope)


@dataclass(frozen=True, slots=True)
class Deliveries:
    """The job that sends what is due, one claim after another, on one connection.

    ``public_url`` is where anyone reaches us.
    """

    units: Units[Context]
    worker: Pool
    server: MailServer
    writers: Mapping[Kind, Writer[Any]]
    public_url: str

    def jobs(self) -> tuple[Job, ...]:
        """The jobs with their intervals."""
        return (
            Job("mail", timedelta(seconds=1), self.run),
            Job("tidy receipts", timedelta(hours=1), self.tidy),
        )

    async def run(self) -> int:
        """Send what is due, settle what has become too late; return how many were tried.

        Business time may jump, so what can be sent now is sent before it is called late.
        """
        clock = self.units.clock
        lost = await store.doubt_lost_attempts(self.worker, now=clock.now(), wall=clock.wall())
        if lost:
            log.warning("deliveries uncertain, their worker went away", deliveries=lost)
        tried = await self._send_all()
        late = await store.give_up_late_receipts(
            self.worker, planned_before=self.units.clock.now() - PATIENCE
        )
        if late:
            log.error("receipts given up, contacts are erased without", deliveries=late)
        return tried

    async def tidy(self) -> None:
        """Forget what receipts said."""
        await store.drop_receipts(
            self.worker, noted_before=self.units.clock.now() - ERASURE_PROOF_KEPT
        )

    async def _send_all(self) -> int:
        tried = 0
        async with self.server.session() as session:
            while (claim := await self._claim()) is not None:
                tried += 1
                outcome = await self._send(session, claim)
                if outcome == Deferred(None):
                    break  # the server is away, and would be for the others
        return tried

    async def _claim(self) -> store.Claim | None:
        return await store.claim_due_delivery(
            self.worker, wall=self.units.clock.wall(), lease=_LEASE
        )

    async def _send(self, session: MailSession, claim: store.Claim) -> Outcome | None:
        wall = self.units.clock.wall()
        letter = await self._letter(claim, wall)
        if letter is None:
            return None
        outcome = await session.send(letter)
        await store.record_outcome(
            self.worker,
            claim,
            outcome,
            now=self.units.clock.now(),
            next_attempt_at=wall + pause_after(claim.attempts),
        )
        log.info(
            "delivery tried",
            campaign_id=claim.campaign_id,
            kind=claim.kind,
            outcome=type(outcome).__name__.lower(),
            status_code=getattr(outcome, "status_code", None),
            attempts=claim.attempts,
        )
        return outcome

    async def _letter(self, claim: store.Claim, sent_at: datetime) -> Letter | None:
        """Write it in a transaction that ends before the server is asked; settle what cannot be."""
        envelope = self._envelope(claim, sent_at)
        letter = None
        async with self.units.begin() as uow:
            suppressed = await store.is_suppressed(uow.connection, claim.address_index, claim.kind)
            recipient = None if suppressed else await self._recipient(uow, claim)
            if recipient is not None:
                letter = await self.writers[claim.kind].letter(
                    uow.connection, claim.campaign_id, recipient, envelope
                )
        if letter is None:
            await store.settle_unsent(
                self.worker, claim, suppressed=suppressed, now=self.units.clock.now()
            )
        if letter is None and not suppressed:
            log.error(
                "delivery failed, its contact or its text cannot be read",
                campaign_id=claim.campaign_id,
            )
        return letter

    def _envelope(self, claim: store.Claim, sent_at: datetime) -> Envelope:
        context = self.units.context
        keyed_hash, about = context.keys.blind_index, (claim.address_index, claim.kind)
        named = message_id(keyed_hash, claim.campaign_id, claim.address_index, context.mail_domain)
        if not claim.kind.optional:
            return Envelope(named, sent_at)
        links = Links(keyed_hash, self.public_url)
        return Envelope(
            named,
            sent_at,
            Unsubscribing(
                claim.kind,
                links.unsubscribe_url(*about, claim.campaign_id),
                links.preferences_url(*about, claim.campaign_id),
            ),
        )

    async def _recipient(self, uow: UnitOfWork[Context], claim: store.Claim) -> Recipient | None:
        """Open the contact's seal."""
        tenant_id, keys = claim.tenant_id, uow.context.keys
        await uow.act_for(tenant_id)
        found = await people.contacts(uow.connection, tenant_id, only=claim.contact_id)
        if not found:
            return None
        [(sealed, standing)] = found
        tenant = await people.tenant(uow.connection, tenant_id)
        try:
            name = await keys.open(uow.connection, tenant_id, NAME, sealed.name)
            address = await keys.open(uow.connection, tenant_id, ADDRESS, sealed.address)
        except (KeyDestroyed, Undecipherable):
            return None
        return Recipient(
            name.decode(),
            address.decode(),
            tenant.addon_key if tenant else None,
            standing.language,
        )
