"""What notifier does about messages, up to the proof that a tenant's people are gone."""

from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest

from chassis.erasure import BlindVerificationError
from contracts.classes import TENANT_CLASSES, DataClass
from contracts.tenants import ClassState
from services.notifier.domain.people import Tenant
from services.notifier.handlers import forget_tenant, remember_tenant
from services.notifier.store import people
from tests.notifier.builders import CODE, Notifier, Purge
from tests.support.chassis import a_tenant


async def known(notifier: Notifier, tenant_id: UUID) -> Tenant | None:
    async with notifier.units.begin() as uow:
        return await people.tenant(uow.connection, tenant_id)


async def test_a_tenant_is_known_as_it_is_now_until_its_tombstone(notifier: Notifier) -> None:
    state = a_tenant()
    purging = state.model_copy(
        update={"classes": dict.fromkeys(TENANT_CLASSES, ClassState.PURGING)}
    )
    async with notifier.units.begin() as uow:
        await remember_tenant(state, uow)
    assert await known(notifier, state.tenant_id) == Tenant(
        state.tenant_id, "com.example.app", ClassState.LIVE
    )
    async with notifier.units.begin() as uow:
        await remember_tenant(purging, uow)
    assert await known(notifier, state.tenant_id) == Tenant(
        state.tenant_id, "com.example.app", ClassState.PURGING
    )
    async with notifier.units.begin() as uow:
        await forget_tenant(state.tenant_id, uow)
    assert await known(notifier, state.tenant_id) is None


async def test_tickets_are_answered_for_at_once_and_people_stay(notifier: Notifier) -> None:
    tenant_id = await notifier.tenant("ada@c.example")
    purge = Purge(tenant_id)
    await notifier.obey(purge.wave_1())
    assert await notifier.erase() == 1
    (answer,) = await notifier.answers(tenant_id)
    assert (answer.step, answer.counts, answer.remaining) == (
        "erase-notifier",
        {DataClass.TICKETS: 0},
        0,
    )
    assert len(await notifier.contacts(tenant_id)) == 1
    assert await notifier.mail.run() == 0


@pytest.mark.parametrize("first", ["command", "ledger"])
async def test_wave_2_by_command_and_by_ledger_is_one_mail(notifier: Notifier, first: str) -> None:
    purge = Purge(await notifier.tenant("ada@c.example"))
    await notifier.read_receipt(purge)
    if first == "command":
        await notifier.obey(purge.wave_2())
        await notifier.read_wave_2(purge)
    else:
        await notifier.read_wave_2(purge)
        await notifier.obey(purge.wave_2())
    await notifier.mail.run()
    await notifier.obey(purge.wave_2())
    await notifier.mail.run()
    assert len(notifier.mails) == 1
    assert len(await notifier.deliveries(purge)) == 1


@pytest.mark.parametrize("way", ["command", "ledger"])
async def test_either_way_alone_is_enough(notifier: Notifier, way: str) -> None:
    tenant_id = await notifier.tenant("ada@c.example")
    purge = Purge(tenant_id)
    await notifier.read_receipt(purge)
    if way == "command":
        await notifier.obey(purge.wave_2())
    else:
        await notifier.read_wave_2(purge)
    await notifier.mail.run()
    assert await notifier.erase() == 1
    assert len(notifier.mails) == 1
    assert await notifier.contacts(tenant_id) == []


async def test_contacts_wait_for_their_receipt_and_then_go_with_their_key(
    notifier: Notifier,
) -> None:
    going = await notifier.tenant("ada@c.example", "bob@c.example")
    staying = await notifier.tenant("ada@c.example")
    before = await notifier.contacts(staying)
    purge = await notifier.start_wave_2(going)

    assert await notifier.erase() == 0
    assert len(await notifier.contacts(going)) == 2
    await notifier.mail.run()
    assert await notifier.erase() == 1

    assert await notifier.contacts(going) == []
    assert await notifier.deliveries(purge) == []
    assert await known(notifier, going) is None
    keys = await notifier.worker.fetch("SELECT tenant_id FROM tenant_keys")
    assert [row["tenant_id"] for row in keys] == [staying]
    assert await notifier.contacts(staying) == before
    assert await known(notifier, staying) is not None

    (answer,) = await notifier.answers(going)
    assert (answer.purge_id, answer.step, answer.owner, answer.remaining) == (
        purge.purge_id,
        "erase-contacts",
        "notifier",
        0,
    )
    # Two contacts, two deliveries, and what was known of the tenant.
    assert answer.counts == {DataClass.CONTACTS: 2}
    stored = await notifier.everything()
    for gone in ("Ada", "c.example", notifier.keys.blind_index("contact.address", "bob@c.example")):
        assert str(gone) not in stored


