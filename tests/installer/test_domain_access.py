"""Rules of access: when a site is asked again, and what its refusals mean."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.tenants import SubscriptionStatus
from services.installer.domain.access import (
    Answer,
    Leave,
    Reason,
    Standing,
    Wait,
    ask_again_at,
    decide_departure,
    is_mass_loss,
)

NOW = datetime(2026, 11, 2, 9, 30, tzinfo=UTC)
DAY = timedelta(days=1)

# Refused for three days, not paid for as far as the report can tell.
GONE = Standing(
    losses=4,
    first_lost_at=NOW - 3 * DAY,
    last_lost_at=NOW,
    last_seen_at=NOW - 4 * DAY,
    confirmed=False,
    on_forge=False,
    subscription=SubscriptionStatus.NONE,
    licence_known=False,
    licence_active=False,
    report_began_at=NOW - DAY,
    held=False,
)

_ages = st.timedeltas(min_value=timedelta(), max_value=timedelta(days=20))


@st.composite
def standings(draw: st.DrawFn) -> Standing:
    first = NOW - draw(_ages)
    report = draw(st.none() | _ages.map(lambda age: NOW - age))
    return Standing(
        losses=draw(st.integers(1, 8)),
        first_lost_at=first,
        last_lost_at=first + draw(st.timedeltas(timedelta(), timedelta(days=8))),
        last_seen_at=first - draw(_ages),
        confirmed=draw(st.booleans()),
        on_forge=draw(st.booleans()),
        subscription=draw(st.sampled_from(SubscriptionStatus)),
        licence_known=draw(st.booleans()),
        licence_active=draw(st.booleans()),
        report_began_at=report,
        held=draw(st.booleans()),
    )


def test_a_tenant_left_when_it_was_last_heard_of() -> None:
    assert decide_departure(GONE) == Leave(NOW - 4 * DAY)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"losses": 2}, Reason.TOO_SOON),
        ({"first_lost_at": NOW - 3 * DAY + timedelta(seconds=1)}, Reason.TOO_SOON),
        ({"held": True}, Reason.HELD),
        ({"held": True, "confirmed": True}, Reason.HELD),
        ({"losses": 2, "confirmed": True}, Reason.TOO_SOON),
        ({"report_began_at": None}, Reason.NO_REPORT),
        ({"report_began_at": NOW - 4 * DAY}, Reason.NO_REPORT),
        ({"licence_active": True}, Reason.PAID_FOR),
        ({"licence_active": True, "licence_known": True}, Reason.PAID_FOR),
        ({"subscription": SubscriptionStatus.ACTIVE}, Reason.PAID_FOR),
        ({"on_forge": True, "confirmed": True}, Reason.ON_FORGE),
    ],
)
def test_in_doubt_a_tenant_is_there(changed: dict[str, object], reason: Reason) -> None:
    assert decide_departure(replace(GONE, **changed)) == Wait(reason)  # type: ignore[arg-type]


def test_the_report_knows_better_than_a_site_that_is_gone() -> None:
    called_active = replace(GONE, subscription=SubscriptionStatus.ACTIVE, licence_known=True)
    assert isinstance(decide_departure(called_active), Leave)


def test_a_persons_word_stands_in_for_the_report() -> None:
    confirmed = replace(
        GONE, report_began_at=None, subscription=SubscriptionStatus.ACTIVE, confirmed=True
    )
    assert isinstance(decide_departure(confirmed), Leave)


@given(standings())
def test_nobody_leaves_before_three_losses_over_three_days(standing: Standing) -> None:
    if isinstance(decide_departure(standing), Leave):
        assert standing.losses >= 3
        assert standing.last_lost_at - standing.first_lost_at >= 3 * DAY
        assert not standing.held


@given(standings())
def test_nobody_leaves_unasked_who_may_still_pay(standing: Standing) -> None:
    if isinstance(decide_departure(standing), Leave) and not standing.confirmed:
        assert not standing.licence_active
        assert standing.report_began_at is not None
        assert standing.report_began_at >= standing.first_lost_at


@given(standings())
def test_who_leaves_left_when_last_heard_of_and_would_have_by_a_persons_word(
    standing: Standing,
) -> None:
    decision = decide_departure(standing)
    if isinstance(decision, Leave):
        assert decision == Leave(standing.last_seen_at)
        assert decide_departure(replace(standing, confirmed=True)) == decision


@pytest.mark.parametrize(
    ("lost", "asked", "held"),
    [(9, 9, False), (10, 10, True), (10, 200, True), (10, 201, False), (50, 1000, True)],
)
def test_a_mass_loss_is_a_twentieth_and_at_least_ten(lost: int, asked: int, held: bool) -> None:
    assert is_mass_loss(lost, asked) is held


@given(st.sampled_from(Answer), st.floats(0, 1, exclude_max=True), _ages)
def test_a_site_is_asked_again_within_the_day_it_is_due(
    answer: Answer, jitter: float, wait: timedelta
) -> None:
    pause = ask_again_at(answer, now=NOW, jitter=jitter, wait=wait) - NOW
    match answer:
        case Answer.SEEN:
            assert 0.9 * DAY <= pause <= 1.1 * DAY
        case Answer.LOST:
            assert DAY <= pause <= 1.1 * DAY
        case Answer.UNCLEAR:
            assert max(wait, timedelta(hours=1)) <= pause
            assert pause <= max(wait, timedelta(hours=1)) + timedelta(minutes=15)
