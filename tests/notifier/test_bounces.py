"""What comes back of our mail, and what follows from it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from hashlib import sha256
from hmac import digest
from uuid import UUID, uuid4

import asyncpg
import pytest
from aiosmtplib import SMTP, SMTPResponseException
from structlog.testing import capture_logs

from services.notifier.bounces import Returns
from services.notifier.domain.bounces import Bounce, Complaint, ReturnPaths, read_report
from services.notifier.domain.campaigns import Kind
from services.notifier.domain.suppressions import ALL_OPTIONAL, EVERYTHING, Reason
from services.notifier.figures import MailFigures
from services.notifier.store import bounces as store
from services.notifier.store.suppressions import suppressions_of
from tests.notifier.builders import NOW, Notifier
from tests.notifier.policy_texts import publish
from tests.notifier.test_policy_changes import covered, jobs

DOMAIN = "bounces.vendor.example"
SECRET = "these are somebody's own words"


def keyed_hash(purpose: str, value: bytes) -> bytes:
    return digest(b"key", purpose.encode() + value, sha256)


PATHS = ReturnPaths(keyed_hash, DOMAIN)


def a_bounce(action: str = "failed", status: str = "5.1.1") -> bytes:
    return (
        "From: MAILER-DAEMON@c.example\r\nSubject: Undelivered\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\r\n\r\n'
        f"--b\r\nContent-Type: text/plain\r\n\r\n{SECRET}\r\n"
        "--b\r\nContent-Type: message/delivery-status\r\n\r\n"
        "Reporting-MTA: dns; mx.c.example\r\n\r\n"
        f"Final-Recipient: rfc822; ada@c.example\r\nAction: {action}\r\nStatus: {status}\r\n"
        f"Diagnostic-Code: smtp; 550 {SECRET}\r\n\r\n"
        f"--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: {SECRET}\r\n\r\n{SECRET}\r\n--b--\r\n"
    ).encode()


def a_complaint(
    return_path: str, feedback: str = "abuse", *, in_the_message: bool = False
) -> bytes:
    named = "" if in_the_message else f"Original-Mail-From: <{return_path}>\r\n"
    repeated = f"Return-Path: <{return_path}>\r\n" if in_the_message else ""
    return (
        "From: feedback@c.example\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/report; report-type=feedback-report; boundary="b"\r\n\r\n'
        f"--b\r\nContent-Type: text/plain\r\n\r\n{SECRET}\r\n"
        "--b\r\nContent-Type: message/feedback-report\r\n\r\n"
        f"Feedback-Type: {feedback}\r\nVersion: 1\r\nUser-Agent: c/1\r\n{named}\r\n"
        f"--b\r\nContent-Type: message/rfc822\r\n\r\n{repeated}Subject: {SECRET}\r\n\r\nx\r\n--b--\r\n"
    ).encode()


def test_a_return_path_names_its_delivery_also_where_cases_were_lost() -> None:
    delivery_id = uuid4()
    address = PATHS.of(delivery_id)
    local = address.partition("@")[0]
    assert len(local) <= 64
    assert PATHS.read(address) == PATHS.read(address.upper()) == delivery_id


def test_no_other_address_names_a_delivery() -> None:
    address = PATHS.of(uuid4())
    local = address.partition("@")[0]
    changed = [
        local[:at] + ("a" if local[at] != "a" else "b") + local[at + 1 :]
        for at in range(len("bounces+"), len(local))
    ]
    others = ReturnPaths(lambda *_: bytes(32), DOMAIN).of(uuid4())
    for tried in (*(f"{each}@{DOMAIN}" for each in changed), others, f"{local}@else.example"):
        assert PATHS.read(tried) is None, tried
    for tried in ("", "@", f"bounces+@{DOMAIN}", f"bounces+ü@{DOMAIN}", f"{local}a@{DOMAIN}"):
        assert PATHS.read(tried) is None, tried


@pytest.mark.parametrize(
    ("action", "status", "wanted"),
    [
        ("failed", "5.1.1", Bounce(for_good=True, nobody_is_there=True)),
        ("Failed", "5.2.1 (disabled)", Bounce(for_good=True, nobody_is_there=True)),
        ("failed", "5.7.1", Bounce(for_good=True, nobody_is_there=False)),
        ("failed", "4.4.7", Bounce(for_good=True, nobody_is_there=False)),
        ("delayed", "4.4.1", Bounce(for_good=False, nobody_is_there=False)),
        ("relayed", "2.0.0", None),
        ("", "", None),
    ],
)
def test_a_bounce_says_whether_it_is_final_and_whether_anybody_is_there(
    action: str, status: str, wanted: Bounce | None
) -> None:
    assert read_report(a_bounce(action, status)) == wanted


def test_a_complaint_names_what_it_is_about_in_its_fields_or_in_the_message() -> None:
    for inside in (False, True):
        told = a_complaint("bounces+x@c.example", in_the_message=inside)
        assert read_report(told) == Complaint("bounces+x@c.example")
    assert read_report(a_complaint("bounces+x@c.example", "not-spam")) is None
    assert read_report(a_complaint("")) is None


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff\x00\r\n\r\n\xff",
        b"Subject: Out of office\r\n\r\nI am away.\r\n",
        b"Content-Type: multipart/report\r\n\r\nno boundary",
        b'Content-Type: multipart/report; boundary="b"\r\n\r\n--b--\r\n',
        a_bounce()[:300],
        a_bounce().replace(b"Action: failed", b"Action failed"),
    ],
    ids=range(7),
)
def test_what_is_no_report_says_nothing(raw: bytes) -> None:
    assert read_report(raw) is None


@dataclass(frozen=True)
class Door:
    """Where mail comes back to a notifier, and by whom it is brought."""

    notifier: Notifier
    paths: ReturnPaths
    figures: MailFigures
    port: int

    async def bring(self, message: bytes, *recipients: str) -> int:
        """Hand a message over as any server on the internet may; return the reply's code."""
        client = SMTP(hostname="127.0.0.1", port=self.port)
        async with client:
            try:
                await client.mail("")
                for recipient in recipients:
                    await client.rcpt(recipient)
                return (await client.data(message)).code
            except SMTPResponseException as refused:
                return refused.code

    def counted(self, what: str) -> float:
        return float(self.figures.mail_returned_total.labels(what)._value.get())

    async def suppressed(self, address_index: bytes) -> set[tuple[str, Reason]]:
        async with self.notifier.units.begin() as uow:
            return await suppressions_of(uow.connection, address_index)


