"""Sends what is due, and settles what has become too late."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import cycle, zip_longest
from typing import Any, Final, Generic, TypeAlias, TypeVar
from uuid import UUID, uuid4

import asyncpg
import structlog

from chassis.database import TRANSIENT_ERRORS, Connection, Pool
from chassis.housekeeping import ERASURE_PROOF_KEPT
from chassis.jobs import Job
from chassis.keys import TenantKeys, Undecipherable
from chassis.unit_of_work import UnitOfWork, Units
from services.notifier.clients import MailServer, MailSession
from services.notifier.context import Context
from services.notifier.domain.bounces import ReturnPaths
from services.notifier.domain.campaigns import Kind
from services.notifier.domain.deliveries import (
    DOMAIN_BURST,
    DOMAIN_PAUSE,
    PATIENCE,
    Deferred,
    NotTried,
    Outcome,
    Pace,
    Refused,
    Settled,
    Suppressed,
    Unknown,
    Unwritable,
    message_id,
    pause_after,
)
from services.notifier.domain.people import ADDRESS, NAME, Recipient, is_address
from services.notifier.domain.preferences import Links
from services.notifier.domain.suppressions import EVERYTHING, Reason
from services.notifier.figures import MailFigures
from services.notifier.letters.dkim import Signer
from services.notifier.letters.letter import Envelope, Letter, Unsubscribing
from services.notifier.letters.signing import SignAll, signing_process
from services.notifier.store import campaigns, domains, people
from services.notifier.store import deliveries as store
from services.notifier.store.suppressions import suppress as suppress_address

log = structlog.get_logger(__name__)

Told = TypeVar("Told")

# A run ends after so long and the job begins another: who stops the service waits no longer.
_RUN_SECONDS: Final = 10.0
# To announce a message, to hand it over, and to make ready for the next.
_STEPS_OF_A_MESSAGE: Final = 3
_MARGIN_SECONDS: Final = 5.0
_DATABASE_ASKED_AGAIN_SECONDS: Final = 0.2
# Two of them sign as fast as one interpreter writes and sends.
_SIGNING_PROCESSES: Final = 2
_BUSY_PAUSE: Final = timedelta(seconds=1)
_DOMAIN_FORGOTTEN_AFTER: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Writer(Generic[Told]):
    """How campaigns of one kind are put into words.

    ``read`` says what a campaign says, or None where that is not known any
    more; ``write`` says it to one person.
    """

    read: Callable[[Connection, UUID], Awaitable[Told | None]]
    write: Callable[[Told, Recipient, Envelope], Letter]


@dataclass(frozen=True, slots=True)
class _Ready:
    """A claimed delivery with all that it takes to write it."""

    claim: store.Claim
    recipient: Recipient
    domain_index: bytes
    told: Any


_Written: TypeAlias = "list[tuple[_Ready, Letter]]"


@dataclass(slots=True)
class _Chunk:
    """What one connection has claimed, and what became of it so far."""

    token: UUID = field(default_factory=uuid4)
    claimed_at: float = field(default_factory=time.monotonic)
    ready: list[_Ready] = field(default_factory=list)
    done: list[store.Done] = field(default_factory=list)
    broken: dict[UUID, Kind] = field(default_factory=dict)
    slowed: set[bytes] = field(default_factory=set)
    keys: TenantKeys | None = None
    being_sent: UUID | None = None

    @property
    def is_empty(self) -> bool:
        return not self.ready and not self.done

    def settle(self, claim: store.Claim, outcome: Settled, wall: datetime) -> None:
        again_at = (
            outcome.at if isinstance(outcome, NotTried) else wall + pause_after(claim.attempts)
        )
        self.done.append(store.Done(claim, outcome, again_at))

    def put_back_the_rest(self, at: datetime, on_its_way: UUID | None) -> None:
        """Leave untried what is left, in doubt what was being handed over."""
        settled = {each.claim.delivery_id for each in self.done}
        for item in self.ready:
            if item.claim.delivery_id not in settled:
                lost = item.claim.delivery_id == on_its_way
                self.settle(item.claim, Unknown() if lost else NotTried(at), at)


@dataclass(slots=True)
class _Run:
    """What the connections of one run tell each other, and who signs for them in turn."""

    ends_at: float
    signers: Iterator[SignAll] | None = None
    tried: int = 0
    accepted: Counter[Kind] = field(default_factory=Counter)
    server_is_away: bool = False
    told: dict[UUID, Any] = field(default_factory=dict)
    on_their_way: Counter[bytes] = field(default_factory=Counter)

    @property
    def is_over(self) -> bool:
        return self.server_is_away or time.monotonic() >= self.ends_at

    def begins(self, domain_index: bytes, most: int) -> bool:
        """Count a message as on its way, unless ``most`` to its domain are already."""
        if self.on_their_way[domain_index] >= most:
            return False
        self.on_their_way[domain_index] += 1
        return True

    def ends(self, domain_index: bytes) -> None:
        """Count a message as on its way no more."""
        self.on_their_way[domain_index] -= 1
        if not self.on_their_way[domain_index]:
            del self.on_their_way[domain_index]


class _Unreadable(Exception):  # noqa: N818 - reads as the fact it states
    """What a campaign says cannot be read, and the transaction is lost with it."""

    def __init__(self, campaign_id: UUID, kind: Kind) -> None:
        self.campaign_id = campaign_id
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Deliveries:
    """The job that sends what is due, on several connections, a chunk at a time on each.

    One transaction records what became of a chunk, claims the next one and reads what it takes to
    write it. So after a crash the messages of one chunk for each connection are uncertain.
    ``public_url`` is where anyone reaches us; the ``signer`` adds what proves by whom a message was
    sent, in processes of its own where there is much to sign; what cannot be delivered comes back to an address of its own in the ``bounce_domain``.
    """

    units: Units[Context]
    worker: Pool
    server: MailServer
    writers: Mapping[Kind, Writer[Any]]
    public_url: str
    pace: Pace = field(default_factory=Pace)
    signer: Signer | None = None
    bounce_domain: str | None = None
    figures: MailFigures = field(default_factory=MailFigures)

    def jobs(self) -> tuple[Job, ...]:
        """The jobs with their intervals."""
        return (
            Job("mail", timedelta(seconds=1), self.run),
            Job("watch mail", timedelta(seconds=15), self.watch),
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

    async def watch(self) -> None:
        """Show what is in doubt, and for how long the oldest message is due."""
        async with self.worker.acquire() as connection:
            self.figures.deliveries_uncertain.set(await campaigns.count_uncertain(connection))
            self.figures.oldest_due_seconds.set(
                await campaigns.age_of_oldest_due(connection, wall=self.units.clock.wall())
            )

    async def tidy(self) -> None:
        """Forget what receipts said, and which domains had their turn."""
        await store.drop_receipts(
            self.worker, noted_before=self.units.clock.now() - ERASURE_PROOF_KEPT
        )
        await domains.forget_domains(
            self.worker, idle_since=self.units.clock.wall() - _DOMAIN_FORGOTTEN_AFTER
        )

    @property
    def _message_seconds(self) -> float:
        """Longer than all the waiting that one message can cause."""
        return _STEPS_OF_A_MESSAGE * self.server.timeout_seconds + _MARGIN_SECONDS

    @property
    def _lease(self) -> timedelta:
        return timedelta(seconds=self._message_seconds + self.server.timeout_seconds)

    async def _send_all(self) -> int:
        run = _Run(time.monotonic() + _RUN_SECONDS)
        first = await self._turn(run, _Chunk())
        if first.is_empty:
            return 0
        full = len(first.ready) + len(first.done) == self.pace.chunk
        others = [_Chunk() for _ in range(self.pace.connections - 1)] if full else []
        async with AsyncExitStack() as processes:
            if self.signer is not None and full:
                started = [signing_process(self.signer.key_file) for _ in range(_SIGNING_PROCESSES)]
                run.signers = cycle([await processes.enter_async_context(each) for each in started])
            ends = await asyncio.gather(
                *(self._connection(run, chunk) for chunk in (first, *others)),
                return_exceptions=True,
            )
        for kind, number in run.accepted.items():
            log.info("deliveries accepted", kind=kind, deliveries=number)
        for end in ends:
            if end is not None:
                raise end
        return run.tried

    async def _connection(self, run: _Run, chunk: _Chunk) -> None:
        """Send chunk by chunk on one connection until nothing is due, or the run is over."""
        async with self.server.session() as session:
            if chunk.is_empty:
                chunk = await self._turn(run, chunk)
            while not chunk.is_empty:
                await self._send_chunk(run, session, chunk)
                chunk = await self._turn(run, chunk)

    async def _turn(self, run: _Run, chunk: _Chunk) -> _Chunk:
        """Record what became of a chunk and claim the next one, which is empty at the end.

        While the database is away what became of it is known to us alone: it is asked again for
        as long as the claims are ours.
        """
        claimed = _Chunk()
        gives_up_at = time.monotonic() + self._lease.total_seconds()
        again = False
        while True:
            try:
                async with self.units.begin() as uow:
                    if again:
                        await store.let_go(uow.connection, claimed.token)
                    await self._record(uow, chunk)
                    if not run.is_over:
                        await self._claim(uow, run, claimed)
            except _Unreadable as unreadable:
                await self._pause(unreadable.campaign_id, unreadable.kind)
            except TRANSIENT_ERRORS as failure:
                if time.monotonic() >= gives_up_at:
                    raise
                log.warning("mail waits for the database", error=type(failure).__name__)
                await asyncio.sleep(_DATABASE_ASKED_AGAIN_SECONDS)
            else:
                self._tell(run, chunk)
                return claimed
            again = True
            claimed = _Chunk(claimed.token)

    async def _record(self, uow: UnitOfWork[Context], chunk: _Chunk) -> None:
        if not chunk.done:
            return
        await store.record_outcomes(uow.connection, chunk.token, chunk.done, now=uow.now)
        for done in chunk.done:
            if isinstance(done.outcome, Refused) and done.outcome.nobody_is_there:
                await suppress_address(
                    uow, done.claim.address_index, scope=EVERYTHING, reason=Reason.BOUNCED
                )
        for domain_index in sorted(chunk.slowed):
            await domains.leave_alone(uow.connection, domain_index, until=uow.wall + DOMAIN_PAUSE)
        for campaign_id in chunk.broken:
            await campaigns.pause_campaign(uow.connection, campaign_id)

    async def _claim(self, uow: UnitOfWork[Context], run: _Run, chunk: _Chunk) -> None:
        """Claim what is due, and read whatever it takes to write it."""
        claims = await store.claim_due_deliveries(
            uow.connection, chunk.token, wall=uow.wall, lease=self._lease, limit=self.pace.chunk
        )
        stopped = await store.suppressed_among(
            uow.connection, {(claim.address_index, claim.kind) for claim in claims}
        )
        reached = []
        for claim in claims:
            if (claim.address_index, claim.kind) in stopped:
                chunk.settle(claim, Suppressed(), uow.wall)
            elif claim.tenant_id is None or claim.contact_id is None or claim.wrapped_key is None:
                chunk.settle(claim, Unwritable(), uow.wall)
            else:
                reached.append((claim, claim.tenant_id, claim.contact_id))
        if not reached:
            return
        chunk.keys = uow.context.keys.for_a_batch()
        await uow.act_for(*{tenant_id for _, tenant_id, _ in reached})
        sealed = await people.sealed_contacts(
            uow.connection, {(tenant_id, contact_id) for _, tenant_id, contact_id in reached}
        )
        told = await self._read(uow, run, chunk, [claim for claim, _, _ in reached])
        ready = []
        for claim, tenant_id, contact_id in reached:
            contact = sealed.get((tenant_id, contact_id))
            recipient = contact and _recipient(chunk.keys, claim, tenant_id, contact)
            if claim.campaign_id in chunk.broken:
                chunk.settle(claim, NotTried(uow.wall), uow.wall)
            elif not recipient or told[claim.campaign_id] is None:
                chunk.settle(claim, Unwritable(), uow.wall)
            else:
                domain = recipient.address.rpartition("@")[2].lower()
                index = chunk.keys.blind_index("mail-domain", domain)
                ready.append(_Ready(claim, recipient, index, told[claim.campaign_id]))
        await self._take_slots(uow, chunk, ready)

    async def _read(
        self, uow: UnitOfWork[Context], run: _Run, chunk: _Chunk, claims: list[store.Claim]
    ) -> dict[UUID, Any]:
        told = {}
        for campaign_id, kind in {claim.campaign_id: claim.kind for claim in claims}.items():
            if campaign_id in run.told:
                told[campaign_id] = run.told[campaign_id]
                continue
            try:
                told[campaign_id] = await self.writers[kind].read(uow.connection, campaign_id)
            except TRANSIENT_ERRORS:
                raise
            except asyncpg.PostgresError as failure:
                raise _Unreadable(campaign_id, kind) from failure
            except Exception as failure:  # noqa: BLE001 - whatever it is, only this campaign stops
                self._break(chunk, campaign_id, kind, failure)
            else:
                if kind.goes_to_all:
                    run.told[campaign_id] = told[campaign_id]
        return told

    async def _take_slots(
        self, uow: UnitOfWork[Context], chunk: _Chunk, ready: list[_Ready]
    ) -> None:
        """Put off what would be too much for its domain, each to a time of its own."""
        wanted = Counter(each.domain_index for each in ready if not each.claim.has_slot)
        if not wanted:
            chunk.ready = ready
            return
        interval = timedelta(seconds=1 / self.pace.domain_per_second)
        slots = await domains.reserve_slots(
            uow.connection, wanted, wall=uow.wall, interval=interval, burst=DOMAIN_BURST
        )
        for each in ready:
            if each.claim.has_slot:
                chunk.ready.append(each)
                continue
            slot = slots[each.domain_index]
            slots[each.domain_index] += interval
            if slot > uow.wall:
                chunk.settle(each.claim, NotTried(slot, has_slot=True), uow.wall)
            else:
                chunk.ready.append(each)

    async def _send_chunk(self, run: _Run, session: MailSession, chunk: _Chunk) -> None:
        wall = self.units.clock.wall()
        try:
            waiting = await self._signed(run, self._write(chunk, wall))
            busy = await self._send_in_turn(run, session, chunk, waiting)
            await self._send_in_turn(run, session, chunk, busy)
        except BaseException:
            run.server_is_away = True
            chunk.put_back_the_rest(wall, chunk.being_sent if session.handing_over else None)
            with suppress(*TRANSIENT_ERRORS):
                await asyncio.shield(self._turn(run, chunk))
            raise
        chunk.put_back_the_rest(wall + _BUSY_PAUSE if not run.server_is_away else wall, None)

    async def _send_in_turn(
        self, run: _Run, session: MailSession, chunk: _Chunk, waiting: _Written
    ) -> _Written:
        """Send what may go now; return those to whose domains enough is on its way already."""
        busy = []
        most = self.pace.domain_connections
        announced: _Ready | None = None
        try:
            for (item, letter), following in zip_longest(waiting, waiting[1:]):
                if run.server_is_away or not self._in_time(chunk):
                    break
                if item is not announced:
                    if item.domain_index in chunk.slowed:
                        continue
                    if not run.begins(item.domain_index, most):
                        busy.append((item, letter))
                        continue
                announced, next_letter = following or (None, None)
                # What becomes of this one may slow its domain down.
                if announced and (
                    announced.domain_index in {item.domain_index, *chunk.slowed}
                    or not run.begins(announced.domain_index, most)
                ):
                    announced, next_letter = None, None
                chunk.being_sent = item.claim.delivery_id
                try:
                    outcome = await session.send(letter, next_letter)
                finally:
                    run.ends(item.domain_index)
                self._settle(run, chunk, item, outcome)
        finally:
            if announced is not None:
                run.ends(announced.domain_index)
        return busy

    async def _signed(self, run: _Run, letters: _Written) -> _Written:
        if self.signer is None:
            return letters
        contents = [letter.content for _, letter in letters]
        if run.signers is not None:
            signed = await next(run.signers)(contents)
        else:
            sign = self.signer.sign
            signed = await asyncio.to_thread(lambda: [sign(each) for each in contents])
        return [
            (item, replace(letter, content=content))
            for (item, letter), content in zip(letters, signed, strict=True)
        ]

    def _in_time(self, chunk: _Chunk) -> bool:
        """Whether another message can be over before somebody else may take the claim."""
        age = time.monotonic() - chunk.claimed_at
        return age + self._message_seconds <= self._lease.total_seconds()

    def _settle(self, run: _Run, chunk: _Chunk, item: _Ready, outcome: Outcome) -> None:
        if isinstance(outcome, Deferred):
            # A server that is away would be for the others too.
            run.server_is_away |= outcome.status_code is None
            if outcome.by_the_domain:
                chunk.slowed.add(item.domain_index)
        chunk.settle(item.claim, outcome, self.units.clock.wall())

    def _write(self, chunk: _Chunk, sent_at: datetime) -> _Written:
        """Write all that is ready, but for campaigns that cannot be written."""
        keyed_hash = (chunk.keys or self.units.context.keys).blind_index
        written = []
        for item in chunk.ready:
            claim = item.claim
            if claim.campaign_id in chunk.broken:
                continue
            try:
                letter = self.writers[claim.kind].write(
                    item.told, item.recipient, self._envelope(keyed_hash, claim, sent_at)
                )
            except Exception as failure:  # noqa: BLE001 - whatever it is, only this campaign stops
                self._break(chunk, claim.campaign_id, claim.kind, failure)
                continue
            if self.bounce_domain is not None:
                paths = ReturnPaths(keyed_hash, self.bounce_domain)
                letter = replace(letter, sender=paths.of(claim.delivery_id))
            written.append((item, letter))
        # What one person's letter showed is true of the whole campaign.
        return [each for each in written if each[0].claim.campaign_id not in chunk.broken]

    def _envelope(
        self, keyed_hash: Callable[[str, bytes], bytes], claim: store.Claim, sent_at: datetime
    ) -> Envelope:
        about, domain = (claim.address_index, claim.kind), self.units.context.mail_domain
        named = message_id(keyed_hash, claim.campaign_id, claim.address_index, domain)
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

    def _break(self, chunk: _Chunk, campaign_id: UUID, kind: Kind, failure: Exception) -> None:
        """Stop a campaign that cannot be written; the error's own words may repeat a name."""
        chunk.broken[campaign_id] = kind
        self.figures.campaigns_broken_total.labels(kind.value).inc()
        log.error(
            "campaign paused, it cannot be written",
            campaign_id=campaign_id,
            kind=kind,
            error=type(failure).__name__,
        )

    async def _pause(self, campaign_id: UUID, kind: Kind) -> None:
        async with self.units.begin() as uow:
            await campaigns.pause_campaign(uow.connection, campaign_id)
        self._break(_Chunk(), campaign_id, kind, _Unreadable(campaign_id, kind))

    def _tell(self, run: _Run, chunk: _Chunk) -> None:
        """Count what became of a chunk, and say what did not go as it should."""
        tried = [each for each in chunk.done if not isinstance(each.outcome, NotTried)]
        run.tried += len(tried)
        counted = Counter((each.claim.kind, _word_for(each.outcome)) for each in tried)
        for (kind, word), number in counted.items():
            self.figures.deliveries_total.labels(kind.value, word).inc(number)
            if word == "accepted":
                run.accepted[kind] += number
        for each in tried:
            word = _word_for(each.outcome)
            if word != "accepted":
                log.log(
                    _LEVELS.get(word, _INFO),
                    _EVENTS.get(word, "delivery tried"),
                    campaign_id=each.claim.campaign_id,
                    kind=each.claim.kind,
                    outcome=word,
                    status_code=getattr(each.outcome, "status_code", None),
                    attempts=each.claim.attempts,
                )


