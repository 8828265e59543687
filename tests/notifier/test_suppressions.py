import asyncio
from itertools import product

import pytest

from contracts.suppressions import SuppressionState
from services.notifier.domain.campaigns import Kind
from services.notifier.domain.suppressions import (
    ALL_OPTIONAL,
    EVERYTHING,
    Reason,
    scopes_that_stop,
)
from services.notifier.store.deliveries import suppressed_among
from services.notifier.store.suppressions import lift, restate, suppress, suppressions_of
from tests.notifier.builders import Notifier

ADA, BOB = b"a" * 32, b"b" * 32


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
        await suppress(uow, ADA, scope=scope, reason=Reason.OPTED_OUT)
        kinds = (Kind.RECEIPT, Kind.PRODUCT_UPDATE, Kind.NEW_PRODUCT)
        messages = set(product((ADA, BOB), kinds))
        kept_back = await suppressed_among(uow.connection, messages)
    assert kept_back == {(ADA, kind) for kind in kinds if kind in stopped}


async def test_a_reason_that_is_lifted_leaves_the_others(notifier: Notifier) -> None:
    scope = EVERYTHING
    async with notifier.units.begin() as uow:
        for reason in (Reason.BOUNCED, Reason.ERASED):
            assert await suppress(uow, ADA, scope=scope, reason=reason)
        assert not await suppress(uow, ADA, scope=scope, reason=Reason.BOUNCED)
        assert await lift(uow, ADA, scope=scope, reason=Reason.BOUNCED)
        assert not await lift(uow, ADA, scope=scope, reason=Reason.BOUNCED)
        assert await suppressions_of(uow.connection, ADA) == {(scope, Reason.ERASED)}
        assert await suppressed_among(uow.connection, [(ADA, Kind.RECEIPT)])


async def states_said(notifier: Notifier) -> list[set[tuple[str, str]] | None]:
    """What was said of Ada, the first thing first; None is a tombstone."""
    rows = await notifier.worker.fetch(
        "SELECT payload FROM outbox WHERE record_key = $1 ORDER BY position", ADA.hex()
    )
    return [
        None
        if row["payload"] is None
        else {
            (each.scope, each.reason)
            for each in SuppressionState.decode(row["payload"]).suppressions
        }
        for row in rows
    ]


async def test_each_change_says_the_whole_of_what_stands_and_the_last_one_that_nothing_does(
    notifier: Notifier,
) -> None:
    bounced, opted_out = (EVERYTHING, Reason.BOUNCED), (ALL_OPTIONAL, Reason.OPTED_OUT)
    for change, (scope, reason) in (
        (suppress, bounced),
        (suppress, bounced),
        (suppress, opted_out),
        (lift, bounced),
        (lift, opted_out),
        (lift, opted_out),
    ):
        async with notifier.units.begin() as uow:
            await change(uow, ADA, scope=scope, reason=reason)
    assert await states_said(notifier) == [{bounced}, {bounced, opted_out}, {opted_out}, None]


async def test_all_that_stands_is_said_again_with_newer_versions(notifier: Notifier) -> None:
    everybody = [bytes([n]) * 32 for n in range(7)]
    async with notifier.units.begin() as uow:
        for index in everybody:
            await suppress(uow, index, scope=EVERYTHING, reason=Reason.ERASED)
    first = await notifier.worker.fetchval("SELECT count(*) FROM outbox")
    after, turns = None, 0
    while True:
        async with notifier.units.begin() as uow:
            after = await restate(uow, after=after, limit=3)
        if after is None:
            break
        turns += 1
    rows = await notifier.worker.fetch("SELECT payload FROM outbox ORDER BY position")
    states = [SuppressionState.decode(row["payload"]) for row in rows]
    assert (first, turns) == (7, 3)
    assert [state.recipient_index for state in states[7:]] == [each.hex() for each in everybody]
    assert [state.version for state in states] == sorted(state.version for state in states)


async def test_two_changes_at_once_say_what_stands_in_the_end(notifier: Notifier) -> None:
    async def change(scope: str) -> None:
        async with notifier.units.begin() as uow:
            await suppress(uow, ADA, scope=scope, reason=Reason.OPTED_OUT)

    await asyncio.gather(change("product-update"), change("new-product"), change(ALL_OPTIONAL))
    *_, last = await states_said(notifier)
    assert last is not None
    assert len(last) == 3


async def test_a_receipt_is_not_mailed_to_a_suppressed_address(notifier: Notifier) -> None:
    tenant_id = await notifier.tenant("ada@c.example", "bob@c.example")
    ada = next(iter(await notifier.contacts(tenant_id)))["address_index"]
    async with notifier.units.begin() as uow:
        await suppress(uow, ada, scope=EVERYTHING, reason=Reason.ERASED)
    purge = await notifier.start_wave_2(tenant_id)

    assert await notifier.mail.run() == 2

    assert len(notifier.mails) == 1
    assert sorted(await notifier.states(purge)) == ["sent", "suppressed"]
    assert await notifier.erase() == 1
