"""What notifier does by the clock: sends receipts and forgets what they said, and moves people."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final, assert_never
from uuid import UUID

import structlog

from chassis.database import Pool
from chassis.housekeeping import ERASURE_PROOF_KEPT
from chassis.jobs import Job
from chassis.keys import KeyDestroyed, Undecipherable
from chassis.unit_of_work import UnitOfWork, Units
from contracts.classes import DataClass
from services.notifier import store
from services.notifier.clients import MailServer, MailSession
from services.notifier.context import Context
from services.notifier.domain import (
    PATIENCE,
    Access,
    Deferred,
    Move,
    Outcome,
    Recipient,
    access_to_contacts,
    decide_move,
    pause_after,
)
from services.notifier.letters import Letters

log = structlog.get_logger(__name__)

NAME: Final = "contact.name"
ADDRESS: Final = "contact.address"
"""The purposes under which a contact is sealed."""

# Longer than all the waiting that one message can cause: three steps of 20 seconds.
_LEASE: Final = timedelta(seconds=75)


@dataclass(frozen=True, slots=True)
class ReceiptMail:
    """The job that sends receipts, one claim after another, on one connection."""

    units: Units[Context]
    worker: Pool
    server: MailServer
    letters: Letters

    def jobs(self) -> tuple[Job, ...]:
        """The jobs with their intervals."""
        return (
            Job("mail receipts", timedelta(seconds=1), self.run),
            Job("tidy receipts", timedelta(hours=1), self.tidy),
        )

    async def run(self) -> int:
        """Send what is due, settle what has become too late; return how many were tried.

        Business time may jump, so what can be sent now is sent before it is called late.
        """
        lost = await store.doubt_lost_attempts(self.worker, wall=self.units.clock.wall())
        if lost:
            log.warning("receipts uncertain, their worker went away", deliveries=lost)
        tried = await self._send_all()
        late = await store.give_up_late_deliveries(
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
        recipient = await self._recipient(claim)
        if recipient is None:
            await store.fail_unwritable(self.worker, claim)
            log.error("receipt failed, its contact cannot be read", purge_id=claim.purge_id)
            return None
        wall = self.units.clock.wall()
        letter = self.letters.receipt(
            recipient, claim.receipt, message_id=claim.message_id, sent_at=wall
        )
        outcome = await session.send(letter)
        await store.record_outcome(
            self.worker,
            claim,
            outcome,
            now=self.units.clock.now(),
            next_attempt_at=wall + pause_after(claim.attempts),
        )
        log.info(
            "receipt tried",
            purge_id=claim.purge_id,
            outcome=type(outcome).__name__.lower(),
            status_code=getattr(outcome, "status_code", None),
            attempts=claim.attempts,
        )
        return outcome

    async def _recipient(self, claim: store.Claim) -> Recipient | None:
        """Open the contact's seal, in a transaction that ends before the server is asked."""
        async with self.units.begin() as uow:
            await uow.act_for(claim.tenant_id)
            sealed = await store.contact(uow.connection, claim.tenant_id, claim.contact_id)
            tenant = await store.tenant(uow.connection, claim.tenant_id)
            if sealed is None:
                return None
            keys = uow.context.keys
            try:
                name = await keys.open(uow.connection, claim.tenant_id, NAME, sealed.name)
                address = await keys.open(uow.connection, claim.tenant_id, ADDRESS, sealed.address)
            except (KeyDestroyed, Undecipherable):
                return None
        return Recipient(name.decode(), address.decode(), tenant.addon_key if tenant else None)


@dataclass(frozen=True, slots=True)
class Moves:
    """The job that moves people to the tenant that goes on for theirs."""

    units: Units[Context]
    worker: Pool

    def jobs(self) -> tuple[Job, ...]:
        """The job with its interval."""
        return (Job("move people", timedelta(seconds=1), self.run),)

    async def run(self) -> int:
        """Move all who can move, and give up on those who never will; return how many settled.

        Nobody is written to: to those who move, nothing has ended.
        """
        settled = 0
        for purge_id in await store.open_moves(self.worker):
            async with self.units.begin() as uow:
                settled += await self._settle(uow, purge_id)
        return settled

    async def _settle(self, uow: UnitOfWork[Context], purge_id: UUID) -> bool:
        move = await store.lock_open_move(uow.connection, purge_id)
        if move is None:
            return False
        target = move.merged_into
        await uow.lock_tenants([target])
        erased = (await uow.erased_classes([target])).get(target, frozenset())
        access = access_to_contacts(await store.tenant(uow.connection, target), erased)
        decision = decide_move(access, uow.now - move.noted_at)
        match decision:
            case Move.NOW:
                moved = await _move_people(uow, move)
                log.info("people moved", purge_id=purge_id, people=moved)
            case Move.NEVER:
                if access is Access.GOING:
                    uow.count_suppressed("job", DataClass.CONTACTS)
                log.warning("people not moved but erased", purge_id=purge_id, tenant=access)
            case Move.LATER:
                return False
            case other:
                assert_never(other)
        await store.settle_move(uow.connection, purge_id, moved=decision is Move.NOW)
        return True


async def _move_people(uow: UnitOfWork[Context], move: store.OpenMove) -> int:
    """Seal each contact anew under the other tenant's key; one person is kept there once."""
    keys, source, target = uow.context.keys, move.tenant_id, move.merged_into
    await uow.act_for(source)
    people = await store.contacts_with_index(uow.connection, source)
    await uow.act_for(target)
    moved = 0
    for sealed, address_index in people:
        try:
            name = await keys.open(uow.connection, source, NAME, sealed.name)
            address = await keys.open(uow.connection, source, ADDRESS, sealed.address)
        except (KeyDestroyed, Undecipherable):
            log.error("contact not moved, it cannot be read", purge_id=move.purge_id)  # noqa: TRY400 - its frames say nothing
            continue
        anew = store.SealedContact(
            sealed.contact_id,
            await keys.seal(uow.connection, target, NAME, name, now=uow.now),
            await keys.seal(uow.connection, target, ADDRESS, address, now=uow.now),
        )
        await store.add_contact_unless_known(
            uow.connection, target, anew, address_index=address_index
        )
        moved += 1
    return moved
