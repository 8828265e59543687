import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from email.message import EmailMessage
from pathlib import Path

import aiosmtplib
import httpx2
import pytest

from devstack.mail import Answer, MailSink, Moment, start_mail_sink
from devstack.processes import LOOPBACK


@pytest.fixture
async def sink(tmp_path: Path) -> AsyncIterator[MailSink]:
    running = await start_mail_sink(tmp_path / "mail")
    yield running
    await running.stop()


@pytest.fixture
async def browser(sink: MailSink) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=sink.url, follow_redirects=True) as client:
        yield client


def a_message(subject: str = "Your data") -> EmailMessage:
    message = EmailMessage()
    message["From"] = "vendor@example.com"
    message["To"] = "jane@example.com"
    message["Subject"] = subject
    message["List-Unsubscribe"] = "<https://example.com/stop>"
    message.set_content("Plainly: https://example.com/receipt\nĀrējs")
    message.add_alternative("<p>Boldly</p><script>alert(1)</script>", subtype="html")
    return message


async def send(port: int, message: EmailMessage, *recipients: str) -> None:
    await aiosmtplib.send(
        message,
        sender="bounces@example.com",
        recipients=list(recipients) or ["jane@example.com"],
        hostname=LOOPBACK,
        port=port,
        start_tls=False,
    )


async def test_a_message_becomes_one_file_with_its_envelope(sink: MailSink) -> None:
    await send(sink.smtp_port, a_message(), "jane@example.com", "john@example.com")

    (path,) = sink.mailbox.folder.iterdir()
    assert path.suffix == ".eml"
    (mail,) = sink.mailbox.messages()
    assert mail.sender == "bounces@example.com"
    assert mail.recipients == ("jane@example.com", "john@example.com")
    assert mail.subject == "Your data"
    assert ("List-Unsubscribe", "<https://example.com/stop>") in mail.headers
    assert "Ārējs" in mail.text
    assert "<p>Boldly</p>" in mail.html


async def test_messages_outlive_the_server_in_their_order(sink: MailSink) -> None:
    for subject in ("one", "two", "three"):
        await send(sink.smtp_port, a_message(subject))

    again = await start_mail_sink(sink.mailbox.folder)
    try:
        subjects = [mail.subject for mail in again.mailbox.messages()]
    finally:
        await again.stop()

    assert subjects == ["one", "two", "three"]


@pytest.mark.parametrize("moment", list(Moment))
@pytest.mark.parametrize(("answer", "code"), [(Answer.DEFER, 451), (Answer.REFUSE, 550)])
async def test_the_next_messages_are_answered_as_told(
    sink: MailSink, answer: Answer, code: int, moment: Moment
) -> None:
    sink.mailbox.fail_next(answer, moment, messages=2)
    error = (
        aiosmtplib.SMTPRecipientsRefused
        if moment is Moment.BEFORE_DATA
        else aiosmtplib.SMTPDataError
    )

    for _ in range(2):
        with pytest.raises(error) as raised:
            await send(sink.smtp_port, a_message())
        refused = raised.value
        if isinstance(refused, aiosmtplib.SMTPRecipientsRefused):
            refused = refused.recipients[0]
        assert isinstance(refused, aiosmtplib.SMTPResponseException)
        assert refused.code == code
    assert sink.mailbox.messages() == []

    await send(sink.smtp_port, a_message())
    assert len(sink.mailbox.messages()) == 1


@pytest.mark.parametrize(("moment", "kept"), [(Moment.BEFORE_DATA, 0), (Moment.AFTER_DATA, 1)])
async def test_a_dropped_connection_leaves_the_sender_in_doubt(
    sink: MailSink, moment: Moment, kept: int
) -> None:
    sink.mailbox.fail_next(Answer.DROP, moment)

    with pytest.raises(aiosmtplib.SMTPServerDisconnected):
        await send(sink.smtp_port, a_message())

    assert len(sink.mailbox.messages()) == kept


async def test_a_message_to_many_uses_up_one_failure(sink: MailSink) -> None:
    sink.mailbox.fail_next(Answer.REFUSE, Moment.BEFORE_DATA)

    with pytest.raises(aiosmtplib.SMTPRecipientsRefused) as raised:
        await send(sink.smtp_port, a_message(), "jane@example.com", "john@example.com")

    assert len(raised.value.recipients) == 2
    await send(sink.smtp_port, a_message(), "john@example.com")


async def test_the_pages_list_and_show_messages(
    sink: MailSink, browser: httpx2.AsyncClient
) -> None:
    assert "No message yet" in (await browser.get("/")).text
    await send(sink.smtp_port, a_message("<b>Bold</b> claims"))
    (mail,) = (await browser.get("/messages.json")).json()

    page = await browser.get("/")
    assert f'<a href="/messages/{mail["id"]}">&lt;b&gt;Bold&lt;/b&gt; claims</a>' in page.text
    assert "color-scheme: light dark" in page.text
    shown = await browser.get(f"/messages/{mail['id']}")
    assert '<a href="https://example.com/receipt"' in shown.text
    assert "jane@example.com" in shown.text
    source = await browser.get(f"/messages/{mail['id']}/source")
    assert source.headers["content-type"].startswith("text/plain")
    assert source.text.startswith("Return-Path: <bounces@example.com>")
    assert (await browser.get("/messages/none")).status_code == 404


async def test_a_message_in_html_runs_nothing(sink: MailSink, browser: httpx2.AsyncClient) -> None:
    await send(sink.smtp_port, a_message())
    (mail,) = sink.mailbox.messages()

    body = await browser.get(f"/messages/{mail.id}/body")

    assert "<script>" in body.text
    assert body.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    assert "<script>" not in (await browser.get(f"/messages/{mail.id}")).text


async def test_failures_are_ordered_on_the_page(
    sink: MailSink, browser: httpx2.AsyncClient
) -> None:
    order = {"answer": "defer", "moment": "after-data", "messages": "2"}
    page = await browser.post("/faults", data=order)
    assert "The next 2 fail: defer, after-data." in page.text

    with pytest.raises(aiosmtplib.SMTPDataError):
        await send(sink.smtp_port, a_message())
    assert "The next 1 fail" in (await browser.get("/")).text
    for bad in ({}, order | {"answer": "explode"}, order | {"messages": "many"}):
        assert (await browser.post("/faults", data=bad)).status_code == 400
    page = await browser.post("/faults", data=order | {"messages": "0"})
    assert "The next message is taken." in page.text


async def test_a_port_in_use_is_an_error_and_the_other_is_closed_again(sink: MailSink) -> None:
    with pytest.raises(OSError, match="in use"):
        await start_mail_sink(sink.mailbox.folder, smtp_port=sink.smtp_port)


async def test_connections_end_with_the_server(tmp_path: Path) -> None:
    sink = await start_mail_sink(tmp_path)
    client = aiosmtplib.SMTP(hostname=LOOPBACK, port=sink.smtp_port, start_tls=False)
    await client.connect()

    await sink.stop()

    with pytest.raises(aiosmtplib.SMTPServerDisconnected):
        await client.noop()


async def test_it_runs_as_a_process_of_its_own_and_ends_cleanly(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "devstack.mail", "--folder", tmp_path), stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    ports = json.loads(await process.stdout.readline())

    await send(ports["smtp_port"], a_message())
    async with httpx2.AsyncClient() as client:
        listed = await client.get(f"http://{LOOPBACK}:{ports['http_port']}/messages.json")
    process.send_signal(signal.SIGTERM)
    await process.communicate()

    assert [mail["subject"] for mail in listed.json()] == ["Your data"]
    assert process.returncode == 0
