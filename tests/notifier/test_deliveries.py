"""Receipts on their way: once each, whatever the mail server and our own process do."""

import asyncio
import io
import logging
import re
from collections.abc import Iterator
from datetime import timedelta
from email import message_from_bytes, policy
from typing import Any
from uuid import uuid4

import aiosmtplib
import pytest
import structlog

from chassis import logs
from contracts.classes import DataClass
from devstack.mail import Answer, Moment
from services.notifier.domain.deliveries import Deferred
from services.notifier.domain.people import Recipient
from services.notifier.domain.receipts import Receipt
from services.notifier.letters.letter import Envelope, Stationery
from services.notifier.letters.receipts import Receipts
from services.notifier.store import deliveries as store
from tests.notifier.builders import CODE, NOW, PURGER, SENDER, Notifier, Purge, a_step
from tests.notifier.specimens import sheets_of

MINUTE = timedelta(minutes=1)
RECEIPTS = Receipts(Stationery(sender=SENDER, vendor_name="Vendor"), sheets_of(None), PURGER)
ENVELOPE = Envelope("<1@vendor.example>", NOW)


def message_ids(notifier: Notifier) -> list[str]:
    return [dict(mail.headers)["Message-ID"] for mail in notifier.mails]


async def test_a_receipt_is_mailed_once_to_each_contact(notifier: Notifier) -> None:
    tenant_id = await notifier.tenant("ada@c.example", "bob@c.example")
    purge = await notifier.start_wave_2(tenant_id)

    assert await notifier.mail.run() == 2
    assert await notifier.mail.run() == 0
    assert sorted(mail.recipients for mail in notifier.mails) == [
        ("ada@c.example",),
        ("bob@c.example",),
    ]
    assert len(set(message_ids(notifier))) == 2
    for row in await notifier.deliveries(purge):
        assert (row["state"], row["status_code"], row["accepted_at"]) == ("sent", 250, NOW)


async def test_a_receipt_says_what_was_erased_and_how_to_verify_it(notifier: Notifier) -> None:
    await notifier.start_wave_2(await notifier.tenant("ada@c.example"))
    await notifier.mail.run()
    (mail,) = notifier.mails
    assert mail.sender == SENDER
    assert "erased" in mail.subject
    assert "Our app com.example.app is no longer in use with you." in mail.text
    for body in (mail.text, mail.html):
        assert "Ada Ex" in body
        assert "com.example.app" in body
        assert CODE in body
        assert f"{PURGER}/receipts/{CODE}" in body
        assert f"{PURGER}/ledger/public-key" in body
        for data_class in ("installation", "content", "errors", "tickets", "contacts"):
            assert data_class in body
        assert "12" in body
        assert "2026-11-23 12:00 UTC" in body
    assert "12 records" in mail.text
    headers = dict(mail.headers)
    assert headers["Auto-Submitted"] == "auto-generated"
    assert "List-Unsubscribe" not in headers


async def test_a_receipt_loads_nothing_and_follows_nobody(notifier: Notifier) -> None:
    await notifier.start_wave_2(await notifier.tenant("ada@c.example"))
    await notifier.mail.run()
    (mail,) = notifier.mails
    assert not re.search(r"(?i)<(img|script|link|iframe)|src=|url\(", mail.html)
    assert set(re.findall(r"https?://[^\s\"<]+", mail.html + mail.text)) <= {
        f"{PURGER}/receipts/{CODE}",
        f"{PURGER}/receipts/{CODE}.",
        f"{PURGER}/receipts/{CODE}</a>.",
        f"{PURGER}/ledger/public-key",
    }


def test_a_name_cannot_break_out_of_a_letter() -> None:
    letter = RECEIPTS.write(
        Receipt(
            CODE,
            (a_step("erase-jira", "notifier", {}, erased_at=None, open=True),),
        ),
        Recipient('Zoë "<script>", Ltd. <x@y.example>', "zoe@c.example", None),
        ENVELOPE,
    )
    assert letter.content.isascii()
    message = message_from_bytes(letter.content, policy=policy.default)
    (recipient,) = message["To"].addresses
    assert (recipient.addr_spec, recipient.display_name) == (
        "zoe@c.example",
        'Zoë "<script>", Ltd. <x@y.example>',
    )
    html = message.get_body(("html",))
    assert html is not None
    assert "<script>" not in html.get_content()
    assert "erase-jira" in html.get_content()


