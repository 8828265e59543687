"""Bodies on the wire: lenient about what is new, strict about what is known."""

import json
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from contracts.classes import TENANT_CLASSES, DataClass
from contracts.purges import PurgeAccepted, PurgeRequested, PurgeState, Scope, purge_id
from contracts.tenants import (
    ClassState,
    Departure,
    Platform,
    Subscription,
    SubscriptionStatus,
    TenantState,
    TenantStatus,
    Version,
)

A_TENANT = UUID("0198f2b6-7a40-7c3e-9d21-5b8e4f6a1c07")
NOON = datetime(2026, 8, 31, 12, tzinfo=UTC)

numbers = st.integers(min_value=0, max_value=2**53 - 1)
few = st.integers(min_value=0, max_value=3)
versions = st.builds(Version, epoch=few, n=few)


def a_tenant(**changes: object) -> TenantState:
    fields = {
        "tenant_id": A_TENANT,
        "version": Version(epoch=1, n=1),
        "status": TenantStatus.INSTALLED,
        "classes": dict.fromkeys(TENANT_CLASSES, ClassState.LIVE),
        "platform": Platform.CONNECT,
        "addon_key": "com.example.app",
        "product_type": "jira",
        "created_at": NOON,
        "subscription": Subscription(status=SubscriptionStatus.ACTIVE),
        "licence_numbers": ("SEN-12345678",),
    }
    return TenantState.model_validate(fields | changes)


@given(versions, versions, versions)
def test_versions_are_totally_ordered(one: Version, two: Version, three: Version) -> None:
    assert sum([one < two, one == two, one > two]) == 1
    assert (one <= two) == (one < two or one == two)
    assert (one >= two) == (two <= one)
    for earlier, later in pairwise(sorted([one, two, three])):
        assert earlier <= later


def test_the_epoch_counts_before_the_number() -> None:
    assert Version(epoch=1, n=900) < Version(epoch=2, n=1) < Version(epoch=2, n=2)
    assert max(Version(epoch=2, n=1), Version(epoch=1, n=9)) == Version(epoch=2, n=1)


def test_a_version_is_not_compared_with_something_else() -> None:
    with pytest.raises(TypeError):
        assert Version(epoch=1, n=1) < 2


@given(numbers, numbers)
def test_a_version_survives_the_wire(epoch: int, n: int) -> None:
    version = Version(epoch=epoch, n=n)

    assert Version.decode(version.encode()) == version


@given(
    st.datetimes(
        min_value=datetime(1, 1, 2),  # noqa: DTZ001 - the zone is drawn below
        max_value=datetime(9999, 12, 30),  # noqa: DTZ001 - likewise
        timezones=st.timezones(),
    )
)
def test_a_time_survives_the_wire_and_is_written_in_utc(instant: datetime) -> None:
    body = Departure(at=instant, how="uninstalled").encode()

    assert json.loads(body)["at"].endswith("Z")
    assert Departure.decode(body).at == instant.astimezone(UTC)
    assert Departure.decode(body).encode() == body


@pytest.mark.parametrize("wrong", ['"2026-08-31T12:00:00"', '"2026-08-31"', "1788177600", "null"])
def test_a_time_without_a_zone_or_as_a_number_is_refused_on_the_wire(wrong: str) -> None:
    with pytest.raises(ValidationError):
        Departure.decode(f'{{"at": {wrong}, "how": "uninstalled"}}')


def test_a_time_before_the_first_day_in_utc_is_refused() -> None:
    early = datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))

    with pytest.raises(ValidationError, match="no date in UTC"):
        Departure(at=early, how="uninstalled")


def test_an_unknown_field_is_ignored_when_read() -> None:
    body = json.loads(a_tenant().encode()) | {"colour": "green"}
    body["version"]["author"] = 1

    assert TenantState.decode(json.dumps(body)) == a_tenant()


def test_a_message_never_changes() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        a_tenant().status = TenantStatus.PURGED  # type: ignore[misc]


