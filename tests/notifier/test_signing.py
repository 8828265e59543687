"""Many messages are signed in processes of their own, which never outlive who asked them."""

import asyncio
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from services.notifier.domain.campaigns import Kind
from services.notifier.domain.deliveries import Pace
from services.notifier.letters.dkim import Signer
from services.notifier.letters.signing import SigningStopped, signing_process
from tests.notifier.builders import Notifier, dkim_file

MESSAGES = [b"From: <a@vendor.example>\r\n\r\nNumber %d\r\n" % n for n in range(60)]


def processes_that_sign() -> list[psutil.Process]:
    return [
        each
        for each in psutil.Process().children(recursive=True)
        if "services.notifier.letters.signing" in each.cmdline()
    ]


async def test_each_message_comes_back_signed_to_whoever_asked(tmp_path: Path) -> None:
    key_file = dkim_file(tmp_path)
    sign = Signer.load(key_file).sign
    chunks = [MESSAGES[:1], MESSAGES[1:40], [], MESSAGES[40:]]
    async with signing_process(key_file) as sign_all:
        signed = await asyncio.gather(*(sign_all(chunk) for chunk in chunks))
    # PKCS 1 version 1.5 and Ed25519 sign the same twice.
    assert signed == [[sign(each) for each in chunk] for chunk in chunks]
    assert processes_that_sign() == []


async def test_who_waits_for_a_process_that_dies_is_told(tmp_path: Path) -> None:
    async with signing_process(dkim_file(tmp_path)) as sign_all:
        await sign_all(MESSAGES[:1])
        asked = [asyncio.create_task(sign_all(MESSAGES)) for _ in range(2)]
        [process] = processes_that_sign()
        process.kill()
        told = await asyncio.gather(*asked, return_exceptions=True)
        assert {type(each) for each in told} == {SigningStopped}
        with pytest.raises(SigningStopped):
            await sign_all(MESSAGES)


async def test_a_file_that_cannot_be_used_is_no_process(tmp_path: Path) -> None:
    async with signing_process(tmp_path / "nothing.json") as sign_all:
        with pytest.raises(SigningStopped):
            await sign_all(MESSAGES)


async def test_no_answer_goes_to_another_when_one_gives_up(tmp_path: Path) -> None:
    async with signing_process(dkim_file(tmp_path)) as sign_all:
        first = asyncio.create_task(sign_all(MESSAGES * 20))
        second = asyncio.create_task(sign_all(MESSAGES[:1]))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(SigningStopped):
            await second


def test_it_ends_with_whoever_began_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "services.notifier.letters.signing", str(dkim_file(tmp_path))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=20) == 0


async def test_a_campaign_of_several_chunks_goes_out_signed(
    notifier: Notifier, tmp_path: Path
) -> None:
    tenants = [await notifier.tenant(f"p{n}@c{n}.example") for n in range(5)]
    await notifier.plan(Kind.POLICY_CHANGE, *tenants)
    mail = replace(
        notifier.mail, pace=Pace(connections=2, chunk=2), signer=Signer.load(dkim_file(tmp_path))
    )
    assert await mail.run() == 5
    signed = ["DKIM-Signature" in dict(each.headers) for each in notifier.mails]
    assert signed == [True] * 5
