"""The rules: no fixture, no database."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from contracts.classes import TENANT_CLASSES, DataClass
from contracts.ledger import Receipt, ReceiptStage, StepProof
from contracts.purges import PurgeRequested, Scope
from contracts.tenants import ClassState, DepartureKind, TenantState, TenantStatus, Version
from services.installer.domain.tenants import (
    Accept,
    AcceptAgain,
    Change,
    Changed,
    Installation,
    PurgeDecision,
    Refusal,
    Refuse,
    Unchanged,
    begin_purge,
    decide_purge,
    erased_by,
    finish_purge,
    hear_installed,
    is_gone,
    leave,
    new_tenant,
    restated,
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


def hear(tenant: TenantState, **reported: Any) -> Changed:
    heard = hear_installed(tenant, STORED, replace(STORED, **reported), epoch=5)
    assert isinstance(heard, Changed)
    return heard


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


def test_the_same_again_changes_nothing() -> None:
    assert hear_installed(a_tenant(), STORED, STORED, epoch=5) == Unchanged()


@pytest.mark.parametrize(
    ("reported", "change"),
    [
        ({"shared_secret": "ATCOsecond"}, Change.ROTATED),
        ({"base_url": "https://acme2.atlassian.net"}, Change.RENAMED),
        ({"oauth_client_id": None}, Change.OTHER),
    ],
)
def test_what_others_cannot_see_is_stored_and_not_said(
    reported: dict[str, Any], change: Change
) -> None:
    heard = hear(a_tenant(), **reported)
    assert heard.changes == {change}
    assert heard.installation == replace(STORED, **reported)
    assert heard.said is None


def test_another_licence_number_is_said() -> None:
    tenant = a_tenant()
    heard = hear(tenant, service_entitlement_number="SEN-2")
    assert heard.changes == {Change.RELICENSED}
    assert heard.said is not None
    assert heard.said.licence_numbers == ("SEN-2",)
    assert heard.said.version == Version(epoch=5, n=2)


def test_a_licence_number_that_is_missing_says_nothing() -> None:
    reported = replace(STORED, service_entitlement_number=None)
    assert hear_installed(a_tenant(), STORED, reported, epoch=5) == Unchanged()
    rotated = hear(a_tenant(), service_entitlement_number=None, shared_secret="ATCOsecond")
    assert rotated.installation.service_entitlement_number == "SEN-1"


def test_an_install_revives_who_had_left() -> None:
    heard = hear(gone_away())
    assert heard.changes == {Change.REVIVED}
    assert heard.said is not None
    assert heard.said.status is TenantStatus.INSTALLED
    assert heard.said.departure is None
    assert heard.said.version == Version(epoch=5, n=3)


def test_people_who_are_being_forgotten_are_not_found_again_by_a_licence() -> None:
    purging = begin_purge(a_tenant(), PURGE, Scope.PEOPLE.classes, epoch=5)
    assert purging is not None
    heard = hear(purging, service_entitlement_number="SEN-2")
    assert heard.said is None


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
