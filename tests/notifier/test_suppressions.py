import pytest

from services.notifier.domain.campaigns import Kind
from services.notifier.domain.suppressions import (
    ALL_OPTIONAL,
    EVERYTHING,
    Reason,
    scopes_that_stop,
)
from services.notifier.store.deliveries import is_suppressed
from services.notifier.store.suppressions import lift, suppress, suppressions_of
from tests.notifier.builders import NOW, Notifier

ADA = b"ada"


def test_what_is_owed_to_everybody_is_stopped_by_nothing_but_everything() -> None:
    assert scopes_that_stop(Kind.POLICY_CHANGE) == (EVERYTHING,)
    assert scopes_that_stop(Kind.PRODUCT_UPDATE) == (EVERYTHING, ALL_OPTIONAL, "product-update")


@pytest.mark.parametrize(
    ("scope", "stopped"),
    [
        (EVERYTHING, {Kind.RECEIPT, Kind.PRODUCT_UPDATE, Kind.NEW_PRODUCT}),
        (ALL_OPTIONAL, {Kind.PRODUCT_UPDATE, Kind.NEW_PRODUCT}),
        ("product-update", {Kind.PRODUCT_UPDATE}),
    ],
)
async def test_a_suppression_stops_what_its_scope_says(
    notifier: Notifier, scope: str, stopped: set[Kind]
) -> None:
    async with notifier.units.begin() as uow:
        await suppress(uow.connection, ADA, scope=scope, reason=Reason.OPTED_OUT, now=NOW)
        for kind in (Kind.RECEIPT, Kind.PRODUCT_UPDATE, Kind.NEW_PRODUCT):
            assert await is_suppressed(uow.connection, ADA, kind) is (kind in stopped)
            assert not await is_suppressed(uow.connection, b"bob", kind)


async def test_a_reason_that_is_lifted_leaves_the_others(notifier: Notifier) -> None:
    scope = EVERYTHING
    async with notifier.units.begin() as uow:
        for reason in (Reason.BOUNCED, Reason.ERASED):
            assert await suppress(uow.connection, ADA, scope=scope, reason=reason, now=NOW)
        assert not await suppress(uow.connection, ADA, scope=scope, reason=Reason.BOUNCED, now=NOW)
        assert await lift(uow.connection, ADA, scope=scope, reason=Reason.BOUNCED)
        assert not await lift(uow.connection, ADA, scope=scope, reason=Reason.BOUNCED)
        assert await suppressions_of(uow.connection, ADA) == {(scope, Reason.ERASED)}
        assert await is_suppressed(uow.connection, ADA, Kind.RECEIPT)


async def test_a_receipt_is_not_mailed_to_a_suppressed_address(notifier: Notifier) -> None:
    tenant_id = await notifier.tenant("ada@c.example", "bob@c.example")
    ada = next(iter(await notifier.contacts(tenant_id)))["address_index"]
    async with notifier.units.begin() as uow:
        await suppress(uow.connection, ada, scope=EVERYTHING, reason=Reason.ERASED, now=NOW)
    purge = await notifier.start_wave_2(tenant_id)

    assert await notifier.mail.run() == 2

    assert len(notifier.mails) == 1
    assert sorted(await notifier.states(purge)) == ["sent", "suppressed"]
    assert await notifier.eraser_job().run() == 1