@pytest.fixture
async def door(notifier: Notifier) -> AsyncIterator[Door]:
    paths = ReturnPaths(notifier.keys.blind_index, DOMAIN)
    figures = MailFigures()
    async with Returns(notifier.units, paths, figures).listening("127.0.0.1", 0) as port:
        yield Door(notifier, paths, figures, port)


async def sent_news(door: Door, *addresses: str) -> list[tuple[str, UUID, bytes]]:
    """Send news to these; give return path, delivery and address of each."""
    notifier = door.notifier
    campaign_id = await notifier.plan(Kind.PRODUCT_UPDATE, await notifier.tenant(*addresses))
    await replace(notifier.mail, bounce_domain=DOMAIN).run()
    by_path = {mail.sender: mail.recipients for mail in notifier.mails}
    rows = await notifier.deliveries(campaign_id)
    assert {door.paths.of(row["delivery_id"]) for row in rows} <= set(by_path)
    return [
        (door.paths.of(row["delivery_id"]), row["delivery_id"], row["address_index"])
        for row in rows
    ]


async def test_a_mailbox_that_is_not_there_is_never_written_to_again(door: Door) -> None:
    [(path, delivery_id, address_index)] = await sent_news(door, "ada@c.example")
    with capture_logs() as logged:
        assert await door.bring(a_bounce(), path) == 250
        assert await door.bring(a_bounce(), path.upper()) == 250
    row = await door.notifier.worker.fetchrow(
        "SELECT state, bounced_at FROM deliveries WHERE delivery_id = $1", delivery_id
    )
    assert tuple(row or ()) == ("failed", NOW)
    assert await door.suppressed(address_index) == {(EVERYTHING, Reason.BOUNCED)}
    assert (door.counted("bounced"), door.counted("repeated")) == (1, 1)
    assert SECRET not in await door.notifier.everything()
    assert not any(word in str(logged) for word in (SECRET, "ada", path))


