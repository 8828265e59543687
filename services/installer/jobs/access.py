"""Asks each customer's site once a day whether it still lets us in, and notes who has left."""

import asyncio
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, assert_never
from uuid import UUID, uuid4

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from chassis.jobs import Job
from chassis.keys import Undecipherable
from chassis.metrics import NAMESPACE
from chassis.unit_of_work import UnitOfWork, Units
from connect.product import Access, Lost, Reached, Throttled, Unclear
from contracts.classes import DataClass
from contracts.tenants import DepartureKind
from services.installer.clients import Sites
from services.installer.domain import access as domain
from services.installer.domain import tenants as domain_of_tenants
from services.installer.domain.access import Answer, Leave
from services.installer.domain.aliases import Alias, AliasKind
from services.installer.domain.timelines import Entry
from services.installer.door import SECRET, Door, lock_living, show_life
from services.installer.store import access as store
from services.installer.store import aliases, timelines
from services.installer.store import tenants as store_of_tenants
from services.installer.store.access import Claim, Outcome
from services.installer.subscriptions import renew_subscriptions

log = structlog.get_logger(__name__)

_ADOPTED_TOGETHER: Final = 5_000
SITES_EACH: Final = 8
"""How many sites each of the calls at once finds in a claim, so that they end about together."""
_LOST_A_PAGE: Final = 200


class AccessFigures:
    """What is counted of sites and holds; no label names a tenant or a host."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.sites_asked_total = Counter(
            "sites_asked",
            "Customers' sites that were asked for access, by what they answered.",
            ("answer",),
            namespace=NAMESPACE,
            registry=registry,
        )
        self.access_holds = Gauge(
            "access_holds",
            "Whether departures of an app are held back, as too many tenants were lost at once.",
            ("addon_key",),
            namespace=NAMESPACE,
            registry=registry,
        )


@dataclass(frozen=True, slots=True)
class _Heard:
    """One site's answer, and what else was learnt from it."""

    claim: Claim
    outcome: Outcome
    cloud_id: str | None = field(default=None, repr=False)

    @property
    def tells_of_subscription(self) -> bool:
        """Whether the site's word on its licence is another than before, or counts again."""
        if self.outcome.answer is not Answer.SEEN:
            return False
        return self.claim.is_lost or self.outcome.licence_active is not self.claim.licence_active

    @property
    def is_news(self) -> bool:
        """Whether more hangs on it than when the site is asked next."""
        return self.tells_of_subscription or self.cloud_id is not None


