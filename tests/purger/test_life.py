"""Tenants' whole lives, with all that may go wrong on the way, against what a customer may expect."""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from random import Random
from typing import Final, TypeAlias, TypeVar
from uuid import UUID, uuid5

import pytest
from dateutil.relativedelta import relativedelta
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from contracts.classes import TENANT_CLASSES, DataClass
from contracts.ledger import EntryKind, verify_chain
from contracts.purges import (
    ErasureAsked,
    ErasureWithdrawn,
    Phase,
    PurgeRequested,
    PurgeStarted,
    Scope,
)
from contracts.tenants import (
    ClassState,
    DepartureKind,
    Platform,
    SubscriptionStatus,
    TenantState,
    TenantStatus,
)
from services.installer.domain import tenants as rules_of_installer
from services.installer.domain.licences import ACTIVE, Licence, LicenceName, close_into
from services.installer.domain.tenants import Installation
from tests.purger.builders import CREATED_AT, DAY
from tests.purger.stage import (
    KEY,
    RETENTION,
    SILENCE,
    Access,
    Channel,
    Installer,
    Owners,
    Purger,
    Spoken,
    Stage,
)

APP: Final = "com.example.app"
SITE: Final = Installation(
    addon_key=APP,
    product_type="jira",
    client_key="a-client-key",
    base_url="https://example.atlassian.net",
    service_entitlement_number=None,
    shared_secret="secret",
    oauth_client_id=None,
)
NAMES: Final = UUID("9d5c9a52-6d67-5b4e-9a49-0b3b5c1f3f11")
COPIES: Final = 12
COPIES_KEPT: Final = 14 * DAY
MOST_TENANTS: Final = 3
OUTAGES: Final = 6 * DAY
"""For so long in all nothing may move; the run margin has to pay for it."""

SLACK: Final = OUTAGES + 8 * DAY
"""What is due when we hear of it is gone this much later: outages, and days in which sites are asked."""

SHORTEST_WAIT: Final = 150 * DAY
"""Who leaves, or stops paying, has at least this long to come back."""

C = TypeVar("C")
Copy: TypeAlias = tuple[datetime, C, tuple[tuple[int, ...], int]]
"""When a copy of a database was made, the copy, and how far it had read."""

PEOPLE: Final = frozenset(Scope.PEOPLE.classes)


def six_months_after(instant: datetime) -> datetime:
    """The last moment of the promise, by a rule of its own: from the earliest date on earth."""
    day: date = (instant - timedelta(hours=12)).date() + relativedelta(months=6)
    return datetime.combine(day, time(), UTC)


@dataclass
class Facts:
    """What a person who watches one tenant knows of it; no rule of ours is asked."""

    created_at: datetime
    licence: Licence | None = None
    left_at: datetime | None = None
    ended_at: datetime | None = None
    forge_since: datetime | None = None
    merged_at: datetime | None = None
    asked: list[UUID] = field(default_factory=list)
    wishes: dict[UUID, datetime] = field(default_factory=dict)
    withdrawn: set[UUID] = field(default_factory=set)
    withdrawn_late: set[UUID] = field(default_factory=set)
    holds: dict[UUID, DataClass] = field(default_factory=dict)
    due: dict[DataClass, tuple[datetime | None, datetime]] = field(default_factory=dict)
    taken: set[DataClass] = field(default_factory=set)
    erased: set[DataClass] = field(default_factory=set)

    @property
    def pays(self) -> bool:
        return self.licence is not None and self.licence.status == ACTIVE

    @property
    def wished_at(self) -> datetime | None:
        return min(self.wishes.values(), default=None)

    def must_be_gone(self, data_class: DataClass) -> datetime | None:
        """The last moment at which a class may still be here; None where it may stay."""
        if data_class in self.holds.values():
            return None
        clocks = [each for each in (self.left_at, self.ended_at, self.merged_at) if each]
        if data_class in PEOPLE and self.merged_at is None:
            if self.pays:
                clocks = []
            elif self.ended_at:
                clocks = [self.ended_at]
        found = [six_months_after(min(clocks)) - RETENTION.residue] if clocks else []
        if self.wished_at and self.merged_at is None:
            found.append(self.wished_at + 21 * DAY)
        if data_class is DataClass.CONTENT and self.forge_since and self.merged_at is None:
            found.append(self.forge_since + 74 * DAY)
        return min(found, default=None)

    def may_be_taken(self, data_class: DataClass, now: datetime) -> bool:
        """Whether a person would say that now is not too early, and that there is a reason."""
        if data_class in self.holds.values():
            return False
        if self.merged_at is not None:
            return True
        if self.wished_at and now >= self.wished_at + 7 * DAY:
            return True
        is_content = data_class is DataClass.CONTENT
        if is_content and self.forge_since and now >= self.forge_since + 60 * DAY:
            return True
        clocks = [each for each in (self.left_at, self.ended_at) if each]
        if data_class in PEOPLE:
            clocks = [] if self.pays else [self.ended_at] if self.ended_at else clocks
        return bool(clocks) and now >= min(clocks) + SHORTEST_WAIT