def _recipient(
    keys: TenantKeys, claim: store.Claim, tenant_id: UUID, contact: people.SealedContact
) -> Recipient | None:
    """Open the contact's seal; None where that fails, or what was in it is no address."""
    assert claim.wrapped_key is not None
    assert claim.kek_id is not None
    try:
        key = keys.unwrapped_key(tenant_id, claim.wrapped_key, claim.kek_id)
        name = keys.open_with(key, tenant_id, NAME, contact.name).decode()
        address = keys.open_with(key, tenant_id, ADDRESS, contact.address).decode()
    except Undecipherable:
        return None
    if not is_address(address):
        return None
    return Recipient(name, address, claim.addon_key, claim.language, claim.is_technical)


_INFO, _WARNING, _ERROR = 20, 30, 40
_LEVELS: Final = {"unwritable": _ERROR, "refused-for-policy": _WARNING, "uncertain": _WARNING}
_EVENTS: Final = {"unwritable": "delivery failed, its contact or its text cannot be read"}


def _word_for(outcome: Settled) -> str:
    match outcome:
        case Refused(enhanced=enhanced):
            if outcome.nobody_is_there:
                return "bounced"
            return "refused-for-policy" if (enhanced or "").startswith("5.7.") else "refused"
        case Unknown():
            return "uncertain"
        case _:
            return type(outcome).__name__.lower()
