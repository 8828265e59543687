"""People of a tenant that goes on as another: they move there, and nobody is written to."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from structlog.testing import capture_logs

from contracts.classes import DataClass
from contracts.tenants import ClassState
from services.notifier.domain.deliveries import PATIENCE
from services.notifier.domain.people import Access, Move, Tenant, decide_move
from tests.notifier.builders import Notifier, Purge
from tests.support.chassis import suppressed

ADA = ("Ada Ex", "ada@customer.example")
BOB = ("Ada Ex", "bob@customer.example")


async def start_merge(notifier: Notifier, tenant_id: UUID, into: UUID) -> Purge:
    purge = Purge(tenant_id)
    await notifier.read_receipt(purge)
    await notifier.obey(purge.wave_2(into))
    return purge


@pytest.mark.parametrize(
    ("access", "waited", "move"),
    [
        (Access.OPEN, PATIENCE * 2, Move.NOW),
        (Access.GOING, timedelta(), Move.NEVER),
        (Access.UNKNOWN, PATIENCE - timedelta(seconds=1), Move.LATER),
        (Access.UNKNOWN, PATIENCE, Move.NEVER),
    ],
)
def test_people_move_as_soon_as_they_can(access: Access, waited: timedelta, move: Move) -> None:
    assert decide_move(access, waited) is move


@pytest.mark.parametrize("by_ledger", [False, True])
async def test_people_move_under_the_other_tenants_key_before_their_own_is_destroyed(
    notifier: Notifier, by_ledger: bool
) -> None:
    empty, living = await notifier.tenant(ADA[1], BOB[1]), await notifier.tenant()
    purge = Purge(empty)
    await notifier.read_receipt(purge)
    if by_ledger:
        await notifier.read_wave_2(purge, living)
    await notifier.obey(purge.wave_2(living))
    assert await notifier.erase() == 0

    assert await notifier.move_people() == 1
    assert await notifier.erase() == 1

    assert await notifier.people(living) == sorted([ADA, BOB])
    assert await notifier.contacts(empty) == []
    assert await notifier.states(purge) == []
    await notifier.mail.run()
    assert notifier.mails == []
    [answer] = await notifier.answers(empty)
    assert answer.counts == {DataClass.CONTACTS: 2}
    assert answer.remaining == 0


async def test_a_person_who_is_there_already_is_kept_once(notifier: Notifier) -> None:
    empty, living = await notifier.tenant("ADA@customer.example", BOB[1]), uuid4()
    await notifier.know(Tenant(living, "com.example.app", ClassState.LIVE))
    kept = ("Ada Exemplary", ADA[1])
    await notifier.post(tenant_id=str(living), name=kept[0], address=kept[1])
    await start_merge(notifier, empty, living)

    await notifier.move_people()

    assert await notifier.people(living) == sorted([kept, BOB])


async def test_asked_again_it_answers_again_and_moves_nobody_twice(notifier: Notifier) -> None:
    empty, living = await notifier.tenant(ADA[1]), await notifier.tenant()
    purge = await start_merge(notifier, empty, living)
    await notifier.obey(purge.wave_2(living))
    await notifier.move_people()
    await notifier.erase()

    notifier.clock.advance(timedelta(minutes=1))
    await notifier.obey(purge.wave_2(living))

    assert await notifier.move_people() == 0
    assert await notifier.erase() == 1
    assert await notifier.people(living) == [ADA]
    assert len(await notifier.answers(empty)) == 2


@pytest.mark.parametrize("guarded", [False, True])
async def test_people_whose_other_tenant_is_purging_too_are_erased_and_not_written_to(
    notifier: Notifier, guarded: bool
) -> None:
    state = ClassState.LIVE if guarded else ClassState.PURGING
    empty, other = await notifier.tenant(ADA[1]), await notifier.tenant(contacts=state)
    if guarded:
        await notifier.obey(Purge(other).wave_2())
    purge = await start_merge(notifier, empty, other)

    with capture_logs() as logs:
        assert await notifier.move_people() == 1

    assert [entry["event"] for entry in logs] == ["people not moved but erased"]
    assert suppressed(notifier.units) == {("job", "contacts"): 1}
    await notifier.erase()
    assert await notifier.contacts(empty) == []
    assert await notifier.contacts(other) == []
    assert await notifier.states(purge) == []


async def test_a_move_waits_for_a_tenant_that_was_not_heard_of_yet(notifier: Notifier) -> None:
    empty, living = await notifier.tenant(ADA[1]), uuid4()
    await start_merge(notifier, empty, living)
    assert await notifier.move_people() == 0
    assert await notifier.erase() == 0

    await notifier.know(Tenant(living, "com.example.app", ClassState.LIVE))

    assert await notifier.move_people() == 1
    assert await notifier.people(living) == [ADA]


async def test_a_move_that_never_can_be_delays_an_erasure_by_three_days_at_most(
    notifier: Notifier,
) -> None:
    empty = await notifier.tenant(ADA[1])
    await start_merge(notifier, empty, uuid4())
    notifier.clock.advance(PATIENCE)

    assert await notifier.move_people() == 1
    assert await notifier.erase() == 1
    assert await notifier.contacts(empty) == []


async def test_nothing_of_a_move_can_be_read_in_the_database(notifier: Notifier) -> None:
    empty, living = await notifier.tenant(ADA[1]), await notifier.tenant()
    await start_merge(notifier, empty, living)
    await notifier.move_people()

    everything: Any = await notifier.everything()

    assert ADA[1] not in everything
    assert ADA[0] not in everything
