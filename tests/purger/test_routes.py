"""What purger shows over HTTP."""

from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from structlog.testing import capture_logs

from cli.audit import NotVerified, check_receipt, fetch_ledger, public_keys_of
from contracts.ledger import LedgerEntry, verify_chain
from contracts.purges import PurgeRequested
from services.purger.ledger_key import LedgerKey
from tests.purger.builders import DAY, LEFT_AT, a_tenant, answer
from tests.purger.conftest import Purger


async def test_a_receipt_is_shown_to_whoever_has_its_code(
    purger: Purger, client: httpx2.AsyncClient
) -> None:
    (contacts,) = await purger.finish_wave_one()
    path = f"/receipts/{contacts.receipt_code}"

    first = (await client.get(path)).json()
    await purger.hear(answer(contacts, purger.clock.now()))
    both = (await client.get(path)).json()

    assert first["closed"] is False
    assert [entry["receipt"]["stage"] for entry in first["entries"]] == ["erased"]
    assert both["closed"] is True
    assert [entry["receipt"]["stage"] for entry in both["entries"]] == ["erased", "closed"]
    assert str(contacts.tenant_id) not in str(both)


async def test_an_unknown_code_is_a_problem(client: httpx2.AsyncClient) -> None:
    answered = await client.get("/receipts/AAAAAAAAAAAAAAAAAAAAAAAA")

    assert answered.status_code == 404
    assert answered.headers["content-type"] == "application/problem+json"


async def test_anyone_can_verify_the_ledger_from_what_is_shown(
    purger: Purger, client: httpx2.AsyncClient
) -> None:
    await purger.finish_wave_one()
    shown = await client.get("/ledger/public-key")
    public_key = load_pem_public_key(shown.content)
    assert isinstance(public_key, Ed25519PublicKey)

    page = (await client.get("/ledger/entries")).json()
    rest = (await client.get("/ledger/entries", params={"after": 1})).json()

    entries = [LedgerEntry.model_validate(entry) for entry in page["entries"]]
    verify_chain(entries, {shown.headers["x-key-id"]: public_key})
    assert len(entries) == page["head_number"] == 3
    assert entries[-1].hash == page["head_hash"]
    assert rest["entries"] == page["entries"][1:]


async def test_a_page_of_the_ledger_begins_at_a_number_from_zero(
    client: httpx2.AsyncClient,
) -> None:
    for after in ("-1", "x", "99999999999999999999"):
        answered = await client.get("/ledger/entries", params={"after": after})
        assert answered.status_code == 400


async def hold(purger: Purger) -> None:
    await purger.hear(a_tenant(left_at=LEFT_AT))
    await purger.sweeps.ask_for_due_purges()
    purger.clock.jump(170 * DAY)
    await purger.sweeps.ask_for_due_purges()


async def test_the_brake_is_released_by_two_people_and_not_by_one_twice(
    purger: Purger, client: httpx2.AsyncClient, woken: list[str]
) -> None:
    await hold(purger)

    for name in ("Ada Lovelace", " ada  lovelace ", "Ada Lovelace"):
        answered = await client.post("/staff/brake/releases", json={"name": name})
        assert answered.json()["engaged"] is True
    await purger.sweeps.ask_for_due_purges()
    assert await purger.said(PurgeRequested) == []
    assert woken == []
    shown = (await client.get("/staff/brake")).json()
    assert shown["reason"] == "clock-jumped"
    assert [signature["name"] for signature in shown["releases"]] == ["Ada Lovelace"]

    released = await client.post("/staff/brake/releases", json={"name": "Grace Hopper"})

    assert released.json()["engaged"] is False
    assert [s["name"] for s in released.json()["releases"]] == ["Ada Lovelace", "Grace Hopper"]
    assert woken == ["ask for due purges"]
    await purger.sweeps.ask_for_due_purges()
    assert len(await purger.said(PurgeRequested)) == 1


async def test_who_released_one_holding_has_not_released_the_next(
    purger: Purger, client: httpx2.AsyncClient
) -> None:
    await hold(purger)
    for name in ("Ada", "Grace"):
        await client.post("/staff/brake/releases", json={"name": name})
    purger.clock.jump(2 * DAY)
    await purger.sweeps.ask_for_due_purges()

    shown = (await client.get("/staff/brake")).json()

    assert shown["engaged"] is True
    assert shown["releases"] == []


