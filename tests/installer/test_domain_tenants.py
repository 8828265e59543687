"""The rules: no fixture, no database."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.classes import TENANT_CLASSES, DataClass
from contracts.ledger import Receipt, ReceiptStage, StepProof
from contracts.purges import PurgeRequested, Scope
from contracts.tenants import (
    ClassState,
    Departure,
    DepartureKind,
    Platform,
    Subscription,
    SubscriptionStatus,
    TenantState,
    TenantStatus,
    Version,
)
from services.installer.domain.tenants import (
    Accept,
    AcceptAgain,
    Heard,
    HeardInstalled,
    Installation,
    PurgeDecision,
    Refusal,
    Refuse,
    begin_purge,
    decide_purge,
    erased_by,
    finish_purge,
    hear_installed,
    is_gone,
    leave,
    merge_into,
    move_to_forge,
    new_forge_tenant,
    new_tenant,
    restated,
    show_life,
)

NOW = datetime(2026, 11, 2, 9, 30, tzinfo=UTC)
LATER = NOW + timedelta(days=3)
PURGE = UUID("5f0c7d0e-0000-4000-8000-000000000001")
STORED = Installation(
    addon_key="com.example.app",
    product_type="jira",
    client_key="client",
    base_url="https://acme.atlassian.net",
    service_entitlement_number="SEN-1",
    shared_secret="ATCOfirst",
    oauth_client_id="oauth-1",
)


def a_tenant() -> TenantState:
    return new_tenant(uuid4(), STORED, epoch=5, now=NOW)


def gone_away() -> TenantState:
    left = leave(a_tenant(), DepartureKind.UNINSTALLED, epoch=5, at=NOW)
    assert left is not None
    return left


def hear(tenant: TenantState, **reported: Any) -> HeardInstalled:
    return hear_installed(tenant, STORED, replace(STORED, **reported), epoch=5, now=LATER)


def test_a_new_tenant_is_live_in_every_class_and_its_licence_unknown() -> None:
    tenant = a_tenant()
    assert tenant.status is TenantStatus.INSTALLED
    assert set(tenant.classes.values()) == {ClassState.LIVE}
    assert tenant.version == Version(epoch=5, n=1)
    assert tenant.created_at == NOW
    assert tenant.licence_numbers == ("SEN-1",)


@pytest.mark.parametrize("number", ["", "acme.atlassian.net", "x" * 65, "SEN 1", "SEN-1\n", None])
def test_a_licence_number_of_another_shape_stays_off_the_bus(number: str | None) -> None:
    assert replace(STORED, service_entitlement_number=number).licence_numbers == ()


def test_both_numbers_of_a_licence_are_told_once_each() -> None:
    both = replace(STORED, entitlement_number="E-AAA-BBB-CCC-DDD")
    assert both.licence_numbers == ("SEN-1", "E-AAA-BBB-CCC-DDD")
    assert replace(STORED, entitlement_number="SEN-1").licence_numbers == ("SEN-1",)


def test_the_same_again_changes_nothing() -> None:
    heard = hear(a_tenant())
    assert (heard.heard, heard.changes, heard.said) == (Heard.UNCHANGED, frozenset(), None)
    assert heard.installation == STORED


@pytest.mark.parametrize(
    ("reported", "change"),
    [
        ({"shared_secret": "ATCOsecond"}, Heard.ROTATED),
        ({"base_url": "https://acme2.atlassian.net"}, Heard.RENAMED),
        ({"oauth_client_id": None}, Heard.UPGRADED),
        ({"entitlement_id": "5f0c"}, Heard.UPGRADED),
    ],
)
def test_what_others_cannot_see_is_stored_and_not_said(
    reported: dict[str, Any], change: Heard
) -> None:
    heard = hear(a_tenant(), **reported)
    assert (heard.heard, heard.changes) == (change, frozenset({change}))
    assert heard.installation == replace(STORED, **reported)
    assert heard.said is None


CHANGES = {
    Heard.ROTATED: {"shared_secret": "ATCOsecond"},
    Heard.RENAMED: {"base_url": "https://acme2.atlassian.net"},
    Heard.UPGRADED: {"product_type": "confluence"},
}


@given(had_left=st.booleans(), kinds=st.sets(st.sampled_from(list(CHANGES))))
def test_a_call_is_the_first_thing_that_is_true_of_it(had_left: bool, kinds: set[Heard]) -> None:
    reported = {name: value for kind in kinds for name, value in CHANGES[kind].items()}
    heard = hear(gone_away() if had_left else a_tenant(), **reported)
    expected = kinds | ({Heard.REVIVED} if had_left else set())
    assert heard.changes == expected
    order = [Heard.REVIVED, Heard.ROTATED, Heard.RENAMED, Heard.UPGRADED, Heard.UNCHANGED]
    assert heard.heard is next(
        each for each in order if each in expected or each is Heard.UNCHANGED
    )
    assert heard.is_at_a_new_address is bool(expected & {Heard.REVIVED, Heard.RENAMED})


def test_another_licence_number_is_said() -> None:
    heard = hear(a_tenant(), service_entitlement_number="SEN-2")
    assert heard.heard is Heard.UPGRADED
    assert heard.said is not None
    assert heard.said.licence_numbers == ("SEN-2",)
    assert heard.said.version == Version(epoch=5, n=2)


def test_numbers_that_were_found_by_a_licence_stay_when_the_installations_change() -> None:
    tenant = a_tenant().model_copy(update={"licence_numbers": ("E-FOUND", "SEN-1")})
    assert hear(tenant, shared_secret="ATCOsecond").said is None
    said = hear(tenant, entitlement_number="E-OWN").said
    assert said is not None
    assert said.licence_numbers == ("SEN-1", "E-OWN", "E-FOUND")


@pytest.mark.parametrize(
    "name", ["service_entitlement_number", "entitlement_id", "entitlement_number"]
)
def test_a_licence_number_that_is_missing_says_nothing(name: str) -> None:
    stored = replace(STORED, **{name: "N-1"})
    tenant = new_tenant(uuid4(), stored, epoch=5, now=NOW)
    nothing: dict[str, Any] = {name: None}
    missing = replace(stored, **nothing)
    again = hear_installed(tenant, stored, missing, epoch=5, now=LATER)
    assert again.heard is Heard.UNCHANGED
    rotated = replace(missing, shared_secret="ATCOsecond")
    heard = hear_installed(tenant, stored, rotated, epoch=5, now=LATER)
    assert getattr(heard.installation, name) == "N-1"


def test_an_install_revives_who_had_left() -> None:
    heard = hear(gone_away())
    assert heard.changes == {Heard.REVIVED}
    assert heard.said is not None
    assert heard.said.status is TenantStatus.INSTALLED
    assert heard.said.departure is None
    assert heard.said.version == Version(epoch=5, n=3)


def test_who_comes_back_goes_on_itself_whoever_was_to_go_on_for_it() -> None:
    closed = merge_into(gone_away(), uuid4(), epoch=5, now=LATER)
    assert closed is not None
    assert closed.licence_numbers == ()
    back = hear(closed).said
    assert back is not None
    assert (back.status, back.merged_into) == (TenantStatus.INSTALLED, None)
    assert back.licence_numbers == STORED.licence_numbers
    by_forge = move_to_forge(closed, epoch=5, now=LATER)
    assert by_forge is not None
    assert by_forge.merged_into is None


def on_forge() -> TenantState:
    moved = move_to_forge(a_tenant(), epoch=5, now=LATER)
    assert moved is not None
    return moved


def test_a_move_to_forge_is_told_once_and_revives() -> None:
    moved = on_forge()
    assert (moved.platform, moved.platform_since) == (Platform.FORGE, LATER)
    assert move_to_forge(moved, epoch=5, now=LATER) is None
    back = move_to_forge(gone_away(), epoch=5, now=LATER)
    assert back is not None
    assert (back.status, back.departure) == (TenantStatus.INSTALLED, None)


def test_who_began_on_forge_did_not_move_there() -> None:
    tenant = new_forge_tenant(uuid4(), "com.example.app", "jira", epoch=5, now=NOW)
    assert (tenant.platform, tenant.platform_since) == (Platform.FORGE, None)
    assert move_to_forge(tenant, epoch=5, now=LATER) is None


@pytest.mark.parametrize("by_forge_too", [True, False])
def test_connect_alone_brings_a_tenant_back_from_forge(by_forge_too: bool) -> None:
    heard = hear_installed(on_forge(), STORED, STORED, epoch=5, now=LATER, on_forge=by_forge_too)
    if by_forge_too:
        assert heard.heard is Heard.UNCHANGED
    else:
        assert heard.heard is Heard.UPGRADED
        assert heard.said is not None
        assert heard.said.platform is Platform.CONNECT


def test_a_name_that_comes_into_use_is_a_change_that_nobody_else_sees() -> None:
    heard = hear_installed(a_tenant(), STORED, STORED, epoch=5, now=LATER, more_names=True)
    assert (heard.heard, heard.said) == (Heard.UPGRADED, None)


def test_a_merge_closes_a_tenant_and_winds_no_clock_back() -> None:
    living = uuid4()
    closed = merge_into(a_tenant(), living, epoch=5, now=LATER)
    assert closed is not None
    assert (closed.status, closed.merged_into) == (TenantStatus.UNINSTALLED, living)
    assert closed.departure == Departure(at=LATER, how=DepartureKind.SUPERSEDED)
    assert merge_into(closed, living, epoch=5, now=LATER) is None
    had_left = merge_into(gone_away(), living, epoch=5, now=LATER)
    assert had_left is not None
    assert had_left.departure is not None
    assert had_left.departure.at == NOW


def test_a_merge_loses_no_end_of_a_subscription() -> None:
    ended = Subscription(status=SubscriptionStatus.ENDED, ended_at=NOW)
    tenant = gone_away().model_copy(update={"subscription": ended})

    closed = merge_into(tenant, uuid4(), epoch=5, now=LATER)

    assert closed is not None
    assert closed.subscription == ended
    back = hear(closed).said
    assert back is not None
    assert back.subscription == ended
    paying = tenant.model_copy(
        update={"subscription": Subscription(status=SubscriptionStatus.ACTIVE)}
    )
    its_licence_moved = merge_into(paying, uuid4(), epoch=5, now=LATER)
    assert its_licence_moved is not None
    assert its_licence_moved.subscription.status is SubscriptionStatus.NONE


def test_people_who_are_being_forgotten_are_not_found_again_by_a_licence() -> None:
    purging = begin_purge(a_tenant(), PURGE, Scope.PEOPLE.classes, epoch=5)
    assert purging is not None
    heard = hear(purging, service_entitlement_number="SEN-2")
    assert heard.said is None


def test_a_guess_that_access_was_lost_gives_way_to_an_uninstall_at_the_same_moment() -> None:
    lost = leave(a_tenant(), DepartureKind.ACCESS_LOST, epoch=5, at=NOW)
    assert lost is not None
    left = leave(lost, DepartureKind.UNINSTALLED, epoch=5, at=LATER)
    assert left is not None
    assert left.departure == Departure(at=NOW, how=DepartureKind.UNINSTALLED)
    assert show_life(lost, epoch=5) is not None
    assert show_life(left, epoch=5) is None
    assert leave(lost, DepartureKind.ACCESS_LOST, epoch=5, at=LATER) is None


def test_a_second_departure_does_not_move_the_first() -> None:
    left = gone_away()
    assert left.departure is not None
    assert left.departure.at == NOW
    assert leave(left, DepartureKind.SUPERSEDED, epoch=5, at=LATER) is None


def test_a_version_never_goes_back_whatever_epoch_is_read() -> None:
    tenant = a_tenant()
    assert restated(tenant, epoch=9).version == Version(epoch=9, n=2)
    assert restated(tenant, epoch=1).version == Version(epoch=5, n=2)


def request(tenant: TenantState, *, n: int | None = None) -> PurgeRequested:
    version = tenant.version if n is None else Version(epoch=5, n=n)
    return PurgeRequested(
        purge_id=PURGE,
        step="accept",
        tenant_id=tenant.tenant_id,
        tenant_version=version,
        classes=Scope.EVERYTHING.classes,
    )


def decide(tenant: TenantState | None, asked: PurgeRequested) -> PurgeDecision:
    return decide_purge(tenant, asked, accepted_at=None, epoch=5)


def test_a_purge_of_the_planned_version_is_accepted() -> None:
    tenant = gone_away()
    decision = decide(tenant, request(tenant))
    assert isinstance(decision, Accept)
    said = decision.said
    assert said.status is TenantStatus.PURGING
    assert set(said.classes.values()) == {ClassState.PURGING}
    assert said.licence_numbers == ()
    assert said.purge_id == PURGE
    assert said.departure == tenant.departure
    assert said.version == Version(epoch=5, n=3)


@pytest.mark.parametrize("n", [1, 3])
def test_a_purge_of_any_other_version_is_refused(n: int) -> None:
    tenant = gone_away()
    assert decide(tenant, request(tenant, n=n)) == Refuse(Refusal.NEWER_STATE)


def test_a_purge_of_nobody_is_refused() -> None:
    assert decide(None, request(a_tenant())) == Refuse(Refusal.UNKNOWN_TENANT)


def test_a_purge_that_was_accepted_is_accepted_again_whatever_the_version() -> None:
    tenant = gone_away()
    again = decide_purge(tenant, request(tenant, n=1), accepted_at=NOW, epoch=5)
    assert again == AcceptAgain(NOW)


def test_a_second_purge_of_the_same_classes_is_refused() -> None:
    purging = begin_purge(gone_away(), uuid4(), Scope.SERVICE_DATA.classes, epoch=5)
    assert purging is not None
    assert decide(purging, request(purging)) == Refuse(Refusal.NOT_LIVE)


def test_people_may_go_after_service_data() -> None:
    first = begin_purge(gone_away(), uuid4(), Scope.SERVICE_DATA.classes, epoch=5)
    assert first is not None
    assert first.status is TenantStatus.PURGING
    second = begin_purge(first, PURGE, Scope.PEOPLE.classes, epoch=5)
    assert second is not None
    assert set(second.classes.values()) == {ClassState.PURGING}
    assert second.purge_id == PURGE


def test_a_purge_of_people_alone_leaves_the_installation_standing() -> None:
    purging = begin_purge(gone_away(), PURGE, Scope.PEOPLE.classes, epoch=5)
    assert purging is not None
    assert purging.status is TenantStatus.UNINSTALLED


def test_a_tenant_that_loses_its_content_alone_stays_installed_with_its_licences() -> None:
    installed = a_tenant()
    purging = begin_purge(installed, PURGE, (DataClass.CONTENT,), epoch=5)
    assert purging is not None
    assert purging.status is TenantStatus.INSTALLED
    assert purging.licence_numbers == ("SEN-1",)
    assert [each for each, state in purging.classes.items() if state is not ClassState.LIVE] == [
        DataClass.CONTENT
    ]

    erased = finish_purge(purging, [DataClass.CONTENT], epoch=5)
    assert erased is not None
    assert erased.status is TenantStatus.INSTALLED
    assert not is_gone(erased)
    rest = tuple(each for each in TENANT_CLASSES if each is not DataClass.CONTENT)
    asked = request(erased, n=erased.version.n).model_copy(update={"classes": rest})
    assert isinstance(decide(erased, asked), Accept)


def test_nothing_leaves_purging_but_erased_and_nothing_leaves_erased() -> None:
    purging = begin_purge(gone_away(), PURGE, TENANT_CLASSES, epoch=5)
    assert purging is not None
    assert begin_purge(purging, uuid4(), TENANT_CLASSES, epoch=5) is None
    erased = finish_purge(purging, {DataClass.INSTALLATION}, epoch=5)
    assert erased is not None
    assert erased.status is TenantStatus.PURGED
    assert not is_gone(erased)
    assert begin_purge(erased, uuid4(), TENANT_CLASSES, epoch=5) is None
    assert finish_purge(erased, {DataClass.INSTALLATION}, epoch=5) is None


def test_a_tenant_is_gone_when_its_last_class_is() -> None:
    purging = begin_purge(gone_away(), PURGE, TENANT_CLASSES, epoch=5)
    assert purging is not None
    gone = finish_purge(purging, TENANT_CLASSES, epoch=5)
    assert gone is not None
    assert is_gone(gone)


def test_a_class_that_is_live_cannot_become_erased_by_a_receipt() -> None:
    assert finish_purge(gone_away(), TENANT_CLASSES, epoch=5) is None


def a_receipt(stage: ReceiptStage) -> Receipt:
    def step(name: str, owner: str, *classes: DataClass, still_open: bool = False) -> StepProof:
        return StepProof(step=name, owner=owner, counts=dict.fromkeys(classes, 0), open=still_open)

    return Receipt(
        stage=stage,
        receipt_code="c" * 22,
        steps=(
            step("erase-installer", "installer", DataClass.INSTALLATION),
            step("erase-config", "config", DataClass.CONTENT, DataClass.ERRORS),
            step("erase-notifier", "notifier", DataClass.TICKETS, still_open=True),
        ),
        deadline=LATER,
        erase_by=LATER,
    )


def test_the_first_receipt_proves_the_steps_that_have_answered() -> None:
    assert erased_by(a_receipt(ReceiptStage.ERASED), TENANT_CLASSES) == {
        DataClass.INSTALLATION,
        DataClass.CONTENT,
        DataClass.ERRORS,
    }


def test_a_receipt_proves_nothing_outside_its_purge() -> None:
    proven = erased_by(a_receipt(ReceiptStage.ERASED), [DataClass.INSTALLATION])
    assert proven == {DataClass.INSTALLATION}


def test_the_last_receipt_proves_the_whole_purge() -> None:
    proven = erased_by(a_receipt(ReceiptStage.CLOSED), TENANT_CLASSES)
    assert proven == frozenset(TENANT_CLASSES)


def test_no_representation_of_an_installation_tells_a_customer() -> None:
    shown = repr(STORED)
    for value in ("client'", "acme", "ATCO", "SEN-1", "oauth"):
        assert value not in shown
