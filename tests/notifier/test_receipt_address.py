"""Whom an administrator named gets the receipt too: kept sealed, shown to nobody, gone with the tenant."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest

from contracts.classes import DataClass
from contracts.tenants import ClassState
from services.notifier.domain.people import ADDRESS_INDEX, Tenant
from services.notifier.domain.suppressions import EVERYTHING, Reason
from services.notifier.requests import export, forget_person, index_of, kept_of
from services.notifier.routes.receipt_address import MOST_CHANGES, PATH
from services.notifier.store import contacts
from services.notifier.store import requests as request_store
from services.notifier.store.suppressions import suppress
from tests.notifier.builders import NOW, Purge
from tests.notifier.test_notices import PAGES, Browser, browsing
from tests.support.chassis import suppressed

__all__ = ["browsing"]

AUDITOR = "Auditor+erasures@c.example"


async def call(
    browsing: Browser, method: str, tenant_id: UUID, *, administers: bool = True, **body: Any
) -> httpx2.Response:
    token = browsing.installer.token(tenant_id, administers=administers)
    async with browsing.notifier.client() as client:
        return await client.request(
            method, PATH, headers={"authorization": f"Bearer {token}"}, **body
        )


async def name(
    browsing: Browser, tenant_id: UUID, address: str = AUDITOR, language: str = "en"
) -> None:
    told = {"address": address, "language": language}
    answer = await call(browsing, "PUT", tenant_id, json=told)
    assert answer.status_code == 204, answer.text


async def shown(browsing: Browser, tenant_id: UUID) -> Any:
    return (await call(browsing, "GET", tenant_id)).json()


async def test_who_is_named_gets_the_receipt_beside_the_contacts_and_goes_with_them(
    browsing: Browser,
) -> None:
    notifier = browsing.notifier
    tenant_id = await notifier.tenant("ada@c.example")
    neighbour = await notifier.tenant()
    for each in (tenant_id, neighbour):
        await name(browsing, each, language="de")
    assert AUDITOR.lower() not in (await notifier.everything()).lower()
    # Until the end nobody writes to them, and no report makes contacts of them.
    assert len(await notifier.contacts(tenant_id)) == 2
    assert await notifier.worker.fetchval("SELECT count(*) FROM audience") == 1

    purge = await notifier.start_wave_2(tenant_id)
    await notifier.obey(purge.wave_2())
    assert await notifier.mail.run() == 2
    to_auditor, to_ada = sorted(notifier.mails, key=lambda mail: mail.recipients)
    assert to_ada.recipients == ("ada@c.example",)
    assert "You get this because you are a contact" in " ".join(to_ada.text.split())
    assert to_auditor.recipients == (AUDITOR,)
    assert to_auditor.text.startswith("Guten Tag,")
    assert "weil die Administration des Kunden Sie dafür benannt hat" in " ".join(
        to_auditor.text.split()
    )
    assert await notifier.erase() == 1
    [answer] = await notifier.answers(tenant_id)
    assert answer.counts == {DataClass.CONTACTS: 2}
    rows = await notifier.worker.fetch("SELECT tenant_id FROM audience")
    assert rows == []
    left = await notifier.eraser.fetch("SELECT tenant_id FROM receipt_addresses")
    assert [row["tenant_id"] for row in left] == [neighbour]


async def test_all_see_that_somebody_is_named_and_nobody_sees_whom(browsing: Browser) -> None:
    tenant_id = await browsing.notifier.tenant()
    assert await shown(browsing, tenant_id) == {"named_at": None, "administers": True}
    await name(browsing, tenant_id)
    anybody = await call(browsing, "GET", tenant_id, administers=False)
    assert anybody.json() == {"named_at": NOW.isoformat(), "administers": False}
    assert anybody.headers["cache-control"] == "no-store"
    told = {"address": "eve@c.example", "language": "en"}
    for method in ("PUT", "DELETE"):
        refused = await call(browsing, method, tenant_id, administers=False, json=told)
        assert refused.status_code == 403
    assert await browsing.notifier.people(tenant_id) == [("", AUDITOR)]
    assert await shown(browsing, uuid4()) == {"named_at": None, "administers": True}


async def test_it_is_replaced_and_withdrawn_without_a_trace_and_contacts_stay(
    browsing: Browser,
) -> None:
    notifier = browsing.notifier
    tenant_id = await notifier.tenant("ada@c.example")
    await name(browsing, tenant_id)
    await name(browsing, tenant_id, "ADA@c.example")
    assert await notifier.people(tenant_id) == [("Ada Ex", "ada@c.example")]
    purge = Purge(tenant_id)
    assert (await call(browsing, "DELETE", tenant_id)).status_code == 204
    assert (await call(browsing, "DELETE", tenant_id)).status_code == 204
    assert await notifier.people(tenant_id) == [("Ada Ex", "ada@c.example")]
    assert (await shown(browsing, tenant_id))["named_at"] is None
    await notifier.read_receipt(purge)
    await notifier.obey(purge.wave_2())
    await notifier.mail.run()
    assert [mail.recipients for mail in notifier.mails] == [("ada@c.example",)]


async def test_a_contact_that_no_report_names_any_more_stays_for_the_receipt_alone(
    browsing: Browser,
) -> None:
    notifier = browsing.notifier
    tenant_id = await notifier.tenant("ada@c.example")
    await name(browsing, tenant_id, "ada@c.example")
    [contact] = await notifier.contacts(tenant_id)
    async with notifier.units.begin() as uow:
        await uow.act_for(tenant_id)
        await contacts.forget_contacts(uow.connection, tenant_id, [contact["contact_id"]])
    await notifier.start_wave_2(tenant_id)
    await notifier.mail.run()
    assert [mail.recipients for mail in notifier.mails] == [("ada@c.example",)]


@pytest.mark.parametrize("reason", [Reason.ERASED, Reason.BOUNCED])
async def test_what_may_not_be_written_to_is_not_kept_and_nobody_learns_it(
    browsing: Browser, reason: Reason
) -> None:
    notifier = browsing.notifier
    tenant_id = await notifier.tenant()
    index = notifier.keys.blind_index(ADDRESS_INDEX, AUDITOR.lower())
    async with notifier.units.begin() as uow:
        await suppress(uow, index, scope=EVERYTHING, reason=reason)
    await name(browsing, tenant_id)
    assert (await shown(browsing, tenant_id))["named_at"] == NOW.isoformat()
    assert await notifier.contacts(tenant_id) == []
    purge = await notifier.start_wave_2(tenant_id)
    assert await notifier.deliveries(purge) == []


async def test_a_person_finds_it_and_is_forgotten_there_again_and_again(browsing: Browser) -> None:
    notifier = browsing.notifier
    tenant_id = await notifier.tenant("ada@c.example")
    await name(browsing, tenant_id)
    await name(browsing, (elsewhere := await notifier.tenant(AUDITOR)))
    index = index_of(notifier.keys, AUDITOR)
    async with notifier.units.begin() as uow:
        kept = await kept_of(uow, notifier.keys, index)
        [there, here] = sorted(kept.places, key=lambda place: place.card.name or "")
        assert (there.tenant_id, there.card.address, there.roles) == (tenant_id, AUDITOR, ())
        assert (here.tenant_id, here.card.name) == (elsewhere, "Ada Ex")
        assert there.gets_receipts
        assert here.gets_receipts
        copy = export(kept, "r", "Vendor", "c", "here", now=NOW)
        assert any(store.name == "receipt_addresses" for store in copy.stores)

    restored = await notifier.eraser.fetch("SELECT * FROM receipt_addresses ORDER BY tenant_id")
    await forget_person(notifier.units, index)
    assert await notifier.people(tenant_id) == [("Ada Ex", "ada@c.example")]
    assert await notifier.contacts(elsewhere) == []
    assert (await shown(browsing, tenant_id))["named_at"] is not None
    assert await request_store.erased_and_still_known(notifier.runtime, limit=9) == []
    async with notifier.units.begin() as uow:
        for row in restored:
            await uow.connection.execute(
                "UPDATE receipt_addresses SET contact_id = $2, address_index = $3"
                " WHERE tenant_id = $1",
                row["tenant_id"],
                row["contact_id"],
                row["address_index"],
            )
    assert await request_store.erased_and_still_known(notifier.runtime, limit=9) == [index]


async def test_a_merge_takes_it_along_unless_somebody_is_named_there(browsing: Browser) -> None:
    notifier = browsing.notifier
    for already in (None, "kept@c.example"):
        old, new = await notifier.tenant("ada@c.example"), await notifier.tenant()
        await name(browsing, old)
        if already:
            await name(browsing, new, already)
        purge = Purge(old)
        await notifier.read_receipt(purge)
        await notifier.obey(purge.wave_2(new))
        assert await notifier.move_people() == 1
        assert await notifier.erase() == 1
        kept = {address for _, address in await notifier.people(new)}
        assert kept == {"ada@c.example", already or AUDITOR}
        assert (await shown(browsing, new))["named_at"] is not None
    assert notifier.mails == []


async def test_it_changes_a_few_times_a_day_whatever_is_named(browsing: Browser) -> None:
    tenant_id = await browsing.notifier.tenant()
    for number in range(MOST_CHANGES - 1):
        await name(browsing, tenant_id, f"n{number}@c.example")
    assert (await call(browsing, "DELETE", tenant_id)).status_code == 204
    told = {"address": AUDITOR, "language": "en"}
    for method in ("PUT", "DELETE"):
        refused = await call(browsing, method, tenant_id, json=told)
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "86400"
    assert await browsing.notifier.contacts(tenant_id) == []
    browsing.notifier.clock.advance(timedelta(days=1))
    token = browsing.installer.token(tenant_id, browsing.notifier.clock.wall())
    async with browsing.notifier.client() as client:
        again = await client.put(PATH, json=told, headers={"authorization": f"Bearer {token}"})
    assert again.status_code == 204


async def test_what_is_no_address_is_refused_and_repeated_nowhere(browsing: Browser) -> None:
    tenant_id = await browsing.notifier.tenant()
    for address in (
        "",
        "ada",
        "ada@localhost",
        "a@b.c\r\nBcc: eve@c.example",
        "a b@c.example",
        "ä@c.example",
        "<ada@c.example>",
        f"{'a' * 65}@c.example",
        "a@c.example,b@c.example",
    ):
        refused = await call(
            browsing, "PUT", tenant_id, json={"address": address, "language": "en"}
        )
        assert refused.status_code == 422
        assert not address or address not in refused.text
    for body in (b"", b"[]", b'{"address": "a@c.example"}', b"\xff", b'{"address": 1}'):
        assert (await call(browsing, "PUT", tenant_id, content=body)).status_code == 400
    assert await browsing.notifier.contacts(tenant_id) == []


async def test_the_session_decides_and_who_is_going_is_left_alone(browsing: Browser) -> None:
    notifier = browsing.notifier
    tenant_id = await notifier.tenant()
    told = {"address": AUDITOR, "language": "en"}
    async with notifier.client() as client:
        for method in ("GET", "PUT", "DELETE"):
            assert (await client.request(method, PATH)).status_code == 401
        asked = await client.options(
            PATH,
            headers={
                "origin": PAGES,
                "access-control-request-method": "PUT",
                "access-control-request-headers": "authorization,content-type",
            },
        )
    assert asked.headers["access-control-allow-origin"] == PAGES
    assert (await call(browsing, "PUT", uuid4(), json=told)).status_code == 404
    await notifier.know(Tenant(tenant_id, "com.example.app", ClassState.PURGING))
    assert (await call(browsing, "PUT", tenant_id, json=told)).status_code == 410
    assert (await call(browsing, "GET", tenant_id)).status_code == 410
    assert suppressed(notifier.units) == {("route", "contacts"): 1}
