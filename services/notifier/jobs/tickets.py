"""Erases the tickets of purges at the service desk, by the clock, and looks again before it says so."""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, TypeAlias, assert_never

import structlog

from chassis.database import Pool
from chassis.jobs import Job
from chassis.unit_of_work import Units
from connect.service_desk import (
    TO_ERASE_PEOPLE,
    TO_ERASE_TICKETS,
    Away,
    Erasure,
    NoAnswer,
    Refused,
    ServiceDesk,
    Ticket,
    TicketPage,
)
from services.notifier.clients import TicketDesk, TokenUnreadableError
from services.notifier.context import Context
from services.notifier.domain.deliveries import pause_after
from services.notifier.domain.tickets import (
    EVIDENCE_KEPT,
    FIRST_PAUSE_OF_DESK,
    HISTORY_STAYS,
    MOST_TICKETS_A_TURN,
    WhatGoes,
    history_stays,
)
from services.notifier.store import tickets as store
from services.notifier.store.tickets import TicketClaim

log = structlog.get_logger(__name__)

# A search is a call over the net, and most find nothing.
_AT_ONCE: Final = 4
# Longer than one call of the desk may take; it is renewed before each ticket.
_LEASE: Final = timedelta(minutes=3)

PERMISSIONS_MISSING: Final = "permissions are missing"
TICKETS_STAY: Final = "tickets stay"
TOKEN_UNREADABLE: Final = "the token cannot be read"  # noqa: S105 - says what is wrong with one


@dataclass(frozen=True, slots=True)
class _Seen:
    """A whole search: how many of the tickets had to be erased, how many are another's too."""

    erased: int
    left: int


class _TurnOver:
    """So many were erased that others have their turn."""


class _TakenOver:
    """Another worker, or a person, has the tickets in hand."""


@dataclass(frozen=True, slots=True)
class _InTheWay:
    """The desk could not be asked, or did not do it."""

    trouble: str
    retry_after: timedelta | None = None
    for_everybody: bool = True


_Turn: TypeAlias = _Seen | _TurnOver | _TakenOver | _InTheWay