@dataclass
class Site:
    """A customer's site: which tenant it is, and whether it lets us in."""

    tenant_id: UUID
    answers: bool = True
    silent_since: datetime | None = None
    silent_in_epoch: int = 0


class TenantsLives(RuleBasedStateMachine):
    """Installs, leaves, pays, comes back, while messages overtake each other and services die."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = Stage(CREATED_AT)
        self.installer = Installer(self.stage)
        self.purger = Purger(self.stage)
        self.owners = Owners(self.stage)
        self.facts: dict[UUID, Facts] = {}
        self.accepted: dict[UUID, tuple[UUID, frozenset[DataClass]]] = {}
        self.names = 0
        self.outage = timedelta()
        self.copies_of_installer: list[Copy[Installer]] = []
        self.copies_of_purger: list[Copy[Purger]] = []
        self.site = Site(self.begin_tenant())
        self.copy_databases()

    @initialize(is_heard=st.booleans(), pays=st.booleans())
    def begin(self, is_heard: bool, pays: bool) -> None:
        if pays:
            self.subscribe_or_renew()
        if is_heard:
            self.settle(Random(0))

    @property
    def now(self) -> datetime:
        return self.stage.now

    @property
    def tenant(self) -> TenantState | None:
        """The tenant of the site, as long as it can be called by its name."""
        return self.installer.living(self.site.tenant_id)

    @property
    def known(self) -> Facts:
        return self.facts[self.site.tenant_id]

    def name(self) -> UUID:
        self.names += 1
        return uuid5(NAMES, str(self.names))

    def begin_tenant(self) -> UUID:
        tenant_id = self.name()
        said = rules_of_installer.new_tenant(
            tenant_id, SITE, epoch=self.installer.epoch, now=self.now
        )
        self.installer.installations.add(tenant_id)
        self.installer.accesses[tenant_id] = Access(self.now)
        self.installer.record(said)
        self.facts[tenant_id] = Facts(self.now)
        return tenant_id

    def is_there(self) -> bool:
        return self.tenant is not None

    def is_installed(self) -> bool:
        return self.tenant is not None and self.tenant.status is TenantStatus.INSTALLED

    def licence_counts(self) -> bool:
        tenant = self.installer.tenants.get(self.site.tenant_id)
        is_live = tenant is not None and ClassState.LIVE in tenant.classes.values()
        return is_live and tenant is not None and tenant.merged_into is None

    # -- what customers do ----------------------------------------------------------------------

    @precondition(is_there)
    @rule()
    def uninstall(self) -> None:
        tenant = self.tenant
        assert tenant is not None
        self.installer.record(
            rules_of_installer.leave(
                tenant, DepartureKind.UNINSTALLED, epoch=self.installer.epoch, at=self.now
            )
        )
        self.known.left_at = self.known.left_at or self.now

    @precondition(lambda self: self.is_there() or len(self.facts) < MOST_TENANTS)
    @rule()
    def install_again(self) -> None:
        """Who comes back in time is who it was; who comes too late is somebody new."""
        tenant = self.tenant
        self.site.answers, self.site.silent_since = True, None
        if tenant is None:
            self.begin_anew()
            return
        heard = rules_of_installer.hear_installed(
            tenant, SITE, SITE, epoch=self.installer.epoch, now=self.now
        )
        self.installer.record(heard.said)
        self.installer.accesses[tenant.tenant_id] = Access(self.now)
        self.known.left_at = self.known.merged_at = self.known.forge_since = None

    def begin_anew(self) -> None:
        old_id, new_id = self.site.tenant_id, self.begin_tenant()
        self.site.tenant_id = new_id
        old, tenant = self.facts[old_id], self.installer.tenants.get(old_id)
        if old.licence is None:
            return
        self.known.licence, old.licence = old.licence, None
        self.installer.hear_report(new_id, self.known.licence)
        self.note_end(self.known)
        said = (
            close_into(tenant, new_id, epoch=self.installer.epoch, now=self.now) if tenant else None
        )
        if said is not None:
            self.installer.record(said)
            old.merged_at = self.now
            old.left_at = old.left_at or self.now
        else:
            self.installer.hear_report(old_id, None)

    @precondition(is_there)
    @rule()
    def move_to_the_other_platform(self) -> None:
        tenant, epoch = self.tenant, self.installer.epoch
        assert tenant is not None
        if tenant.platform is Platform.FORGE:
            said = rules_of_installer.move_to_connect(tenant, epoch=epoch, now=self.now)
            self.known.forge_since = None
        else:
            said = rules_of_installer.move_to_forge(tenant, epoch=epoch, now=self.now)
            self.known.forge_since = self.now
            self.known.left_at = self.known.merged_at = None
        self.installer.record(said)

    @precondition(lambda self: self.is_installed() and self.site.answers)
    @rule()
    def access_is_lost(self) -> None:
        self.ask_site()
        self.site.answers, self.site.silent_since = False, self.now
        self.site.silent_in_epoch = self.installer.epoch

    @precondition(lambda self: not self.site.answers)
    @rule()
    def access_is_back(self) -> None:
        self.site.answers, self.site.silent_since = True, None
        self.ask_site()

    @precondition(lambda self: self.licence_counts() and not self.known.pays)
    @rule()
    def subscribe_or_renew(self) -> None:
        self.known.licence = a_licence(ACTIVE, ends_on=None, updated_on=self.now.date())
        self.known.ended_at = None
        self.installer.hear_report(self.site.tenant_id, self.known.licence)

    @precondition(lambda self: self.licence_counts() and self.known.pays)
    @rule(heard_late=st.integers(min_value=0, max_value=10))
    def the_subscription_ends(self, heard_late: int) -> None:
        ends_on = (self.now - heard_late * DAY).date()
        self.known.licence = a_licence("inactive", ends_on=ends_on, updated_on=self.now.date())
        self.installer.hear_report(self.site.tenant_id, self.known.licence)
        self.note_end(self.known)

    def note_end(self, facts: Facts) -> None:
        if facts.licence is not None and facts.licence.ends_on is not None:
            noon = datetime.combine(facts.licence.ends_on, time(12), UTC)
            facts.ended_at = max(min(noon, self.now), facts.created_at)

    @precondition(licence_counts)
    @rule()
    def the_licence_vanishes_from_the_report(self) -> None:
        self.known.licence = None
        self.installer.hear_report(self.site.tenant_id, None)

    @precondition(
        lambda self: (
            self.tenant is not None
            and self.tenant.status is TenantStatus.UNINSTALLED
            and self.tenant.merged_into is None
            and rules_of_installer.all_live(self.tenant)
        )
    )
    @rule(seldom=st.integers(0, 2))
    def another_tenant_goes_on_for_it(self, seldom: int) -> None:
        if seldom:
            return
        tenant = self.tenant
        assert tenant is not None
        self.installer.record(
            rules_of_installer.merge_into(
                tenant, self.name(), epoch=self.installer.epoch, now=self.now
            )
        )
        self.known.licence, self.known.merged_at = None, self.now

    @rule(again=st.booleans(), seldom=st.integers(0, 2))
    def ask_for_erasure_or_withdraw_that(self, again: bool, seldom: int) -> None:
        """It takes back what it asked for last, or asks; ``again`` it asks although it has asked."""
        if seldom and not self.known.asked:
            return
        tenant_id = self.site.tenant_id
        if self.known.asked and not again:
            wish_id = self.known.asked.pop()
            said: Spoken = ErasureWithdrawn(
                wish_id=wish_id, tenant_id=tenant_id, withdrawn_at=self.now
            )
        else:
            wish_id = self.name()
            self.known.asked.append(wish_id)
            said = ErasureAsked(wish_id=wish_id, tenant_id=tenant_id, asked_at=self.now)
        self.stage.tell_purger(said)

    # -- what we do -----------------------------------------------------------------------------------

    @precondition(lambda self: self.site.tenant_id in self.purger.tenants)
    @rule(data_class=st.sampled_from(TENANT_CLASSES))
    def place_a_hold(self, data_class: DataClass) -> None:
        hold_id, tenant_id = self.name(), self.site.tenant_id
        if self.purger.hold(hold_id, tenant_id, data_class):
            self.known.holds[hold_id] = data_class

    @precondition(lambda self: any(each.holds for each in self.facts.values()))
    @rule(data=st.data())
    def release_a_hold(self, data: st.DataObject) -> None:
        holds = [(facts, hold_id) for facts in self.facts.values() for hold_id in facts.holds]
        facts, hold_id = data.draw(st.sampled_from(holds))
        del facts.holds[hold_id]
        self.purger.release(hold_id)

    # -- what time does ---------------------------------------------------------------------------------

    @rule(days=st.sampled_from([1, 8, 20, 61, 61, 100, 153]), seed=st.integers(0, 999))
    def time_passes(self, days: int, seed: int) -> None:
        """Days in which everything arrives, at the latest when something is due."""
        self.pass_until(self.now + days * DAY, Random(seed))

    @precondition(
        lambda self: any(
            each not in facts.taken and facts.must_be_gone(each)
            for facts in self.facts.values()
            for each in TENANT_CLASSES
        )
    )
    @rule(seed=st.integers(0, 999), messages=st.sampled_from([0, 0, 1, 2, 4, 7, 12]))
    def a_purge_is_due(self, seed: int, messages: int) -> None:
        """The next wave 0 has come and was asked for, and some of what follows has arrived."""
        random = Random(seed)
        self.settle(random)
        start_at = self.next_start()
        if start_at is None:
            return
        self.pass_until(start_at - timedelta(hours=1), random)
        self.stage.now = max(self.now, start_at)
        self.purger.sweep()
        for _ in range(messages):
            self.some_message_arrives(random, again=False)
        self.copy_databases()

    @precondition(lambda self: self.outage < OUTAGES)
    @rule(hours=st.sampled_from([1, 7, 24]))
    def nothing_arrives_for_a_while(self, hours: int) -> None:
        passed = timedelta(hours=hours)
        self.outage += passed
        self.stage.now += passed

    @rule(steps=st.none() | st.integers(0, 3))
    def purger_sweeps(self, steps: int | None) -> None:
        """It looks at the clock; it may die after some of what it then does."""
        self.purger.sweep(cut_off_after=steps)

    @precondition(lambda self: self.installer.applied < len(self.stage.ledger))
    @rule()
    def installer_reads_the_ledger(self) -> None:
        self.installer.follow_ledger()

    # -- what the network does ----------------------------------------------------------------------------

    @precondition(lambda self: any(channel.pending for channel in self.stage.channels))
    @rule(seed=st.integers(0, 999), messages=st.integers(1, 4), again=st.booleans())
    def messages_arrive(self, seed: int, messages: int, again: bool) -> None:
        """Any of them, in any order; ``again`` they will come once more."""
        random = Random(seed)
        for _ in range(messages):
            self.some_message_arrives(random, again=again)

    def some_message_arrives(self, random: Random, *, again: bool) -> None:
        channels = [channel for channel in self.stage.channels if channel.pending]
        if channels:
            channel = random.choice(channels)
            self.deliver(channel, random.randrange(len(channel.pending)), again=again)

    @rule(last=st.integers(1, 4), n=st.integers(0, 2))
    def a_relay_dies_before_it_noted_what_it_sent(self, last: int, n: int) -> None:
        self.stage.channels[n].say_again(last)

    @rule()
    def the_topic_of_states_is_compacted(self) -> None:
        self.stage.to_purger.compact()

    # -- what machines do -----------------------------------------------------------------------------------

    @rule(who=st.sampled_from(["installer", "purger"]), messages=st.integers(1, 3))
    def a_process_dies_before_its_commit(self, who: str, messages: int) -> None:
        """What it had done is gone with all that it was about to say; the messages come again."""
        channel = self.stage.to_installer if who == "installer" else self.stage.to_purger
        installer, purger = self.installer.copy(), self.purger.copy()
        position, ends = channel.position(), [len(each.log) for each in self.stage.channels]
        purges = dict(self.stage.purges)
        for _ in range(min(messages, len(channel.pending))):
            spoken = channel.take(0)
            (self.installer if who == "installer" else self.purger).hear(spoken)
        self.installer, self.purger, self.stage.purges = installer, purger, purges
        for each, end in zip(self.stage.channels, ends, strict=True):
            del each.log[end:]
            each.pending = [offset for offset in each.pending if offset < end]
        channel.rewind(position)

    @rule(n=st.integers(0, COPIES), cut_off_after=st.none() | st.integers(0, 1))
    def installer_is_restored(self, n: int, cut_off_after: int | None) -> None:
        found = self.usable(self.copies_of_installer)
        if not found:
            return
        made_at, copied, position = found[n % len(found)]
        self.copies_of_installer = [each for each in self.copies_of_installer if each[0] <= made_at]
        epoch = self.installer.epoch
        self.installer = copied.copy()
        self.installer.epoch = epoch + 1
        self.stage.to_installer.rewind(position)
        orphans = set[UUID]()
        if cut_off_after is not None:
            orphans.update(self.installer.take_over(cut_off_after=cut_off_after))
        orphans.update(self.installer.take_over())
        for tenant_id in orphans:
            self.note_orphan(self.installer.tenants[tenant_id])
        self.installer.begin_next_life()

    def note_orphan(self, orphan: TenantState) -> None:
        """Nobody finds it by its name any more, so it has left when it was last heard of."""
        facts = self.facts[orphan.tenant_id]
        assert orphan.departure is not None
        assert orphan.departure.at <= self.now
        facts.left_at = facts.left_at or orphan.departure.at
        facts.licence = None

    @rule(n=st.integers(0, COPIES), cut_off_after=st.none() | st.integers(0, 1))
    def purger_is_restored(self, n: int, cut_off_after: int | None) -> None:
        found = self.usable(self.copies_of_purger)
        if not found:
            return
        made_at, copied, position = found[n % len(found)]
        self.copies_of_purger = [each for each in self.copies_of_purger if each[0] <= made_at]
        epoch = self.purger.epoch
        self.purger = copied.copy()
        self.purger.epoch = epoch + 1
        self.stage.to_purger.rewind(position)
        if cut_off_after is not None:
            self.purger.take_over(cut_off_after=cut_off_after)
        self.purger.take_over()
        self.purger.begin_next_life()

    def usable(self, copies: list[Copy[C]]) -> list[Copy[C]]:
        return [each for each in copies if self.now - each[0] <= COPIES_KEPT]

    def copy_databases(self) -> None:
        channels = self.stage.to_installer, self.stage.to_purger
        self.copies_of_installer = [
            *self.copies_of_installer[-COPIES:],
            (self.now, self.installer.copy(), channels[0].position()),
        ]
        self.copies_of_purger = [
            *self.copies_of_purger[-COPIES:],
            (self.now, self.purger.copy(), channels[1].position()),
        ]

    # -- how it goes on ---------------------------------------------------------------------------------------

    def deliver(self, channel: Channel, n: int, *, again: bool = False) -> None:
        spoken = channel.take(n, again=again)
        if channel is self.stage.to_purger:
            self.purger.hear(spoken)
            self.note_wish(spoken)
        elif channel is self.stage.to_owners:
            self.owners.hear(spoken)
            self.note_erased(spoken)
        else:
            known = set(self.installer.accepted)
            self.installer.hear(spoken)
            if isinstance(spoken, PurgeRequested) and spoken.purge_id not in known:
                self.note_acceptance(spoken)
            self.note_erased(spoken)

    def note_wish(self, spoken: Spoken) -> None:
        if isinstance(spoken, ErasureAsked):
            facts = self.facts[spoken.tenant_id]
            if spoken.wish_id not in facts.withdrawn:
                facts.wishes[spoken.wish_id] = spoken.asked_at
        elif isinstance(spoken, ErasureWithdrawn):
            facts = self.facts[spoken.tenant_id]
            wish = self.purger.wishes.get(spoken.wish_id)
            if wish is not None and wish.withdrawn_late and not wish.withdrawn:
                facts.withdrawn_late.add(spoken.wish_id)
            else:
                self.withdraw_in(facts, spoken.wish_id)

    def withdraw_in(self, facts: Facts, wish_id: UUID) -> None:
        facts.withdrawn.add(wish_id)
        facts.wishes.pop(wish_id, None)

    def note_acceptance(self, asked: PurgeRequested) -> None:
        """Nobody's data passes the point of no return without a reason, or too early, or twice."""
        if asked.purge_id not in self.installer.accepted or asked.purge_id in self.accepted:
            return
        facts = self.facts[asked.tenant_id]
        for each in asked.classes:
            assert facts.may_be_taken(each, self.now), (each, facts)
            assert each not in facts.taken
        is_wanted = facts.left_at or facts.ended_at or facts.wishes or facts.merged_at
        assert is_wanted or asked.classes == (DataClass.CONTENT,)
        self.look()
        facts.taken.update(asked.classes)
        self.accepted[asked.purge_id] = (asked.tenant_id, frozenset(asked.classes))

    def note_erased(self, spoken: Spoken) -> None:
        """What goes was taken by an accepted purge, and goes in time."""
        if not isinstance(spoken, PurgeStarted):
            return
        tenant_id, classes = self.accepted[spoken.purge_id]
        assert tenant_id == spoken.tenant_id
        assert set(spoken.classes) <= classes
        facts = self.facts[tenant_id]
        for each in set(spoken.classes) - facts.erased:
            assert not self.is_late(facts, each)
            facts.erased.add(each)

    def is_late(self, facts: Facts, data_class: DataClass) -> bool:
        due_at, since = facts.due[data_class]
        return due_at is not None and self.now > max(due_at, since + SLACK)

    def pass_until(self, end: datetime, random: Random) -> None:
        self.settle(random)
        while self.now < end:
            start_at = self.next_start()
            self.stage.now = min(end, start_at) if start_at and start_at > self.now else end
            self.settle(random)

    def next_start(self) -> datetime | None:
        starts = [
            kept.plan.start_at
            for kept in self.purger.purges.values()
            if kept.plan.phase is Phase.PLANNED
            and not kept.plan.held
            and kept.plan.start_at > self.now
        ]
        return min(starts, default=None)

    def settle(self, random: Random) -> None:
        """Let everything arrive, and everybody do what is due, until nobody has anything to say."""
        self.ask_site()
        for tenant_id, facts in self.facts.items():
            self.installer.hear_report(tenant_id, facts.licence)
        for _ in range(40):
            while any(channel.pending for channel in self.stage.channels):
                self.some_message_arrives(random, again=False)
            self.installer.follow_ledger()
            self.purger.braked = False  # two people have looked
            self.stage.now += SILENCE
            asked = self.purger.sweep()
            if not asked and self.nothing_is_on_its_way():
                break
        else:
            raise AssertionError("they never come to rest")
        self.look()
        self.all_is_as_promised()
        self.copy_databases()

    def nothing_is_on_its_way(self) -> bool:
        is_read = self.installer.applied == len(self.stage.ledger)
        return is_read and not any(each.pending for each in self.stage.channels)

    def ask_site(self) -> None:
        """The daily question to the site; it is asked on until it is clear whether it has left."""
        for _ in range(6):
            tenant = self.tenant
            if tenant is None:
                return
            self.installer.ask_site(
                tenant.tenant_id, lets_us_in=self.site.answers, licence=self.known.licence
            )
            after = self.tenant
            assert after is not None
            self.note_access(tenant, after)
            stays = self.known.pays or after.platform is Platform.FORGE
            if self.site.answers or after.departure is not None or stays:
                return
            self.stage.now += DAY
        raise AssertionError("who lets us in no more, and does not pay, has left")

    def note_access(self, before: TenantState, after: TenantState) -> None:
        if before.departure == after.departure:
            return
        if after.departure is None:
            assert self.site.answers
            self.known.left_at = None
        else:
            assert not self.site.answers
            assert not self.known.pays
            assert self.site.silent_since is not None
            # A copy may still have refusals of an earlier silence.
            is_restored = self.installer.epoch > self.site.silent_in_epoch
            assert is_restored or self.now - self.site.silent_since >= 3 * DAY
            assert is_restored or after.departure.at <= self.site.silent_since
            assert after.departure.at >= self.site.silent_since - COPIES_KEPT - DAY
            self.known.left_at = after.departure.at

    # -- what holds ---------------------------------------------------------------------------------------------

    @invariant()
    def at_any_time(self) -> None:
        self.look()
        self.the_installer_knows_what_is_so()
        self.what_is_past_the_point_of_no_return_was_accepted()
        self.nothing_is_recorded_twice_and_nothing_before_it_was_accepted()

    def look(self) -> None:
        """Note by when each class must be gone, and since when that is so."""
        for facts in self.facts.values():
            for wish_id in list(facts.withdrawn_late):
                wish = self.purger.wishes.get(wish_id)
                if wish is not None and wish.withdrawn:
                    facts.withdrawn_late.discard(wish_id)
                    self.withdraw_in(facts, wish_id)
            for hold_id, data_class in list(facts.holds.items()):
                if hold_id not in self.purger.holds:
                    # A restored purger let it be placed on what was past the point of no return.
                    assert data_class in facts.taken
                    del facts.holds[hold_id]
            for each in TENANT_CLASSES:
                if each in facts.taken:
                    continue
                due_at = facts.must_be_gone(each)
                if each not in facts.due or facts.due[each][0] != due_at:
                    facts.due[each] = (due_at, self.now)

    def the_installer_knows_what_is_so(self) -> None:
        """Nothing that was heard is lost: neither that somebody left, nor that one pays."""
        for tenant_id, tenant in self.installer.tenants.items():
            if ClassState.LIVE not in tenant.classes.values():
                continue
            facts = self.facts[tenant_id]
            assert (tenant.departure is None) == (facts.left_at is None)
            assert (tenant.merged_into is None) == (facts.merged_at is None)
            assert (tenant.subscription.status is SubscriptionStatus.ACTIVE) == facts.pays
            assert (tenant.subscription.ended_at is None) == (facts.ended_at is None)

    def what_is_past_the_point_of_no_return_was_accepted(self) -> None:
        for tenant_id, tenant in self.installer.tenants.items():
            gone = {each for each, at in tenant.classes.items() if at is not ClassState.LIVE}
            assert gone <= self.facts[tenant_id].taken
            if self.purger.tenants.get(tenant_id) == tenant:
                assert not gone & set(self.facts[tenant_id].holds.values())

    def nothing_is_recorded_twice_and_nothing_before_it_was_accepted(self) -> None:
        parts = [
            (entry.purge_id, entry.kind, entry.classes, entry.receipt and entry.receipt.stage)
            for entry in self.purger.ledger
            if entry.kind is not EntryKind.RESTORED
        ]
        assert len(parts) == len(set(parts))
        assert {part[0] for part in parts} <= self.accepted.keys()

    def all_is_as_promised(self) -> None:
        """When all is quiet nothing is late, and what has begun is done, with its pair of receipts."""
        for tenant_id, facts in self.facts.items():
            assert facts.erased == facts.taken
            for each in TENANT_CLASSES:
                assert each in facts.erased or not self.is_late(facts, each)
            tenant = self.installer.tenants.get(tenant_id)
            if tenant is None:
                assert facts.erased == set(TENANT_CLASSES)
                continue
            erased = {each for each, at in tenant.classes.items() if at is ClassState.ERASED}
            assert erased == facts.erased
            assert self.purger.tenants[tenant_id] == tenant
            assert set(self.purger.standing_wishes(tenant_id)) == facts.wishes.keys()
            assert self.purger.held(tenant_id) == set(facts.holds.values())
        gone = {
            each for each, facts in self.facts.items() if DataClass.INSTALLATION in facts.erased
        }
        assert not self.installer.installations & gone
        assert self.stage.ledger == self.purger.ledger
        receipts: dict[UUID, list[tuple[str, str]]] = {each: [] for each in self.accepted}
        for entry in self.stage.ledger:
            if entry.receipt is not None:
                receipts[entry.purge_id].append((entry.receipt.stage, entry.receipt.receipt_code))
        for pair in receipts.values():
            assert [stage for stage, _ in pair] == ["erased", "closed"]
            assert len({code for _, code in pair}) == 1

    def teardown(self) -> None:
        """In the end everything has arrived, and who left for good is gone for good."""
        self.pass_until(self.now + 400 * DAY, Random(0))
        verify_chain(self.stage.ledger, KEY.public_keys)
        for facts in self.facts.values():
            for each in TENANT_CLASSES:
                if facts.must_be_gone(each) is not None:
                    assert each in facts.erased


def a_licence(status: str, *, ends_on: date | None, updated_on: date) -> Licence:
    return Licence(
        name=LicenceName(APP, "100200"),
        sen="SEN-100200",
        entitlement_id=None,
        entitlement_number=None,
        hosting="cloud",
        status=status,
        licence_type="commercial",
        ends_on=ends_on,
        cloud_id=None,
        site_host=None,
        last_updated=updated_on,
    )


def live(*, examples: int, always_the_same: bool) -> None:
    run_state_machine_as_test(
        TenantsLives,
        settings=settings(
            max_examples=examples,
            derandomize=always_the_same,
            database=None,
            stateful_step_count=60,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.timeout(600)  # to make what was found small takes minutes
def test_200_lives_are_as_promised() -> None:
    # So a change is judged by itself; the long series looks where nobody has been.
    live(examples=200, always_the_same=True)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_2000_lives_are_as_promised() -> None:
    live(examples=2_000, always_the_same=False)
