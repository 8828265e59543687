"""A person asks about their own data, proves by mail who they are, and is answered."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from playwright.async_api import Browser, expect
from prometheus_client import CollectorRegistry
from pypdf import PdfReader
from structlog.testing import capture_logs

from contracts.classes import DataClass
from contracts.suppressions import SuppressionState
from devstack.mail import Answer, MailSink, Moment
from devstack.postgres import Roles
from services.config.data_map import DATA_MAP as CONFIG
from services.installer.data_map import DATA_MAP as INSTALLER
from services.notifier import requests
from services.notifier.domain.people import Language
from services.notifier.domain.policies import Proof
from services.notifier.domain.requests import (
    LINK_LASTS,
    MOST_A_DAY,
    MOST_AN_HOUR,
    RECORD_KEPT,
    AnswerLinks,
    RequestKind,
    address_in,
    due_on,
    name_in,
)
from services.notifier.domain.suppressions import ALL_OPTIONAL, EVERYTHING, Reason
from services.notifier.jobs.policies import Policies
from services.notifier.jobs.requests import Requests
from services.notifier.store.suppressions import suppressions_of, take_over
from services.purger.data_map import DATA_MAP as PURGER
from tests.connect.serving import serving
from tests.notifier.builders import NOW, Notifier, Purge, dkim_file, notifier_of
from tests.notifier.office import a_row, open_office
from tests.notifier.policy_texts import publish_in_force
from tests.support.browser import browser

__all__ = ["browser"]

ADA, BOB = "Ada@c.example", "bob@c.example"
DAY = timedelta(days=1)
ASK, ANSWER = "/privacy/request", "/privacy/answer"


@pytest.fixture
async def client(notifier: Notifier) -> AsyncIterator[httpx2.AsyncClient]:
    async with notifier.client() as client:
        yield client


def index(notifier: Notifier, address: str = ADA) -> bytes:
    return requests.index_of(notifier.keys, address)


def links_of(notifier: Notifier) -> AnswerLinks:
    return AnswerLinks(notifier.keys.blind_index, "http://127.0.0.1")


async def asked(
    notifier: Notifier, client: httpx2.AsyncClient, kind: str, address: str = ADA
) -> str:
    """Ask by the page, and read the code in the mail."""
    before = len(notifier.mails)
    answer = await client.post(ASK, data={"address": address, "kind": kind})
    assert answer.status_code == 202, answer.text
    [mail] = notifier.mails[before:]
    assert mail.recipients == (address,)
    [line] = [line for line in mail.text.splitlines() if f"{ANSWER}#" in line]
    return line.strip().partition("#")[2]


async def records(notifier: Notifier) -> list[dict[str, Any]]:
    rows = await notifier.runtime.fetch("SELECT * FROM person_requests ORDER BY request_id")
    return [dict(row) for row in rows]


def jobs(notifier: Notifier, registry: CollectorRegistry | None = None) -> Requests:
    return Requests(notifier.units, registry or CollectorRegistry())


# -- the rules ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("received_at", "due"),
    [
        (datetime(2026, 11, 23, 12, tzinfo=UTC), date(2026, 12, 23)),
        (datetime(2026, 11, 23, 11, tzinfo=UTC), date(2026, 12, 22)),
        (date(2027, 1, 31), date(2027, 2, 28)),
        (date(2028, 1, 31), date(2028, 2, 29)),
    ],
)
def test_a_request_is_answered_within_a_month_of_the_earliest_date_that_it_has(
    received_at: datetime | date, due: date
) -> None:
    assert due_on(received_at) == due


@pytest.mark.parametrize(
    "typed",
    [
        pytest.param("", id="empty"),
        pytest.param("ada", id="no host"),
        pytest.param("ada@c", id="bare host"),
        pytest.param("a b@c.example", id="inner space"),
        pytest.param("ada@c.example\r\nBcc: x@y.example", id="header"),
        pytest.param("a\0@c.example", id="nul"),
        pytest.param("a" * 250 + "@c.example", id="long"),
        pytest.param("ada@c.example,bob@c.example", id="two"),
        pytest.param("äda@c.example", id="other letters"),
    ],
)
def test_what_is_no_address_is_none(typed: str) -> None:
    assert address_in(typed) is None


def test_what_is_typed_is_read_without_the_spaces_around_it() -> None:
    assert address_in(" Ada@c.example\t") == "Ada@c.example"
    assert name_in("  Ada Łukasz ") == "Ada Łukasz"
    assert [name_in(bad) for bad in ("", "  ", "a\0b", "a\nb", "x" * 201)] == [None] * 5


def a_hash(purpose: str, value: bytes) -> bytes:
    return (purpose.encode() + value + b"x" * 32)[:32]


LINKS = AnswerLinks(a_hash, "https://n.example/")
REQUEST = UUID("0199a1b2-0000-7000-8000-000000000001")


def test_a_link_keeps_its_code_from_every_server_and_is_read_again() -> None:
    page, _, token = LINKS.url(REQUEST).partition("#")
    assert page == LINKS.page == "https://n.example/privacy/answer"
    assert LINKS.read(token) == REQUEST


def test_every_changed_bit_of_a_code_is_seen() -> None:
    token = LINKS.token(REQUEST)
    raw = urlsafe_b64decode(token + "=" * (-len(token) % 4))
    for at in range(len(raw) * 8):
        forged = bytearray(raw)
        forged[at // 8] ^= 1 << at % 8
        assert LINKS.read(urlsafe_b64encode(bytes(forged)).rstrip(b"=").decode()) is None
    assert all(LINKS.read(token + more) is None for more in ("=", "A", " ", "\0"))


@given(
    st.one_of(
        st.text(max_size=150), st.binary(max_size=80).map(urlsafe_b64encode).map(bytes.decode)
    )
)
def test_no_text_is_read_as_a_code_of_ours(text: str) -> None:
    assert LINKS.read(text) is None


def test_no_other_service_keeps_people_as_an_export_says() -> None:
    for data_map in (INSTALLER, CONFIG, PURGER):
        kept = {table.data_class for table in data_map.tables}
        assert not kept & {DataClass.CONTACTS, DataClass.TICKETS}, data_map.service


# -- asking ---------------------------------------------------------------------------------------


async def test_the_answer_and_the_mail_are_the_same_whether_anybody_is_known(
    notifier: Notifier, client: httpx2.AsyncClient
) -> None:
    await notifier.tenant(ADA)
    pages = [
        (await client.post(ASK, data={"address": address, "kind": "access"})).text
        for address in (ADA, "nobody@elsewhere.example")
    ]
    assert pages[0] == pages[1]
    known, unknown = notifier.mails
    assert known.subject == unknown.subject
    assert len(known.text.splitlines()) == len(unknown.text.splitlines())
    assert "Ada Ex" not in known.text + known.html
    told = " ".join(known.text.split())
    assert "Answered at the latest 23 December 2026" in told
    assert "Good until 30 November 2026, 12:00 UTC" in told
    assert dict(known.headers)["To"] == ADA


async def test_the_mail_is_signed_like_every_other(
    notifier_roles: Roles, tmp_path: Path, sink: MailSink
) -> None:
    async with (
        notifier_of(notifier_roles, tmp_path, sink, dkim_file=dkim_file(tmp_path)) as signing,
        signing.client() as client,
    ):
        await asked(signing, client, "access", f"{uuid4().hex}@c.example")
    [mail] = sink.mailbox.messages()
    assert "DKIM-Signature" in dict(mail.headers)


async def test_a_request_is_recorded_without_the_address(
    notifier: Notifier, client: httpx2.AsyncClient
) -> None:
    with capture_logs() as logs:
        await asked(notifier, client, "erasure")
    [record] = await records(notifier)
    assert (record["kind"], record["received_at"]) == ("erasure", NOW)
    assert (record["due_on"], record["answered_at"]) == (date(2026, 12, 23), None)
    assert record["address_index"] == index(notifier)
    assert "c.example" not in (await notifier.everything()).lower() + str(logs).lower()


async def test_what_cannot_be_asked_is_said_so_and_leaves_nothing(
    notifier: Notifier, client: httpx2.AsyncClient
) -> None:
    for form in (
        {},
        {"address": "ada", "kind": "access"},
        {"address": "ada@c.example\0", "kind": "access"},
        {"address": "a" * 5000 + "@c.example", "kind": "access"},
        {"address": "ada@c.example\r\nBcc: eve@d.example", "kind": "access"},
        {"address": ADA},
        {"address": ADA, "kind": "everything"},
    ):
        answer = await client.post(ASK, data=form)
        assert answer.status_code == 400, form
        assert 'role="alert"' in answer.text
        assert "c.example" not in answer.text
    assert (await records(notifier), notifier.mails) == ([], [])


async def test_nobody_is_mailed_more_than_a_few_links_a_day(
    notifier: Notifier, client: httpx2.AsyncClient
) -> None:
    pages = {
        (await client.post(ASK, data={"address": address, "kind": "access"})).text
        for address in (ADA, ADA.lower(), ADA.upper(), ADA, ADA)
    }
    assert len(pages) == 1
    assert len(notifier.mails) == len(await records(notifier)) == MOST_A_DAY
    notifier.clock.advance(DAY)
    await asked(notifier, client, "access")


async def test_a_flood_of_requests_is_stopped_and_staff_can_still_note_theirs(
    notifier: Notifier, client: httpx2.AsyncClient
) -> None:
    await notifier.runtime.execute(
        """
        INSERT INTO person_requests (request_id, address_index, kind, received_at, due_on, by_staff)
        SELECT gen_random_uuid(), sha256(n::text::bytea), 'access', $1, '2026-12-23', false
          FROM generate_series(1, $2) AS n
        """,
        NOW,
        MOST_AN_HOUR,
    )
    answer = await client.post(ASK, data={"address": ADA, "kind": "access"})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "3600")
    assert notifier.mails == []
    async with notifier.units.begin() as uow:
        await requests.note(uow, index(notifier), RequestKind.ACCESS, received_on=None)


async def test_a_mail_that_is_not_taken_is_said_so_unless_that_tells_of_the_mailbox(
    notifier: Notifier, client: httpx2.AsyncClient
) -> None:
    for answer, moment, status, kept in (
        (Answer.DEFER, Moment.BEFORE_DATA, 503, 0),
        (Answer.DEFER, Moment.AFTER_DATA, 503, 0),
        (Answer.REFUSE, Moment.BEFORE_DATA, 202, 0),
        # Nobody knows whether it arrived, and its link must be good if it did.
        (Answer.DROP, Moment.AFTER_DATA, 202, 1),
    ):
        notifier.sink.mailbox.fail_next(answer, moment)
        page = await client.post(ASK, data={"address": ADA, "kind": "access"})
        assert page.status_code == status
        assert ("could not be sent" in page.text) == (status == 503)
        assert len(await records(notifier)) == kept


# -- the link -------------------------------------------------------------------------------------


async def test_to_look_changes_nothing_and_shows_nothing_without_the_code(
    notifier: Notifier, client: httpx2.AsyncClient
) -> None:
    await notifier.tenant(ADA)
    code = await asked(notifier, client, "erasure")
    before = await notifier.everything()
    page = await client.get(ANSWER)
    assert page.status_code == 200
    assert "Ada" not in page.text
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["referrer-policy"] == "no-referrer"
    shown = await client.post(ANSWER, data={"code": code})
    assert "Ada Ex" in shown.text
    assert await notifier.everything() == before


async def test_forged_ended_and_strange_codes_lead_to_one_page(
    notifier: Notifier, client: httpx2.AsyncClient
) -> None:
    await notifier.tenant(ADA)
    code = await asked(notifier, client, "erasure")
    forged = code[:-2] + ("A" if code[-2] != "A" else "B") + code[-1]
    unknown = links_of(notifier).token(uuid4())
    notifier.clock.advance(LINK_LASTS)
    answers = [
        await client.post(ANSWER, data={"code": each, "act": act})
        for each in (code, forged, unknown, "", "\0", "x" * 10_000)
        for act in ("look", "erase", "json", "correct")
    ]
    assert {answer.status_code for answer in answers} == {404}
    assert len({answer.text for answer in answers}) == 1
    assert len(await notifier.contacts(await _only_tenant(notifier))) == 1


async def _only_tenant(notifier: Notifier) -> UUID:
    found: UUID = await notifier.worker.fetchval("SELECT tenant_id FROM tenants")
    return found


async def test_a_code_does_what_was_asked_and_nothing_else(
    notifier: Notifier, client: httpx2.AsyncClient
) -> None:
    tenant_id = await notifier.tenant(ADA)
    code = await asked(notifier, client, "access")
    for act in ("erase", "object", "correct"):
        form = {"code": code, "act": act, "name": "Eve"}
        assert (await client.post(ANSWER, data=form)).status_code == 410
    assert await notifier.people(tenant_id) == [("Ada Ex", ADA)]
    async with notifier.units.begin() as uow:
        assert await suppressions_of(uow.connection, index(notifier)) == set()


# -- access ---------------------------------------------------------------------------------------


async def test_a_copy_holds_everything_over_all_tenants_and_nobody_else(
    notifier: Notifier, client: httpx2.AsyncClient, tmp_path: Path
) -> None:
    async with open_office(notifier, tmp_path) as office:
        await office.tenant("1")
        office.holds(a_row("1", "ada", "bob", country="Germany"))
        await office.read()
    await notifier.tenant(ADA)
    await publish_in_force(notifier)
    await Policies(notifier.units, notifier.worker, DAY).plan()
    await notifier.mail.run()
    async with notifier.units.begin() as uow:
        await requests.decline_news(uow, index(notifier))
    code = await asked(notifier, client, "access")

    answer = await client.post(ANSWER, data={"code": code, "act": "json"})

    assert answer.status_code == 200
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["cache-control"] == "no-store"
    told = answer.json()
    assert sorted((each["name"], each["address"]) for each in told["contacts"]) == [
        ("Ada Ex", "Ada@c.example"),
        ("Ada Ex", "ada@c.example"),
    ]
    [reported] = [each for each in told["contacts"] if each["licences"]]
    assert reported["licences"] == [{"number": "1", "role": "technical"}]
    assert (reported["language"], reported["product"], reported["region"]) == ("de", "jira", "emea")
    assert [(each["kind"], each["state"]) for each in told["messages"]] == [
        ("policy-change", "sent")
    ]
    assert [each["outcome"] for each in told["policy_changes"]] == ["accepted"]
    assert [each["scope"] for each in told["suppressions"]] == [ALL_OPTIONAL]
    assert [each["kind"] for each in told["requests"]] == ["access"]
    assert told["reference"] == told["requests"][0]["reference"]
    assert {"contacts", "policy_evidence", "mail queue"} <= {
        each["name"] for each in told["stores"]
    }
    assert "bob" not in answer.text.lower()
    [record] = await records(notifier)
    assert (record["answered_by"], record["fetched"]) == ("person", ["json"])


async def test_each_copy_is_given_once(notifier: Notifier, client: httpx2.AsyncClient) -> None:
    await notifier.tenant(ADA)
    code = await asked(notifier, client, "access")
    for act, kind in (("json", "application/json"), ("pdf", "application/pdf")):
        first = await client.post(ANSWER, data={"code": code, "act": act})
        again = await client.post(ANSWER, data={"code": code, "act": act})
        assert (first.status_code, first.headers["content-type"]) == (200, kind)
        assert again.status_code == 410
        assert "Ada" not in again.text
    after = await client.post(ANSWER, data={"code": code})
    assert after.status_code == 410


async def test_the_pdf_says_the_same_in_letters_that_it_has(
    notifier: Notifier, client: httpx2.AsyncClient
) -> None:
    tenant_id = await notifier.tenant()
    await notifier.post(tenant_id=str(tenant_id), name="Łukasz Žižek Ωμέγα 山", address=ADA)
    code = await asked(notifier, client, "access")
    answer = await client.post(ANSWER, data={"code": code, "act": "pdf"})
    document = PdfReader(BytesIO(answer.content))
    text = " ".join(" ".join(page.extract_text() for page in document.pages).split())
    assert "Łukasz Žižek Ωμέγα [U+5C71]" in text
    assert ADA in text
    assert "com.example.app" in text
    assert "page 1 of" in text


async def test_who_is_not_known_is_told_so(notifier: Notifier, client: httpx2.AsyncClient) -> None:
    await notifier.tenant(BOB)
    code = await asked(notifier, client, "access", "eve@d.example")
    told = (await client.post(ANSWER, data={"code": code, "act": "json"})).json()
    assert (told["contacts"], told["messages"], told["suppressions"]) == ([], [], [])


async def test_what_cannot_be_read_any_more_is_said_so(
    notifier: Notifier, client: httpx2.AsyncClient
) -> None:
    tenant_id = await notifier.tenant(ADA)
    async with notifier.units.begin() as uow:
        await notifier.keys.destroy(uow.connection, tenant_id)
    code = await asked(notifier, client, "access")
    told = (await client.post(ANSWER, data={"code": code, "act": "json"})).json()
    assert [each["name"] for each in told["contacts"]] == [None]
    pdf = await client.post(ANSWER, data={"code": code, "act": "pdf"})
    assert pdf.status_code == 200


# -- correction and objection ---------------------------------------------------------------------


async def test_a_correction_holds_in_every_tenant_and_against_the_report(
    notifier: Notifier, client: httpx2.AsyncClient, tmp_path: Path
) -> None:
    async with open_office(notifier, tmp_path) as office:
        reported = await office.tenant("1")
        office.holds(a_row("1", "ada", "bob"))
        await office.read()
        by_hand = await notifier.tenant(ADA)
        code = await asked(notifier, client, "correction")
        form = {"code": code, "act": "correct", "name": "Ada Lovelace", "language": "de"}
        assert (await client.post(ANSWER, data=form)).status_code == 200
        assert (await client.post(ANSWER, data=form)).status_code == 410

        notifier.clock.advance(DAY)
        assert await office.read() == 2
        people = await notifier.people(reported)
        languages = {language for _, language in await office.audience(by_hand)}
    assert people == [("Ada Lovelace", "ada@c.example"), ("Bob Ex", "bob@c.example")]
    assert await notifier.people(by_hand) == [("Ada Lovelace", ADA)]
    assert languages == {Language.GERMAN}


async def test_a_correction_goes_with_a_person_who_moves(
    notifier: Notifier, client: httpx2.AsyncClient
) -> None:
    source, target = await notifier.tenant(ADA), await notifier.tenant()
    code = await asked(notifier, client, "correction")
    form = {"code": code, "act": "correct", "name": "Ada Lovelace", "language": "de"}
    await client.post(ANSWER, data=form)
    await notifier.obey(Purge(source).wave_2(merged_into=target))
    assert await notifier.move_people() == 1
    await notifier.post(tenant_id=str(target), name="Ada Ex", address=ADA)
    assert await notifier.people(target) == [("Ada Lovelace", ADA)]
    row = await notifier.worker.fetchrow(
        "SELECT language FROM audience WHERE tenant_id = $1", target
    )
    assert row is not None
    assert row["language"] == "de"


async def test_what_cannot_be_corrected_is_said_so_and_may_be_tried_again(
    notifier: Notifier, client: httpx2.AsyncClient
) -> None:
    tenant_id = await notifier.tenant(ADA)
    code = await asked(notifier, client, "correction")
    for form in (
        {},
        {"name": " "},
        {"name": "a\0b"},
        {"name": "x" * 201},
        {"name": "Ada", "language": "fr"},
    ):
        answer = await client.post(ANSWER, data={"code": code, "act": "correct", **form})
        assert answer.status_code == 400, form
        assert 'role="alert"' in answer.text
    assert await notifier.people(tenant_id) == [("Ada Ex", ADA)]
    assert (await records(notifier))[0]["answered_at"] is None


async def test_an_objection_ends_news_and_nothing_else(
    notifier: Notifier, client: httpx2.AsyncClient
) -> None:
    await notifier.tenant(ADA)
    code = await asked(notifier, client, "objection")
    assert (await client.post(ANSWER, data={"code": code, "act": "object"})).status_code == 200
    async with notifier.units.begin() as uow:
        against = await suppressions_of(uow.connection, index(notifier))
    assert against == {(ALL_OPTIONAL, Reason.OPTED_OUT)}


# -- erasure --------------------------------------------------------------------------------------


async def test_an_erasure_reaches_every_tenant_at_once_and_neighbours_stay(
    notifier: Notifier, client: httpx2.AsyncClient
) -> None:
    one, other = await notifier.tenant(ADA, BOB), await notifier.tenant(ADA.lower())
    await publish_in_force(notifier)
    planning = Policies(notifier.units, notifier.worker, DAY)
    assert await planning.plan() == 2
    code = await asked(notifier, client, "erasure")

    answer = await client.post(ANSWER, data={"code": code, "act": "erase"})

    assert answer.status_code == 200
    assert await notifier.people(one) == [("Ada Ex", BOB)]
    assert await notifier.contacts(other) == []
    audience = await notifier.worker.fetch("SELECT address_index FROM audience")
    assert {row["address_index"] for row in audience} == {index(notifier, BOB)}
    async with notifier.units.begin() as uow:
        assert (EVERYTHING, Reason.ERASED) in await suppressions_of(uow.connection, index(notifier))
    before = len(notifier.mails)
    assert await planning.plan_joiners() == 0
    await notifier.mail.run()
    assert [mail.recipients for mail in notifier.mails[before:]] == [(BOB,)]
    proofs = await notifier.worker.fetch("SELECT address_index, outcome FROM policy_evidence")
    assert {(row["address_index"], row["outcome"]) for row in proofs} == {
        (index(notifier), Proof.SUPPRESSED),
        (index(notifier, BOB), Proof.ACCEPTED),
    }
    assert (await client.post(ANSWER, data={"code": code, "act": "erase"})).status_code == 410


async def test_no_purge_waits_for_the_mail_of_who_was_erased(
    notifier: Notifier, client: httpx2.AsyncClient
) -> None:
    purge = await notifier.start_wave_2(await notifier.tenant(ADA))
    assert await notifier.states(purge) == ["planned"]
    code = await asked(notifier, client, "erasure")
    await client.post(ANSWER, data={"code": code, "act": "erase"})
    assert await notifier.states(purge) == []
    await notifier.eraser_job().run()
    assert len(await notifier.answers(purge.tenant_id)) == 1


async def test_who_was_erased_is_forgotten_again_after_a_restore(
    notifier: Notifier, client: httpx2.AsyncClient
) -> None:
    code = await asked(notifier, client, "erasure")
    await client.post(ANSWER, data={"code": code, "act": "erase"})
    [payload] = [
        row["payload"]
        for row in await notifier.worker.fetch("SELECT payload FROM outbox ORDER BY position")
    ]
    # The dump is older: it has the contact, and no suppression.
    await notifier.worker.execute("DELETE FROM suppressions")
    tenant_id = await notifier.tenant(ADA, BOB)
    async with notifier.units.begin() as uow:
        await take_over(uow.connection, [SuppressionState.decode(payload)])

    assert await jobs(notifier).forget_again() == 1
    assert await jobs(notifier).forget_again() == 0
    assert await notifier.people(tenant_id) == [("Ada Ex", BOB)]


# -- the record -----------------------------------------------------------------------------------


async def test_records_end_and_unused_links_are_forgotten_sooner(
    notifier: Notifier, client: httpx2.AsyncClient
) -> None:
    code = await asked(notifier, client, "objection")
    await asked(notifier, client, "access", BOB)
    await client.post(ANSWER, data={"code": code, "act": "object"})
    async with notifier.units.begin() as uow:
        await requests.note(uow, index(notifier), RequestKind.ACCESS, received_on=None)
    tidy = jobs(notifier).tidy
    await tidy()
    assert len(await records(notifier)) == 3
    notifier.clock.advance(LINK_LASTS + DAY)
    await tidy()
    assert sorted(each["kind"] for each in await records(notifier)) == ["access", "objection"]
    notifier.clock.advance(RECORD_KEPT)
    await tidy()
    [still_open] = await records(notifier)
    assert still_open["by_staff"]


async def test_overdue_requests_are_a_figure_and_an_error(notifier: Notifier) -> None:
    registry = CollectorRegistry()
    counting = jobs(notifier, registry)
    async with notifier.units.begin() as uow:
        for received_on in (date(2026, 10, 1), date(2026, 11, 20)):
            await requests.note(uow, index(notifier), RequestKind.ERASURE, received_on=received_on)
    with capture_logs() as logs:
        await counting.count()
    assert registry.get_sample_value("keepword_person_requests_open") == 2
    assert registry.get_sample_value("keepword_person_requests_overdue") == 1
    assert [(line["log_level"], line["overdue"]) for line in logs] == [("error", 1)]


# -- in a browser ---------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_somebody_is_erased_by_keyboard_on_a_phone(
    notifier: Notifier, browser: Browser, scheme: Any
) -> None:
    tenant_id = await notifier.tenant(ADA)
    context = await browser.new_context(color_scheme=scheme, viewport={"width": 320, "height": 640})
    page = await context.new_page()
    errors: list[str] = []
    page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    width = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    async with serving(notifier.app) as site:
        await page.goto(f"{site}{ASK}")
        await page.keyboard.press("Tab")
        await page.keyboard.type(ADA)
        await page.keyboard.press("Tab")
        await page.keyboard.press("ArrowUp")
        assert await page.evaluate(width) == 0
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("status")).to_contain_text("a mail goes to it now")

        [mail] = notifier.mails
        [line] = [line for line in mail.text.splitlines() if f"{ANSWER}#" in line]
        await page.goto(f"{site}{ANSWER}#{line.partition('#')[2]}")
        assert "#" not in page.url
        await page.get_by_role("button", name="Go on").focus()
        await page.keyboard.press("Enter")
        button = page.get_by_role("button", name="Erase my data")
        await button.focus()
        assert await page.evaluate(width) == 0
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="Done")).to_be_visible()
    assert await notifier.contacts(tenant_id) == []
    assert errors == []
    await context.close()