async def test_a_brake_that_does_not_hold_cannot_be_released(client: httpx2.AsyncClient) -> None:
    answered = await client.post("/staff/brake/releases", json={"name": "Ada"})

    assert answered.status_code == 409
    assert (await client.get("/staff/brake")).json()["engaged"] is False


@pytest.mark.parametrize("body", [{}, {"name": ""}, {"name": "   "}, {"name": "x" * 201}])
async def test_a_release_needs_a_name(client: httpx2.AsyncClient, body: dict[str, str]) -> None:
    answered = await client.post("/staff/brake/releases", json=body)

    assert answered.status_code == 400


async def test_entries_signed_before_the_key_was_changed_verify_with_the_keys_shown(
    purger: Purger, client: httpx2.AsyncClient
) -> None:
    orders = await purger.begin()
    old = purger.keys[-1]
    purger.keys.append(LedgerKey(Ed25519PrivateKey.generate(), (old.private_key.public_key(),)))
    for order in orders:
        await purger.hear(answer(order, purger.clock.now()))

    keys = public_keys_of((await client.get("/ledger/public-key")).content)

    ledger = await fetch_ledger(client, "http://purger")
    assert [entry.key_id for entry in ledger.entries[:2]] == [old.key_id, purger.keys[-1].key_id]
    check_receipt(ledger.entries, ledger, keys)
    with pytest.raises(NotVerified, match="not known"):
        check_receipt(ledger.entries, ledger, {old.key_id: old.private_key.public_key()})


async def pull(client: httpx2.AsyncClient, name: str = "Ada", **body: str) -> Any:
    return (await client.post("/staff/brake/pulls", json={"name": name, **body})).json()


async def test_one_person_pulls_the_brake_and_no_purge_starts(
    purger: Purger, client: httpx2.AsyncClient
) -> None:
    await purger.hear(a_tenant(left_at=LEFT_AT))
    await purger.sweeps.ask_for_due_purges()
    pulled = await pull(client, " Ada ", reason="wrong dates in a report")
    purger.clock.advance(170 * DAY)

    await purger.sweeps.ask_for_due_purges()

    assert await purger.said(PurgeRequested) == []
    shown = (await client.get("/staff/brake")).json()
    assert shown == pulled
    assert (shown["engaged"], shown["reason"], shown["pulled_by"], shown["pulled_because"]) == (
        True,
        "pulled",
        "Ada",
        "wrong dates in a report",
    )
    # Whoever pulled it may be one of the two.
    for name in ("Ada", "Grace"):
        await client.post("/staff/brake/releases", json={"name": name})
    await purger.sweeps.ask_for_due_purges()
    assert len(await purger.said(PurgeRequested)) == 1


async def test_a_pull_while_the_brake_holds_begins_the_holding_anew(
    purger: Purger, client: httpx2.AsyncClient
) -> None:
    await hold(purger)
    await client.post("/staff/brake/releases", json={"name": "Grace"})

    first, second = await pull(client), await pull(client, "Alan")

    assert first["releases"] == second["releases"] == []
    assert first["engaged_at"] < second["engaged_at"]
    assert second["pulled_by"] == "Alan"
    signed = await client.post("/staff/brake/releases", json={"name": "Edsger"})
    assert signed.json()["engaged"] is True


async def test_a_brake_that_engages_by_itself_was_pulled_by_nobody(
    purger: Purger, client: httpx2.AsyncClient
) -> None:
    await pull(client)
    for name in ("Ada", "Grace"):
        await client.post("/staff/brake/releases", json={"name": name})
    await hold(purger)

    shown = (await client.get("/staff/brake")).json()

    assert (shown["reason"], shown["pulled_by"]) == ("clock-jumped", None)


async def test_a_pull_names_nobody_in_the_log(client: httpx2.AsyncClient) -> None:
    with capture_logs() as lines:
        await pull(client, "Ada Lovelace", reason="a customer called")

    assert [line["event"] for line in lines] == ["brake pulled"]
    assert "Ada" not in str(lines)
    assert "customer" not in str(lines)