async def test_a_command_that_comes_during_the_erasure_plans_no_second_mail(
    notifier: Notifier,
) -> None:
    purge = await notifier.start_wave_2(await notifier.tenant("ada@c.example"))
    await notifier.mail.run()
    # As the eraser leaves it between two of its statements.
    claimed = await notifier.eraser_job()._claim()
    assert len(claimed) == 1
    await notifier.eraser.execute("DELETE FROM deliveries")
    await notifier.obey(purge.wave_2())
    await notifier.read_wave_2(purge)
    await notifier.mail.run()
    assert len(notifier.mails) == 1

    notifier.clock.advance(timedelta(minutes=3))
    assert await notifier.erase() == 1
    assert await notifier.contacts(purge.tenant_id) == []


async def test_a_command_after_the_erasure_is_answered_again_without_mail(
    notifier: Notifier,
) -> None:
    tenant_id = await notifier.tenant("ada@c.example")
    purge = await notifier.start_wave_2(tenant_id)
    await notifier.mail.run()
    await notifier.erase()
    notifier.clock.advance(timedelta(minutes=1))
    await notifier.obey(purge.wave_2())
    await notifier.mail.run()
    assert await notifier.erase() == 1
    first, second = await notifier.answers(tenant_id)
    assert first.counts == second.counts
    assert len(notifier.mails) == 1


async def test_a_tenant_without_people_is_erased_at_once(notifier: Notifier) -> None:
    tenant_id = await notifier.tenant()
    await notifier.start_wave_2(tenant_id)
    assert await notifier.erase() == 1
    assert await known(notifier, tenant_id) is None


async def test_after_a_restore_tickets_do_not_draw_contacts_along(notifier: Notifier) -> None:
    tenant_id = await notifier.tenant("ada@c.example")
    purge = Purge(tenant_id)
    await notifier.read_receipt(purge)
    await notifier.obey(purge.wave_1())
    await notifier.obey(purge.wave_2())
    await notifier.erase()
    assert len(await notifier.contacts(tenant_id)) == 1
    await notifier.mail.run()
    await notifier.erase()
    assert {answer.step for answer in await notifier.answers(tenant_id)} == {
        "erase-notifier",
        "erase-contacts",
    }
    assert len(notifier.mails) == 1


async def test_the_last_receipt_entry_changes_nothing_in_the_mail(notifier: Notifier) -> None:
    purge = Purge(await notifier.tenant("ada@c.example"))
    await notifier.read_receipt(purge)
    await notifier.read_receipt(purge, stage="closed", steps=())
    await notifier.obey(purge.wave_2())
    await notifier.mail.run()
    (mail,) = notifier.mails
    assert "content" in mail.text
    assert CODE in mail.text


async def test_an_erasure_is_not_called_verified_by_an_eye_that_may_be_blind(
    notifier: Notifier,
) -> None:
    tenant_id = await notifier.tenant()
    await notifier.start_wave_2(tenant_id)
    owner = await asyncpg.connect(notifier.roles.owner_url)
    try:
        await owner.execute("DROP POLICY eraser_sees_all ON contacts")
        with pytest.raises(BlindVerificationError):
            await notifier.erase()
        assert await notifier.answers(tenant_id) == []
    finally:
        await owner.execute(
            "CREATE POLICY eraser_sees_all ON contacts FOR SELECT TO notifier_eraser USING (true)"
        )
        await owner.close()
