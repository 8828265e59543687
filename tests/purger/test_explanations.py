"""Each date says why it is what it is, and never by a sum that does not come out."""

from datetime import UTC, datetime

import pytest

from contracts.deadlines import RULE_VERSION
from contracts.purges import ClockKind, Phase, Plan
from services.purger.domain.dates import Retention, dates_of
from services.purger.domain.plans import plan_purges
from services.purger.explanations import Explanation, explain
from tests.purger.builders import DAY, LEFT_AT, a_tenant, ended

RETENTION = Retention()


def a_plan(**changes: object) -> Plan:
    (plan,) = plan_purges(a_tenant(left_at=LEFT_AT), RETENTION)
    return plan.model_copy(update=changes)


def told(explanation: Explanation, date: str) -> tuple[str, str]:
    (found,) = [each for each in explanation.sums if each.date == date]
    return found.reckoned, found.because


def test_an_uninstall_is_explained_sum_by_sum() -> None:
    plan = a_plan()

    explanation = explain(plan)

    assert explanation.event == "The customer left on 10 March 2026 at 09:30 UTC."
    assert told(explanation, "deadline")[0] == (
        "9 March 2026, the earliest date that it then was anywhere on earth,"
        " and six calendar months make 9 September 2026"
    )
    assert told(explanation, "erase_by")[0] == "9 September 2026 less 14 days"
    assert told(explanation, "start_at")[0] == "26 August 2026 less 14 days"
    assert [each.at for each in explanation.sums] == [plan.deadline, plan.erase_by, plan.start_at]
    assert (explanation.clock, explanation.rule_version) == ("uninstalled", RULE_VERSION)
    assert "comes back" in explanation.standing


def test_the_end_of_a_subscription_is_named_as_the_clock() -> None:
    tenant = a_tenant(subscription=ended(datetime(2026, 8, 31, 20, tzinfo=UTC)))
    explanation = explain(plan_purges(tenant, RETENTION)[0])

    assert explanation.event == "The subscription ended on 31 August 2026 at 20:00 UTC."
    assert "make 28 February 2027" in told(explanation, "deadline")[0]


def test_a_grace_that_decides_is_named() -> None:
    retention = Retention(grace=165 * DAY)
    dates = dates_of(LEFT_AT, retention)
    assert dates.start_at == LEFT_AT + 165 * DAY

    reckoned, because = told(explain(a_plan(start_at=dates.start_at)), "start_at")

    assert reckoned == "165 days after the clock started"
    assert "comes back" in because


def test_a_start_on_the_last_day_is_said_to_be_that() -> None:
    plan = a_plan()

    reckoned, _ = told(explain(plan.model_copy(update={"start_at": plan.erase_by})), "start_at")

    assert reckoned == "on the last day itself"


def test_a_merged_tenant_goes_at_once() -> None:
    plan = a_plan(clock=ClockKind.MERGED, start_at=LEFT_AT)

    assert told(explain(plan), "start_at")[0] == "at once"


def test_a_wish_has_dates_of_its_own() -> None:
    plan = a_plan(
        clock=ClockKind.ERASURE_ASKED,
        start_at=LEFT_AT + 7 * DAY,
        erase_by=LEFT_AT + 21 * DAY,
        deadline=LEFT_AT + 35 * DAY,
    )

    explanation = explain(plan)

    assert explanation.event.startswith("Erasure was asked for on")
    assert told(explanation, "deadline")[0] == (
        "35 days after that, and so before the six months end on 9 September 2026"
    )
    assert told(explanation, "erase_by")[0] == "14 April 2026 less 14 days"
    assert told(explanation, "start_at")[0] == "7 days after it was asked for"


def test_a_date_by_another_rule_is_not_reckoned_by_todays() -> None:
    later = a_plan(deadline=a_plan().deadline + DAY)
    older = a_plan(rule_version=RULE_VERSION + 1)

    for plan in (later, older):
        reckoned, _ = told(explain(plan), "deadline")
        assert reckoned.startswith("written down by rule")


def test_an_unknown_clock_is_borne_with() -> None:
    assert "moon-phase" in explain(a_plan(clock="moon-phase")).event


@pytest.mark.parametrize("phase", list(Phase))
def test_every_phase_has_its_words(phase: Phase) -> None:
    assert explain(a_plan(phase=phase)).standing