@pytest.mark.parametrize(
    "body", [{}, {"name": " "}, {"name": "x" * 201}, {"name": "Ada", "reason": "x" * 501}]
)
async def test_a_pull_needs_a_name_and_few_words(
    client: httpx2.AsyncClient, body: dict[str, str]
) -> None:
    answered = await client.post("/staff/brake/pulls", json=body)

    assert answered.status_code == 400
    assert (await client.get("/staff/brake")).json()["engaged"] is False


# -- the receipt as a page ---------------------------------------------------------------------

BROWSER = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


async def page_of(client: httpx2.AsyncClient, code: str | None) -> str:
    answered = await client.get(f"/receipts/{code}", headers=BROWSER)
    assert answered.status_code == 200
    assert answered.headers["content-type"] == "text/html; charset=utf-8"
    return answered.text


async def test_a_browser_gets_a_page_that_says_what_is_open_until_all_is_erased(
    purger: Purger, client: httpx2.AsyncClient
) -> None:
    (contacts,) = await purger.finish_wave_one()

    first = await page_of(client, contacts.receipt_code)
    await purger.hear(answer(contacts, purger.clock.now(), rows=1))
    last = await page_of(client, contacts.receipt_code)

    assert "Everything is erased." not in first
    assert "What is still open" in first
    assert "<li>People: the contacts of the licence" in first
    assert "Everything is erased." in last
    assert "What is still open" not in last
    assert "1 record, on" in last
    assert "3 records, on" in last
    assert "entry 2" in last
    assert "entry 4" in last
    assert f"keepword receipts verify {contacts.receipt_code} --purger http://purger" in last
    for page in (first, last):
        assert str(contacts.tenant_id) not in page
        assert "<script" not in page


async def test_what_is_open_after_its_last_day_is_called_late(
    purger: Purger, client: httpx2.AsyncClient
) -> None:
    (contacts,) = await purger.finish_wave_one()
    purger.clock.set((await purger.state()).plans[0].erase_by)

    page = await page_of(client, contacts.receipt_code)

    assert "Not everything is erased, and it is late." in page
    assert "Everything is erased." not in page


async def test_a_page_loads_nothing_but_our_own_style_and_names_no_referrer(
    purger: Purger, client: httpx2.AsyncClient
) -> None:
    (contacts,) = await purger.finish_wave_one()

    answered = await client.get(f"/receipts/{contacts.receipt_code}", headers=BROWSER)

    policy = answered.headers["content-security-policy"].split("; ")
    assert policy[0] == "default-src 'none'"
    assert all(part.endswith(("'none'", "'self'")) for part in policy)
    assert answered.headers["referrer-policy"] == "no-referrer"
    assert answered.headers["cache-control"] == "no-store"
    assert "http://" not in answered.text.replace("--purger http://purger", "")
    assert "https://" not in answered.text
    style = await client.get("/pages/purger.css")
    assert style.headers["content-type"] == "text/css; charset=utf-8"
    again = await client.get("/pages/purger.css", headers={"if-none-match": style.headers["etag"]})
    assert again.status_code == 304


async def test_a_program_that_takes_anything_gets_json(
    purger: Purger, client: httpx2.AsyncClient
) -> None:
    (contacts,) = await purger.finish_wave_one()

    for accept in ("*/*", "application/json"):
        answered = await client.get(
            f"/receipts/{contacts.receipt_code}", headers={"accept": accept}
        )
        assert answered.json()["receipt_code"] == contacts.receipt_code


async def test_an_unknown_code_gets_a_page_that_says_so(client: httpx2.AsyncClient) -> None:
    answered = await client.get("/receipts/AAAAAAAAAAAAAAAAAAAA<b>", headers=BROWSER)

    assert answered.status_code == 404
    assert "There is no receipt under this address" in answered.text
    assert "<b>" not in answered.text


async def test_a_tenants_dates_are_explained_in_json(
    purger: Purger, client: httpx2.AsyncClient
) -> None:
    tenant = a_tenant(left_at=LEFT_AT)
    await purger.hear(tenant)

    (told,) = (await client.get(f"/staff/tenants/{tenant.tenant_id}/purges")).json()

    assert told["event"] == "The customer left on 10 March 2026 at 09:30 UTC."
    assert [each["date"] for each in told["sums"]] == ["deadline", "erase_by", "start_at"]