@dataclass(frozen=True, slots=True)
class AccessJobs:
    """The jobs of access; in each replica ``at_once`` sites are asked at a time.

    ``lease`` bounds how long a worker that died keeps its sites from being
    asked; it is longer than a claim takes when each site lets us wait.
    """

    units: Units[Door]
    sites: Sites
    figures: AccessFigures
    at_once: int
    lease: timedelta

    def jobs(self) -> tuple[Job, ...]:
        """The jobs with their intervals."""
        return (
            Job("ask sites", timedelta(minutes=5), self.ask),
            Job("note lost access", timedelta(minutes=15), self.note_losses),
        )

    async def ask(self) -> int:
        """Ask every site that is due, and return how many that were.

        Replicas share the work, a claim at a time, and no more than a claim is
        held in memory. What is cut off is asked again when its lease is over.
        """
        pool, now = self.units.pool, self.units.clock.now()
        while await store.adopt_tenants(pool, now=now, limit=_ADOPTED_TOGETHER):
            pass
        await store.put_off_others(pool, now=now)
        asked = 0
        while claims := await self._claim(token := uuid4()):
            await self._record(token, await self._ask_all(claims))
            asked += len(claims)
        return asked

    async def note_losses(self) -> int:
        """Let those leave whose sites refused us for days, and return how many did.

        Before that, each app is held of which too many were lost of late.
        """
        await self._hold()
        left, after = 0, None
        while page := await store.lost_tenants(self.units.pool, after=after, limit=_LOST_A_PAGE):
            for lost in page:
                if isinstance(domain.decide_departure(lost.standing), Leave):
                    left += await self._leave(lost.tenant_id)
            after = page[-1].tenant_id
        return left

    async def _claim(self, token: UUID) -> list[Claim]:
        clock = self.units.clock
        return await store.claim_due_checks(
            self.units.pool,
            token,
            now=clock.now(),
            wall=clock.wall(),
            lease=self.lease,
            limit=self.at_once * SITES_EACH,
        )

    async def _ask_all(self, claims: Sequence[Claim]) -> list[_Heard]:
        waiting, heard = iter(claims), list[_Heard]()

        async def ask_on() -> None:
            for claim in waiting:
                heard.append(await self._ask(claim))

        async with asyncio.TaskGroup() as asking:
            for _ in range(min(self.at_once, len(claims))):
                asking.create_task(ask_on())
        return heard

    async def _ask(self, claim: Claim) -> _Heard:
        secret = self._secret(claim)
        if secret is None:
            log.warning("site not asked, its secret cannot be read", tenant_id=claim.tenant_id)
            return _Heard(claim, self._outcome(claim, Answer.UNCLEAR))
        access = await self.sites.licence(claim.base_url, claim.addon_key, secret)
        heard = self._understand(claim, access)
        if heard.answer is Answer.SEEN and not claim.has_cloud_id:
            return _Heard(claim, heard, await self.sites.cloud_id(claim.base_url))
        return _Heard(claim, heard)

    def _secret(self, claim: Claim) -> str | None:
        """Open a secret for the one call that it signs; None once its key is destroyed."""
        if claim.wrapped_key is None or claim.kek_id is None:
            return None
        keys, tenant_id = self.units.context.keys, claim.tenant_id
        try:
            plain_key = keys.unwrapped_key(tenant_id, claim.wrapped_key, claim.kek_id)
            return keys.open_with(plain_key, tenant_id, SECRET, claim.shared_secret).decode()
        except Undecipherable:
            return None

    def _understand(self, claim: Claim, access: Access) -> Outcome:
        match access:
            case Reached(licence=licence):
                active = licence.active if licence is not None else None
                return self._outcome(claim, Answer.SEEN, licence_active=active)
            case Lost():
                return self._outcome(claim, Answer.LOST)
            case Unclear():
                return self._outcome(claim, Answer.UNCLEAR)
            case Throttled(retry_after=wait):
                return self._outcome(claim, Answer.UNCLEAR, wait=wait)
            case other:
                assert_never(other)

    def _outcome(
        self,
        claim: Claim,
        answer: Answer,
        *,
        licence_active: bool | None = None,
        wait: timedelta = timedelta(),
    ) -> Outcome:
        self.figures.sites_asked_total.labels(answer).inc()
        due_at = domain.ask_again_at(
            answer,
            now=self.units.clock.now(),
            jitter=random.random(),  # noqa: S311 - spreads load, guards nothing
            wait=wait,
        )
        return Outcome(claim.tenant_id, answer, due_at, licence_active)

    async def _record(self, token: UUID, heard: Sequence[_Heard]) -> None:
        """Write down what was heard; only what is news needs the tenants' locks."""
        quiet = [each.outcome for each in heard if not each.is_news]
        if quiet:
            await store.record_outcomes(self.units.pool, token, quiet, now=self.units.clock.now())
        news = {each.outcome.tenant_id: each for each in heard if each.is_news}
        if news:
            async with self.units.begin() as uow:
                await self._record_news(uow, token, news)

    async def _record_news(
        self, uow: UnitOfWork[Door], token: UUID, news: dict[UUID, _Heard]
    ) -> None:
        await uow.lock_tenants(news)
        erased = await uow.erased_classes(news)
        going = {each for each in news if DataClass.INSTALLATION in erased.get(each, ())}
        uow.count_suppressed("job", DataClass.INSTALLATION, len(going))
        living = [
            tenant_id
            for tenant_id in await store.lock_all_living(uow.connection, news)
            if tenant_id not in going
        ]
        outcomes = [news[tenant_id].outcome for tenant_id in living]
        recorded = await store.record_outcomes(uow.connection, token, outcomes, now=uow.now)
        heard = [news[tenant_id] for tenant_id in sorted(recorded)]
        await self._revive(uow, recorded)
        await self._keep_cloud_ids(uow, heard)
        told = [each.claim.tenant_id for each in heard if each.tells_of_subscription]
        if told:
            await renew_subscriptions(uow, told)

    async def _revive(self, uow: UnitOfWork[Door], tenant_ids: Collection[UUID]) -> None:
        """Take back that tenants left, whose sites were only thought to be gone."""
        for tenant_id in await store.departed_without_access(uow.connection, tenant_ids):
            tenant = await store_of_tenants.lock_tenant(uow.connection, tenant_id)
            assert tenant is not None
            await show_life(uow, tenant)

    async def _keep_cloud_ids(self, uow: UnitOfWork[Door], heard: Collection[_Heard]) -> None:
        """Keep what sites say they are called, except where another tenant is called so."""
        for each in heard:
            if each.cloud_id is None:
                continue
            alias = Alias(AliasKind.CLOUD_ID, each.claim.addon_key, each.cloud_id)
            if not await aliases.add_alias(
                uow.connection, each.claim.tenant_id, alias, now=uow.now
            ):
                log.info("cloud id is another tenant's", tenant_id=each.claim.tenant_id)

    async def _hold(self) -> None:
        pool, clock = self.units.pool, self.units.clock
        counts = await store.count_losses(pool, now=clock.now())
        for count in counts:
            if not domain.is_mass_loss(count.lost, count.asked):
                continue
            if await store.open_hold(pool, count, now=clock.now(), wall=clock.wall()):
                log.error(
                    "departures held, too many tenants lost",
                    addon_key=count.addon_key,
                    lost=count.lost,
                    asked=count.asked,
                )
        held = {hold.addon_key for hold in await store.open_holds(pool)}
        for addon_key in held | {count.addon_key for count in counts}:
            self.figures.access_holds.labels(addon_key).set(addon_key in held)

    async def _leave(self, tenant_id: UUID) -> bool:
        """Let a tenant leave, if under its lock that is still what its losses mean."""
        async with self.units.begin() as uow:
            tenant = await lock_living(uow, tenant_id, where="job")
            lost = await store.lost_tenant(uow.connection, tenant_id)
            if tenant is None or lost is None:
                return False
            decision = domain.decide_departure(lost.standing)
            if not isinstance(decision, Leave):
                return False
            said = domain_of_tenants.leave(
                tenant, DepartureKind.ACCESS_LOST, epoch=await uow.epoch(), at=decision.at
            )
            assert said is not None
            await store_of_tenants.record_state(uow, said, "tenant-uninstalled")
            await timelines.add_entry(uow.connection, tenant_id, Entry.ACCESS_LOST, now=uow.now)
            # What its site said of the licence counts no more.
            await renew_subscriptions(uow, [tenant_id])
            log.info("tenant left", tenant_id=tenant_id, how=DepartureKind.ACCESS_LOST)
            return True
