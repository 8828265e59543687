"""Whose a licence is, what licences say of a subscription, and when one stands alone."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.classes import TENANT_CLASSES, DataClass
from contracts.deadlines import deadline, local_date
from contracts.tenants import (
    ClassState,
    Departure,
    DepartureKind,
    Platform,
    Subscription,
    SubscriptionStatus,
    TenantState,
    TenantStatus,
)
from services.installer.domain.licences import (
    Candidate,
    Licence,
    LicenceName,
    Match,
    SiteAnswer,
    Step,
    close_into,
    is_past,
    last_day_past,
    licence_numbers_of,
    lone_tenant,
    match,
    may_return,
    name_of_change,
    rejoin,
    renewed,
    sen_digits,
    subscription_of,
)

APP = "com.example.app"
CREATED = datetime(2025, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 11, 2, 9, 30, tzinfo=UTC)
NONE = Subscription(status=SubscriptionStatus.NONE)
ACTIVE = Subscription(status=SubscriptionStatus.ACTIVE)
ONE, TWO = UUID(int=1), UUID(int=2)
LADDER = (Step.ENTITLEMENT, Step.SEN, Step.CLOUD_ID, Step.HOST)


def a_licence(**changed: Any) -> Licence:
    licence = Licence(
        name=LicenceName(APP, "100200"),
        sen="SEN-12345678",
        entitlement_id="entitlement-id",
        entitlement_number="E-AAA-BBB-CCC-DDD",
        hosting="cloud",
        status="active",
        licence_type="COMMERCIAL",
        ends_on=None,
        cloud_id="cloud-id",
        site_host="acme.atlassian.net",
        last_updated=date(2026, 10, 1),
    )
    return replace(licence, **changed)


def ended(on: date | None, **changed: Any) -> Licence:
    return a_licence(status="inactive", ends_on=on, **changed)


def a_candidate(tenant_id: UUID = ONE, *steps: Step, **changed: Any) -> Candidate:
    """A tenant to which exactly these steps lead."""
    candidate = Candidate(
        tenant_id,
        APP,
        installed=True,
        created_at=CREATED,
        entitlement_id="entitlement-id" if Step.ENTITLEMENT in steps else None,
        service_entitlement_number="12345678" if Step.SEN in steps else None,
        cloud_ids=frozenset({"cloud-id"}) if Step.CLOUD_ID in steps else frozenset(),
        base_url="https://acme.atlassian.net/wiki" if Step.HOST in steps else None,
    )
    return replace(candidate, **changed)


candidates = st.builds(
    lambda n, steps, installed, days: a_candidate(
        UUID(int=n), *steps, installed=installed, created_at=CREATED + timedelta(days=days)
    ),
    st.integers(1, 9),
    st.sets(st.sampled_from(LADDER)),
    st.booleans(),
    st.integers(0, 3),
)
crowds = st.lists(candidates, max_size=6, unique_by=lambda each: each.tenant_id)


# -- the join -----------------------------------------------------------------------------------


@pytest.mark.parametrize("step", LADDER)
def test_each_step_leads_to_a_tenant_and_the_last_one_is_weak(step: Step) -> None:
    found = match(a_licence(), [a_candidate(ONE, step)])

    assert found == Match(ONE, step)
    assert found.weak is (step is Step.HOST)


def test_an_entitlement_number_is_as_good_as_its_id() -> None:
    candidate = a_candidate(entitlement_number="E-AAA-BBB-CCC-DDD")

    assert match(a_licence(), [candidate]) == Match(ONE, Step.ENTITLEMENT)


@pytest.mark.parametrize("number", ["SEN-12345678", "12345678", "SEN-L12345678", "sen-12345678"])
def test_a_support_number_is_its_digits_however_it_is_spelt(number: str) -> None:
    candidate = a_candidate(service_entitlement_number=number)

    assert match(a_licence(), [candidate]) == Match(ONE, Step.SEN)
    assert match(a_licence(sen=None, name=LicenceName(APP, "12345678")), [candidate])


def test_digits_of_an_entitlement_number_are_no_support_number() -> None:
    assert sen_digits("E-3W8-NHD-V5E-GM7") is None
    licence = a_licence(sen=None, name=LicenceName(APP, "E-3W8-NHD-V5E-GM7"))
    assert match(licence, [a_candidate(service_entitlement_number="SEN-3857")]) is None


def test_a_licence_of_one_app_is_never_that_of_another() -> None:
    other = a_candidate(ONE, *LADDER, addon_key="com.example.other")

    assert match(a_licence(), [other]) is None


def test_what_is_missing_on_both_sides_is_no_match() -> None:
    nothing = a_licence(
        sen=None, entitlement_id=None, entitlement_number=None, cloud_id=None, site_host=None
    )

    assert match(nothing, [a_candidate()]) is None


@given(crowds)
def test_nobody_is_passed_over_for_a_worse_match(crowd: list[Candidate]) -> None:
    found = match(a_licence(), crowd)

    reached = {
        each.tenant_id: alone.step for each in crowd if (alone := match(a_licence(), [each]))
    }
    if found is None:
        assert reached == {}
        return
    assert reached[found.tenant_id] is found.step
    by_id = {each.tenant_id: each for each in crowd}
    chosen = by_id[found.tenant_id]
    for tenant_id, step in reached.items():
        other = by_id[tenant_id]
        assert LADDER.index(found.step) <= LADDER.index(step)
        if step is found.step:
            assert (chosen.installed, chosen.created_at) >= (other.installed, other.created_at)


@given(crowds, st.randoms())
def test_the_order_in_which_tenants_are_found_is_no_matter(crowd: list[Candidate], r: Any) -> None:
    shuffled = list(crowd)
    r.shuffle(shuffled)

    assert match(a_licence(), shuffled) == match(a_licence(), crowd)


@given(crowds, st.none() | st.builds(Match, st.sampled_from([ONE, TWO]), st.sampled_from(Step)))
def test_what_was_proved_stays_until_something_else_is_proved(
    crowd: list[Candidate], known: Match | None
) -> None:
    after = rejoin(a_licence(), known, crowd)

    found = match(a_licence(), crowd)
    if found is not None and not found.weak:
        assert after == found
    elif known is not None and not known.weak:
        assert after == known
    else:
        assert after == found
    assert rejoin(a_licence(), after, crowd) == after


# -- the subscription ---------------------------------------------------------------------------


def subscription(
    *licences: Licence, site: SiteAnswer | None = None, **changed: Any
) -> Subscription:
    told: dict[str, Any] = {
        "known": NONE,
        "departed": False,
        "created_at": CREATED,
        "now": NOW,
    } | changed
    return subscription_of(licences, site, **told)


def test_one_active_licence_keeps_a_subscription_active() -> None:
    assert subscription(ended(date(2026, 1, 1)), a_licence()) == ACTIVE
    assert subscription(ended(date(2026, 1, 1)), site=SiteAnswer(True, None)) == ACTIVE
    assert subscription(a_licence(), site=SiteAnswer(False, NOW)) == ACTIVE


def test_the_latest_end_counts_from_the_day_that_the_report_names() -> None:
    said = subscription(ended(date(2026, 3, 5)), ended(date(2026, 4, 6)), ended(None))

    assert said.status is SubscriptionStatus.ENDED
    assert said.ended_at is not None
    assert local_date(said.ended_at) == date(2026, 4, 6)
    assert deadline(said.ended_at) == deadline(date(2026, 4, 6))


def test_a_site_that_calls_its_licence_inactive_ends_it_where_no_report_does() -> None:
    since = NOW - timedelta(days=3)

    assert subscription(site=SiteAnswer(False, since)).ended_at == since


def test_who_left_is_not_kept_by_what_its_site_said_once() -> None:
    assert subscription(site=SiteAnswer(True, None), departed=True) == NONE
    assert subscription(a_licence(), site=SiteAnswer(True, None), departed=True) == ACTIVE


def test_nothing_known_is_no_subscription() -> None:
    assert subscription() == NONE
    assert subscription(known=ACTIVE) == NONE


def test_what_ended_stays_ended_when_less_is_known() -> None:
    known = Subscription(status=SubscriptionStatus.ENDED, ended_at=NOW - timedelta(days=9))

    assert subscription(known=known) == known
    assert subscription(site=SiteAnswer(True, None), departed=True, known=known) == known


def test_an_end_that_lies_ahead_is_said_once_and_then_kept() -> None:
    cancelled = a_licence(status="cancelled", ends_on=date(2027, 1, 1))

    first = subscription(cancelled)
    later = subscription(cancelled, known=first, now=NOW + timedelta(days=1))

    assert first.ended_at == NOW
    assert later == first


instants = st.datetimes(datetime(2025, 1, 1), datetime(2026, 11, 1), timezones=st.just(UTC))  # noqa: DTZ001
report_licences = st.lists(
    st.builds(
        lambda status, ends_on: a_licence(status=status, ends_on=ends_on),
        st.sampled_from(["active", "inactive", "cancelled"]),
        st.none() | st.dates(date(2024, 1, 1), date(2027, 6, 1)),
    ),
    max_size=4,
)
sites = st.none() | st.builds(SiteAnswer, st.booleans(), st.none() | instants)
knowns = st.sampled_from([NONE, ACTIVE]) | instants.map(
    lambda at: Subscription(status=SubscriptionStatus.ENDED, ended_at=at)
)


@given(report_licences, sites, knowns, st.booleans(), instants)
def test_an_end_lies_between_creation_and_now_and_is_not_said_twice(
    licences: list[Licence],
    site: SiteAnswer | None,
    known: Subscription,
    departed: bool,
    created_at: datetime,
) -> None:
    if known.ended_at is not None:
        known = known.model_copy(update={"ended_at": max(known.ended_at, created_at)})
    told: dict[str, Any] = {"departed": departed, "created_at": created_at}

    said = subscription_of(licences, site, known, now=NOW, **told)

    if said.ended_at is not None:
        assert created_at <= said.ended_at <= NOW
    paying = any(each.is_active for each in licences) or (
        site is not None and site.active and not departed
    )
    assert (said.status is SubscriptionStatus.ACTIVE) is paying
    # Wherever nothing else is heard, nothing else is said.
    assert subscription_of(licences, site, said, now=NOW, **told) == said


@pytest.mark.parametrize(
    ("before", "after", "name"),
    [
        (NONE, ACTIVE, "tenant-updated"),
        (ACTIVE, NONE, "tenant-updated"),
        (ACTIVE, ACTIVE, "tenant-updated"),
        (ACTIVE, "ended", "subscription-ended"),
        (NONE, "ended", "subscription-ended"),
        ("ended", ACTIVE, "subscription-renewed"),
    ],
)
def test_the_type_says_what_changed(before: Any, after: Any, name: str) -> None:
    over = Subscription(status=SubscriptionStatus.ENDED, ended_at=NOW)

    assert (
        name_of_change(over if before == "ended" else before, over if after == "ended" else after)
        == name
    )


def test_only_numbers_that_may_travel_are_said_and_the_installation_has_the_first_word() -> None:
    odd = a_licence(sen="is.a.host", name=LicenceName(APP, "100200"))

    numbers = licence_numbers_of(("SEN-9", None, "two words"), [odd, a_licence()])

    assert numbers == ("SEN-9", "100200", "E-AAA-BBB-CCC-DDD", "SEN-12345678")


@pytest.mark.parametrize("going", [DataClass.INSTALLATION, DataClass.CONTACTS])
def test_who_is_being_erased_hears_of_an_end_but_says_no_numbers(going: DataClass) -> None:
    tenant = lone_tenant(ONE, a_licence(), epoch=1, now=NOW)
    purging = tenant.model_copy(update={"classes": tenant.classes | {going: ClassState.PURGING}})

    said = renewed(purging, NONE, ("SEN-1",), epoch=1)

    assert said is not None
    assert said.licence_numbers == ()
    assert said.subscription == NONE
    assert renewed(said, NONE, ("SEN-1",), epoch=1) is None


def test_who_lost_its_content_alone_still_says_its_numbers() -> None:
    tenant = lone_tenant(ONE, a_licence(), epoch=1, now=NOW)
    without = tenant.classes | {DataClass.CONTENT: ClassState.ERASED}

    said = renewed(
        tenant.model_copy(update={"classes": without}), NONE, ("SEN-1", "SEN-2"), epoch=1
    )

    assert said is not None
    assert said.licence_numbers == ("SEN-1", "SEN-2")


# -- licences without an installation -------------------------------------------------------------


@given(st.datetimes(datetime(2024, 1, 1), datetime(2032, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_the_last_day_past_is_the_last_whose_deadline_is_over(now: datetime) -> None:
    day = last_day_past(now)

    assert deadline(day) <= now < deadline(day + timedelta(days=1))


def test_a_licence_is_past_six_months_after_its_end_and_never_while_it_runs() -> None:
    over = ended(date(2026, 5, 2))

    assert is_past(over, datetime(2026, 11, 2, tzinfo=UTC))
    assert not is_past(over, datetime(2026, 11, 1, 23, 59, tzinfo=UTC))
    assert not is_past(a_licence(ends_on=date(2020, 1, 1)), NOW)


def test_a_purged_licence_returns_only_as_something_new() -> None:
    purged_at = datetime(2026, 6, 1, tzinfo=UTC)

    assert not may_return(ended(date(2026, 1, 1)), purged_at)
    assert may_return(ended(date(2026, 7, 1)), purged_at)
    assert may_return(a_licence(), purged_at)


def test_a_licence_alone_is_a_tenant_that_never_installed_anything() -> None:
    tenant = lone_tenant(ONE, a_licence(hosting="data center"), epoch=7, now=NOW)

    assert tenant.status is TenantStatus.UNINSTALLED
    assert tenant.departure is None
    assert tenant.platform is Platform.DATACENTER
    assert tenant.product_type == "unknown"
    assert tenant.subscription == ACTIVE
    assert set(tenant.classes.values()) == {ClassState.LIVE}
    assert len(tenant.classes) == len(TENANT_CLASSES)


@given(st.dates(date(2026, 5, 3), date(2026, 12, 31)))
def test_the_six_months_of_a_licence_alone_count_from_its_own_end(day: date) -> None:
    tenant = lone_tenant(ONE, ended(day), epoch=1, now=NOW)

    assert tenant.platform is Platform.CONNECT
    assert tenant.subscription.ended_at is not None
    assert tenant.created_at <= tenant.subscription.ended_at <= NOW
    assert deadline(tenant.subscription.ended_at) <= deadline(day)
    if day < NOW.date():
        assert deadline(tenant.subscription.ended_at) == deadline(day)


def closed(tenant: TenantState) -> TenantState | None:
    return close_into(tenant, TWO, epoch=1, now=NOW)


def test_a_tenant_that_goes_on_as_another_is_closed_once() -> None:
    tenant = lone_tenant(ONE, a_licence(), epoch=1, now=NOW)

    said = closed(tenant)

    assert said is not None
    assert said.merged_into == TWO
    assert said.departure is not None
    assert said.departure.how is DepartureKind.SUPERSEDED
    assert said.departure.at == NOW
    assert said.licence_numbers == ()
    assert said.version > tenant.version
    assert closed(said) is None


def test_a_tenant_that_goes_on_as_another_loses_no_clock() -> None:
    lone = lone_tenant(
        ONE, a_licence(status="inactive", ends_on=date(2026, 5, 1)), epoch=1, now=NOW
    )
    assert lone.subscription.status is SubscriptionStatus.ENDED
    left = Departure(at=CREATED, how=DepartureKind.UNINSTALLED)
    unpaid = lone.model_copy(update={"departure": left})
    paid = unpaid.model_copy(update={"subscription": ACTIVE})

    for tenant, left_at, subscription in (
        (lone, NOW, lone.subscription),
        (unpaid, CREATED, lone.subscription),
        # Its people were kept by the licence that has gone now.
        (paid, NOW, NONE),
    ):
        said = closed(tenant)
        assert said is not None
        assert said.departure == Departure(at=left_at, how=DepartureKind.SUPERSEDED)
        assert said.subscription == subscription


def test_people_who_are_being_forgotten_move_nowhere_any_more() -> None:
    tenant = lone_tenant(ONE, a_licence(), epoch=1, now=NOW)
    classes = tenant.classes | {DataClass.CONTACTS: ClassState.PURGING}

    assert closed(tenant.model_copy(update={"classes": classes})) is None