async def test_a_receipt_waits_until_the_ledger_says_what_is_in_it(notifier: Notifier) -> None:
    purge = Purge(await notifier.tenant("ada@c.example"))
    await notifier.obey(purge.wave_2())
    assert await notifier.mail.run() == 0
    await notifier.read_receipt(purge)
    assert await notifier.mail.run() == 1


async def test_a_batch_goes_over_one_connection(
    notifier: Notifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections = 0
    connect = aiosmtplib.SMTP.connect

    async def counted(self: aiosmtplib.SMTP, **options: Any) -> Any:
        nonlocal connections
        connections += 1
        return await connect(self, **options)

    monkeypatch.setattr(aiosmtplib.SMTP, "connect", counted)
    addresses = [f"p{n}@c.example" for n in range(6)]
    await notifier.start_wave_2(await notifier.tenant(*addresses))
    # One that is refused does not cost the others their connection.
    notifier.sink.mailbox.fail_next(Answer.REFUSE, Moment.BEFORE_DATA)
    assert await notifier.mail.run() == 6
    assert (connections, len(notifier.mails)) == (1, 5)


async def test_workers_side_by_side_send_each_receipt_once(notifier: Notifier) -> None:
    addresses = [f"p{n}@c.example" for n in range(12)]
    await notifier.start_wave_2(await notifier.tenant(*addresses))
    tried = await asyncio.gather(*(notifier.mail.run() for _ in range(4)))
    assert sum(tried) == 12
    assert sorted(mail.recipients[0] for mail in notifier.mails) == sorted(addresses)


@pytest.mark.parametrize("moment", list(Moment))
async def test_a_deferred_receipt_is_tried_again_later(notifier: Notifier, moment: Moment) -> None:
    purge = await notifier.start_wave_2(await notifier.tenant("ada@c.example"))
    notifier.sink.mailbox.fail_next(Answer.DEFER, moment, messages=2)
    for pause in (MINUTE, 2 * MINUTE):
        assert await notifier.mail.run() == 1
        (row,) = await notifier.deliveries(purge)
        assert (row["state"], row["status_code"], row["doubts"]) == ("planned", 451, 0)
        notifier.clock.advance(pause - timedelta(seconds=1))
        assert await notifier.mail.run() == 0
        notifier.clock.advance(timedelta(seconds=1))
    assert await notifier.mail.run() == 1
    assert await notifier.states(purge) == ["sent"]
    assert len(notifier.mails) == 1


@pytest.mark.parametrize("moment", list(Moment))
async def test_a_refused_receipt_has_failed_and_only_its_code_is_kept(
    notifier: Notifier, moment: Moment, logged: io.StringIO
) -> None:
    purge = await notifier.start_wave_2(await notifier.tenant("ada@c.example"))
    notifier.sink.mailbox.fail_next(Answer.REFUSE, moment)
    assert await notifier.mail.run() == 1
    (row,) = await notifier.deliveries(purge)
    assert (row["state"], row["status_code"], row["accepted_at"]) == ("failed", 550, None)
    notifier.clock.advance(timedelta(hours=71))
    assert await notifier.mail.run() == 0
    assert notifier.mails == []
    assert "No such mailbox" not in await notifier.everything()
    assert '"status_code": 550' in logged.getvalue()
    for private in ("ada@", "c.example", "No such mailbox", "Ada"):
        assert private not in logged.getvalue()


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    root, kept = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    lines = io.StringIO()
    logs.configure("notifier", "debug", stream=lines)
    # The stand-in for other people's server, which tells everything, is in this process too.
    monkeypatch.setattr(logging.getLogger("mail.log"), "disabled", True)
    yield lines
    structlog.configure(**kept)
    root.handlers[:] = handlers
    root.setLevel(level)


async def test_a_connection_that_ends_before_the_message_leaves_no_doubt(
    notifier: Notifier,
) -> None:
    purge = await notifier.start_wave_2(await notifier.tenant("ada@c.example"))
    notifier.sink.mailbox.fail_next(Answer.DROP, Moment.BEFORE_DATA)
    await notifier.mail.run()
    (row,) = await notifier.deliveries(purge)
    assert (row["state"], row["status_code"], row["doubts"]) == ("planned", None, 0)
    notifier.clock.advance(MINUTE)
    await notifier.mail.run()
    assert await notifier.states(purge) == ["sent"]
    assert len(notifier.mails) == 1


async def test_a_connection_that_ends_after_the_message_means_exactly_one_more(
    notifier: Notifier,
) -> None:
    purge = await notifier.start_wave_2(await notifier.tenant("ada@c.example"))
    notifier.sink.mailbox.fail_next(Answer.DROP, Moment.AFTER_DATA)
    await notifier.mail.run()
    assert await notifier.states(purge) == ["uncertain"]
    assert len(notifier.mails) == 1

    notifier.clock.advance(MINUTE)
    assert await notifier.mail.run() == 1
    assert await notifier.states(purge) == ["sent"]
    first, second = message_ids(notifier)
    assert first == second
    notifier.clock.advance(timedelta(hours=10))
    assert await notifier.mail.run() == 0


async def test_a_second_doubt_is_left_at_that(notifier: Notifier) -> None:
    purge = await notifier.start_wave_2(await notifier.tenant("ada@c.example"))
    notifier.sink.mailbox.fail_next(Answer.DROP, Moment.AFTER_DATA, messages=5)
    for _ in range(5):
        await notifier.mail.run()
        notifier.clock.advance(timedelta(hours=5))
    assert len(notifier.mails) == 2
    assert await notifier.states(purge) == ["uncertain"]
    # Nothing is left to wait for.
    assert await notifier.erase() == 1


async def test_a_doubtful_receipt_that_is_put_off_stays_doubtful(notifier: Notifier) -> None:
    purge = await notifier.start_wave_2(await notifier.tenant("ada@c.example"))
    notifier.sink.mailbox.fail_next(Answer.DROP, Moment.AFTER_DATA)
    await notifier.mail.run()
    notifier.clock.advance(MINUTE)
    notifier.sink.mailbox.fail_next(Answer.DEFER, Moment.BEFORE_DATA)
    await notifier.mail.run()
    assert await notifier.states(purge) == ["uncertain"]
    notifier.clock.advance(2 * MINUTE)
    await notifier.mail.run()
    assert await notifier.states(purge) == ["sent"]
    assert len(notifier.mails) == 2


class CrashError(Exception):
    """The process ends here."""


async def crash_before_recording(notifier: Notifier) -> None:
    """Send, and end before anything about it is written down."""
    with pytest.MonkeyPatch.context() as patch:

        async def ends(*_: Any, **__: Any) -> bool:
            raise CrashError

        patch.setattr(store, "record_outcomes", ends)
        with pytest.raises(CrashError):
            await notifier.mail.run()


async def test_a_crash_after_acceptance_means_exactly_one_resend_with_the_same_id(
    notifier: Notifier,
) -> None:
    purge = await notifier.start_wave_2(await notifier.tenant("ada@c.example"))
    await crash_before_recording(notifier)
    assert await notifier.states(purge) == ["sending"]
    assert len(notifier.mails) == 1

    # The lease may still be somebody's.
    assert await notifier.mail.run() == 0
    assert await notifier.erase() == 0
    notifier.clock.advance(timedelta(minutes=6))
    assert await notifier.mail.run() == 1
    assert await notifier.states(purge) == ["sent"]
    first, second = message_ids(notifier)
    assert first == second

    notifier.clock.advance(timedelta(hours=10))
    assert await notifier.mail.run() == 0
    assert len(notifier.mails) == 2


async def test_a_crash_during_the_resend_is_the_end_of_it(notifier: Notifier) -> None:
    purge = await notifier.start_wave_2(await notifier.tenant("ada@c.example"))
    for _ in range(2):
        await crash_before_recording(notifier)
        notifier.clock.advance(timedelta(minutes=6))
    assert await notifier.mail.run() == 0
    assert await notifier.states(purge) == ["uncertain"]
    assert len(notifier.mails) == 2


async def test_a_worker_that_comes_back_too_late_changes_nothing(notifier: Notifier) -> None:
    purge = await notifier.start_wave_2(await notifier.tenant("ada@c.example"))
    token = uuid4()
    async with notifier.units.begin() as uow:
        [claim] = await store.claim_due_deliveries(
            uow.connection, token, wall=NOW, lease=MINUTE, limit=10
        )
    notifier.clock.advance(2 * MINUTE)
    assert await notifier.mail.run() == 1
    async with notifier.units.begin() as uow:
        done = [store.Done(claim, Deferred(451), NOW)]
        assert await store.record_outcomes(uow.connection, token, done, now=NOW) == 0
    assert await notifier.states(purge) == ["sent"]


async def test_a_server_that_is_away_is_asked_once_in_a_run(notifier: Notifier) -> None:
    purge = await notifier.start_wave_2(await notifier.tenant("ada@c.example", "bob@c.example"))
    await notifier.sink.stop()
    assert await notifier.mail.run() == 1
    assert await notifier.states(purge) == ["planned", "planned"]


async def test_what_cannot_be_delivered_in_72_hours_is_given_up(notifier: Notifier) -> None:
    tenant_id = await notifier.tenant("ada@c.example")
    purge = await notifier.start_wave_2(tenant_id)
    notifier.sink.mailbox.fail_next(Answer.DEFER, Moment.BEFORE_DATA, messages=10_000)
    for _ in range(71):
        await notifier.mail.run()
        notifier.clock.advance(timedelta(hours=1))
    await notifier.mail.run()
    assert await notifier.states(purge) == ["planned"]
    assert await notifier.erase() == 0
    assert len(await notifier.contacts(tenant_id)) == 1

    notifier.clock.advance(timedelta(hours=1))
    await notifier.mail.run()
    assert await notifier.states(purge) == ["failed"]
    assert await notifier.erase() == 1
    assert await notifier.contacts(tenant_id) == []


async def test_a_jump_of_the_business_clock_loses_no_receipt(notifier: Notifier) -> None:
    purge = await notifier.start_wave_2(await notifier.tenant("ada@c.example"))
    notifier.clock.advance(timedelta(days=180))
    assert await notifier.mail.run() == 1
    assert await notifier.states(purge) == ["sent"]


async def test_a_contact_that_cannot_be_read_holds_nothing_up(notifier: Notifier) -> None:
    broken = await notifier.tenant("ada@c.example")
    purge = await notifier.start_wave_2(broken)
    await notifier.worker.execute("DELETE FROM tenant_keys WHERE tenant_id = $1", broken)
    other = await notifier.start_wave_2(await notifier.tenant("bob@c.example"))
    await notifier.mail.run()
    assert await notifier.states(purge) == ["failed"]
    assert await notifier.states(other) == ["sent"]


async def test_receipts_are_forgotten_after_30_days(notifier: Notifier) -> None:
    await notifier.read_receipt(Purge(uuid4()))
    notifier.clock.advance(timedelta(days=29))
    await notifier.mail.tidy()
    assert await notifier.worker.fetchval("SELECT count(*) FROM receipts") == 1
    notifier.clock.advance(timedelta(days=2))
    await notifier.mail.tidy()
    assert await notifier.worker.fetchval("SELECT count(*) FROM receipts") == 0


def test_every_class_has_its_words() -> None:
    counts = dict.fromkeys((DataClass.INSTALLATION, DataClass.CONTACTS), 1)
    letter = RECEIPTS.write(
        Receipt(CODE, (a_step("erase-all", "config", counts),)),
        Recipient("Ada", "ada@c.example", None),
        ENVELOPE,
    )
    assert b"1 record, erased on 2026-11-23" in letter.content