async def test_what_could_not_be_delivered_for_another_reason_suppresses_nobody(
    door: Door,
) -> None:
    [(path, _, address_index)] = await sent_news(door, "ada@c.example")
    assert await door.bring(a_bounce("delayed", "4.4.1"), path) == 250
    assert await door.bring(a_bounce("failed", "5.2.2"), path) == 250
    assert await door.suppressed(address_index) == set()
    assert (door.counted("late"), door.counted("undelivered")) == (1, 1)


async def test_whose_policy_mail_came_back_was_not_told(door: Door) -> None:
    notifier = door.notifier
    await notifier.tenant("ada@c.example")
    revision = await publish(notifier)
    await jobs(notifier).plan()
    await replace(notifier.mail, bounce_domain=DOMAIN).run()
    [delivery] = await notifier.deliveries(revision.campaign_id)
    await door.bring(a_bounce(), door.paths.of(delivery["delivery_id"]))
    [failure] = (await covered(notifier)).failures
    assert (failure.outcome, failure.what_was_done) == (
        "failed",
        "not written to any more: bounced",
    )


async def test_who_complains_gets_no_news_and_still_what_is_owed(door: Door) -> None:
    [(path, _, ada), (_, _, bob)] = await sent_news(door, "ada@c.example", "bob@d.example")
    complaints = f"complaints@{DOMAIN}"
    assert await door.bring(a_complaint(path), complaints) == 250
    assert await door.bring(a_complaint(path), complaints) == 250
    assert await door.suppressed(ada) == {(ALL_OPTIONAL, Reason.COMPLAINED)}
    assert await door.suppressed(bob) == set()
    assert (door.counted("complained"), door.counted("repeated")) == (1, 1)


async def test_what_is_forged_changes_nothing(door: Door) -> None:
    [(path, _, address_index)] = await sent_news(door, "ada@c.example")
    tampered = path.replace("+", "+a", 1)
    assert await door.bring(a_bounce(), tampered) == 550
    assert await door.bring(a_bounce(), f"anybody@{DOMAIN}") == 550
    assert await door.bring(a_complaint(tampered), f"complaints@{DOMAIN}") == 250
    # A bounce for the other door, and a complaint at this one.
    assert await door.bring(a_bounce(), f"complaints@{DOMAIN}") == 250
    assert await door.bring(a_complaint(path), path) == 250
    assert await door.suppressed(address_index) == set()
    assert (door.counted("forged"), door.counted("no-report")) == (3, 2)


async def test_what_comes_back_of_a_contact_that_is_gone_is_unknown(door: Door) -> None:
    assert await door.bring(a_bounce(), door.paths.of(uuid4())) == 250
    assert await door.bring(a_complaint(door.paths.of(uuid4())), f"complaints@{DOMAIN}") == 250
    assert door.counted("unknown") == 2


async def test_a_message_goes_to_one_recipient_and_is_no_larger_than_it_may_be(
    door: Door,
) -> None:
    path = door.paths.of(uuid4())
    assert await door.bring(a_bounce(), path, path) == 452
    assert await door.bring(a_bounce() + 4096 * (b"x" * 78 + b"\r\n"), path) == 552


async def test_while_the_database_is_away_a_report_is_asked_for_again(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    [(path, _, address_index)] = await sent_news(door, "ada@c.example")

    async def away(*_: object, **__: object) -> bool:
        raise asyncpg.ConnectionDoesNotExistError

    with monkeypatch.context() as patch:
        patch.setattr(store, "note_bounce", away)
        assert await door.bring(a_bounce(), path) == 451
    assert await door.bring(a_bounce(), path) == 250
    assert await door.suppressed(address_index) == {(EVERYTHING, Reason.BOUNCED)}