@dataclass(frozen=True, slots=True)
class TicketErasures:
    """The job that erases tickets, a few purges at a time; a desk that is away only delays it."""

    units: Units[Context]
    worker: Pool
    desk: TicketDesk
    what_goes: WhatGoes

    def jobs(self) -> tuple[Job, ...]:
        """The job with its interval."""
        return (Job("erase tickets", timedelta(seconds=1), self.run),)

    async def run(self) -> int:
        """Erase the tickets of all purges that are due; return how many have none left."""
        claim = await self._claim()
        if claim is None:
            return 0
        try:
            async with self.desk.session() as desk:
                return await self._take_turns(desk, claim)
        except TokenUnreadableError:
            return await self._settle(claim, _InTheWay(TOKEN_UNREADABLE))

    async def _take_turns(self, desk: ServiceDesk, first: TicketClaim) -> int:
        """Find out with one purge whether the desk can be asked, then go on with several at once."""
        turn = await self._take_turn(desk, first)
        finished = int(await self._settle(first, turn))
        if not _ends_all(turn):
            finished += sum(await asyncio.gather(*(self._go_on(desk) for _ in range(_AT_ONCE))))
        return finished

    async def _go_on(self, desk: ServiceDesk) -> int:
        finished = 0
        while (claim := await self._claim()) is not None:
            turn = await self._take_turn(desk, claim)
            finished += await self._settle(claim, turn)
            if _ends_all(turn):
                break
        return finished

    async def _claim(self) -> TicketClaim | None:
        return await store.claim_ticket_erasure(
            self.worker, wall=self.units.clock.wall(), lease=_LEASE
        )

    async def _take_turn(self, desk: ServiceDesk, claim: TicketClaim) -> _Turn:
        """Erase what a search finds, and search again: only one that finds nothing is an end."""
        needed = TO_ERASE_TICKETS if self.what_goes is WhatGoes.TICKET else TO_ERASE_PEOPLE
        missing = await desk.missing_permissions(needed)
        if not isinstance(missing, frozenset):
            return _in_the_way(missing)
        if missing:
            log.error("service desk withholds permissions", missing=sorted(missing))
            return _InTheWay(PERMISSIONS_MISSING)
        seen = await self._erase_found(desk, claim)
        if isinstance(seen, _Seen) and seen.erased:
            seen = await self._erase_found(desk, claim)
            if isinstance(seen, _Seen) and seen.erased:
                return _InTheWay(TICKETS_STAY, for_everybody=False)
        return seen

    async def _erase_found(self, desk: ServiceDesk, claim: TicketClaim) -> _Turn:
        """Search to the end; a ticket that the desk refuses to erase keeps no other one there."""
        erased, left, refused = 0, set[str](), None
        async with aclosing(_search(desk, claim.licence_numbers)) as search:
            async for found in search:
                if isinstance(found, _InTheWay):
                    return found
                outcome = await self._erase_ticket(desk, claim, found)
                match outcome:
                    case None:
                        left.add(found.ticket_id)
                    case Refused():
                        refused = outcome
                    case Away():
                        return _in_the_way(outcome)
                    case _TakenOver():
                        return outcome
                    case _:
                        erased += outcome is Erasure.ERASED
                if erased >= MOST_TICKETS_A_TURN:
                    return _TurnOver()
        return _Seen(erased, len(left)) if refused is None else _in_the_way(refused)

    async def _erase_ticket(
        self, desk: ServiceDesk, claim: TicketClaim, ticket: Ticket
    ) -> Erasure | NoAnswer | _TakenOver | None:
        """Erase one ticket; None where it is about another tenant's licence too, who keeps it."""
        if await store.is_held_by_others(self.worker, claim.tenant_id, ticket.licence_numbers):
            return None
        until = self.units.clock.wall() + _LEASE
        if not await store.note_ticket(self.worker, claim, ticket.ticket_id, claimed_until=until):
            return _TakenOver()
        erase = desk.erase_ticket if self.what_goes is WhatGoes.TICKET else desk.erase_people
        return await erase(ticket.ticket_id)

    async def _settle(self, claim: TicketClaim, turn: _Turn) -> bool:
        match turn:
            case _Seen(_, left):
                return await self._finish(claim, left)
            case _TurnOver():
                await store.postpone_ticket_erasure(
                    self.worker, claim, trouble=None, next_attempt_at=self.units.clock.wall()
                )
            case _InTheWay(trouble, retry_after):
                pause = pause_after(claim.attempts, first=FIRST_PAUSE_OF_DESK)
                if retry_after is not None:
                    pause = max(pause, retry_after)
                await store.postpone_ticket_erasure(
                    self.worker,
                    claim,
                    trouble=trouble,
                    next_attempt_at=self.units.clock.wall() + pause,
                )
                log.warning(
                    "tickets not erased yet",
                    purge_id=str(claim.purge_id),
                    trouble=trouble,
                    attempts=claim.attempts,
                )
            case _TakenOver():
                pass
            case other:
                assert_never(other)
        return False

    async def _finish(self, claim: TicketClaim, left: int) -> bool:
        tickets = await store.count_tickets(self.worker, claim.tenant_id)
        if history_stays(self.what_goes, tickets):
            if await store.hand_over_ticket_erasure(
                self.worker, claim, why=HISTORY_STAYS, tickets_left=left
            ):
                log.warning(
                    "tickets wait for a person", purge_id=str(claim.purge_id), why=HISTORY_STAYS
                )
            return False
        finished = await store.finish_ticket_erasure(
            self.worker, claim, tickets_left=left, now=self.units.clock.now()
        )
        if finished:
            log.info("tickets erased", purge_id=str(claim.purge_id), tickets=tickets, left=left)
        return finished


@dataclass(frozen=True, slots=True)
class TicketEvidence:
    """The job that forgets what was said about erased tickets, long after."""

    units: Units[Context]
    worker: Pool

    def jobs(self) -> tuple[Job, ...]:
        """The job with its interval."""
        return (Job("tidy ticket erasures", timedelta(hours=1), self.run),)

    async def run(self) -> None:
        """Forget them."""
        await store.drop_ticket_erasures(
            self.worker, done_before=self.units.clock.now() - EVIDENCE_KEPT
        )


def _ends_all(turn: _Turn) -> bool:
    return isinstance(turn, _InTheWay) and turn.for_everybody


async def _search(
    desk: ServiceDesk, licence_numbers: Iterable[str]
) -> AsyncGenerator[Ticket | _InTheWay, None]:
    """Give all tickets of these licences, or why there may be more."""
    for number in licence_numbers:
        page: str | None = None
        while True:
            found = await desk.find(number, page)
            if not isinstance(found, TicketPage):
                yield _in_the_way(found)
                return
            for ticket in found.tickets:
                yield ticket
            page = found.next_page
            if page is None:
                break


def _in_the_way(answer: NoAnswer) -> _InTheWay:
    match answer:
        case Away(trouble, retry_after):
            return _InTheWay(trouble.value, retry_after)
        case Refused(status):
            return _InTheWay(f"refused with status {status}", for_everybody=False)
        case other:
            assert_never(other)