@pytest.mark.parametrize(
    "wrong",
    [
        {"addon_key": "https://acme.atlassian.net"},
        {"addon_key": "ops@example.com"},
        {"product_type": "Jira at acme"},
        {"licence_numbers": ("acme.atlassian.net",)},
        {"licence_numbers": ("ops@example.com",)},
        {"licence_numbers": "SEN-1"},
        {"status": "gone"},
        {"classes": dict.fromkeys(TENANT_CLASSES[:4], ClassState.LIVE)},
        {"classes": dict.fromkeys([*TENANT_CLASSES[:4], DataClass.PLUMBING], ClassState.LIVE)},
        {"version": {"epoch": -1, "n": 1}},
        {"version": {"epoch": 2**53, "n": 1}},
        {"subscription": {"status": "ended"}},
        {"subscription": {"status": "active", "ended_at": NOON}},
        {"tenant_id": "acme"},
    ],
)
def test_a_tenant_state_that_makes_no_sense_is_never_said(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        a_tenant(**wrong)


def test_a_tenant_state_survives_the_wire() -> None:
    state = a_tenant(departure=Departure(at=NOON, how="access-lost"), purge_id=A_TENANT)

    assert TenantState.decode(state.encode()) == state
    assert TenantState.model_validate_json(state.model_dump_json()) == state


def test_the_scopes_divide_the_classes_of_a_tenant() -> None:
    both = Scope.SERVICE_DATA.classes + Scope.PEOPLE.classes

    assert Scope.EVERYTHING.classes == TENANT_CLASSES
    assert sorted(both) == sorted(TENANT_CLASSES)


def test_a_purge_names_at_least_one_class() -> None:
    with pytest.raises(ValidationError):
        PurgeRequested(
            purge_id=A_TENANT,
            step="accept",
            tenant_id=A_TENANT,
            tenant_version=Version(epoch=1, n=1),
            classes=(),
        )


def test_a_step_is_a_word_of_ours_and_carries_nothing_else() -> None:
    with pytest.raises(ValidationError):
        PurgeAccepted(
            purge_id=A_TENANT,
            step="ask ops@example.com",
            tenant_id=A_TENANT,
            tenant_version=Version(epoch=1, n=1),
            accepted_at=NOON,
        )


@given(st.uuids(), st.sampled_from(Scope), st.timezones())
def test_a_purge_has_the_same_id_whoever_plans_it(
    tenant_id: UUID, scope: Scope, zone: timezone
) -> None:
    assert purge_id(tenant_id, scope, NOON) == purge_id(tenant_id, scope, NOON.astimezone(zone))
    assert purge_id(tenant_id, scope, NOON).version == 5


def test_the_id_of_a_purge_stays_what_it_was_in_earlier_releases() -> None:
    planned = purge_id(A_TENANT, Scope.SERVICE_DATA, datetime(2026, 8, 31, 23, 30, tzinfo=UTC))

    assert planned == UUID("94785665-c63c-5ba3-8b05-c45dd5da2019")


def test_another_tenant_scope_or_clock_is_another_purge() -> None:
    other = UUID("0198f2b6-7a40-7c3e-9d21-5b8e4f6a1c08")
    moment = timedelta(microseconds=1)

    ids = {
        purge_id(tenant, scope, start)
        for tenant in (A_TENANT, other)
        for scope in Scope
        for start in (NOON, NOON + moment)
    }

    assert len(ids) == 12


def test_a_part_of_a_scope_is_another_purge_and_each_part_has_its_own_id() -> None:
    parts = (None, (DataClass.CONTENT,), (DataClass.CONTENT, DataClass.ERRORS))

    ids = {purge_id(A_TENANT, Scope.SERVICE_DATA, NOON, part) for part in parts}

    assert len(ids) == 3


def test_a_plan_takes_its_scope_or_the_part_that_it_names() -> None:
    sample = Path(__file__).parents[2] / "contracts" / "samples" / "purges-planned" / "2.json"
    state = PurgeState.decode(sample.read_text())
    most, held = state.plans
    whole = most.model_copy(update={"classes": None})

    assert whole.takes == TENANT_CLASSES
    assert set(most.takes) | set(held.takes) == set(TENANT_CLASSES)
    assert held.takes == (DataClass.CONTENT,)
    for plan in (most, held):
        assert plan.purge_id == purge_id(
            state.tenant_id, plan.scope, plan.clock_started_at, plan.classes
        )


def test_a_purge_is_not_named_after_a_time_without_a_zone() -> None:
    with pytest.raises(ValueError, match="zone"):
        purge_id(A_TENANT, Scope.PEOPLE, datetime(2026, 8, 31))  # noqa: DTZ001 - the subject
