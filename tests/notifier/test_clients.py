"""What is learnt of a message, whatever the mail server does."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import zip_longest

import pytest

from services.notifier.clients import MailServer
from services.notifier.domain.deliveries import Accepted, Deferred, Outcome, Refused, Unknown
from services.notifier.letters.letter import Letter

LETTER = Letter(
    "privacy@vendor.example", "ada@c.example", b"Subject: Dots\r\n\r\n.one\r\n..two\r\nend\r\n"
)
TAKES_ALL = {
    "EHLO": "250-here\n250-PIPELINING\n250 8BITMIME",
    "MAIL": "250 OK",
    "RCPT": "250 OK",
    "DATA": "354 Go on",
    "END": "250 2.0.0 Taken",
    "RSET": "250 OK",
    "QUIT": "221 Bye",
}
ONE_AT_A_TIME = {"EHLO": "250-here\n250 8BITMIME"}
HANGS_UP, SAYS_NOTHING = "", "..."


@dataclass
class Script:
    """A server that answers each verb as it is told; what is not told is taken."""

    answers: Mapping[str, str] = field(default_factory=dict)
    heard: list[str] = field(default_factory=list)
    message: bytes = b""
    taken: list[str] = field(default_factory=list)
    connections: int = 0

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        writer.write(b"220 here\r\n")
        while line := (await reader.readline()).decode().strip():
            self.heard.append(line)
            verb = line[:4].upper()
            if not await self._answer(verb, reader, writer):
                break
            if self._said(verb).startswith("354"):
                self.message = await _message(reader)
                if self.message:
                    self.taken.append(self.heard[-2].removeprefix("RCPT TO:<").removesuffix(">"))
                if not await self._answer("END", reader, writer):
                    break
        writer.close()

    def _said(self, verb: str) -> str:
        return self.answers.get(verb, TAKES_ALL.get(verb, "500 What?"))

    async def _answer(
        self, verb: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        said = self._said(verb)
        if said == SAYS_NOTHING:
            await reader.read()  # until the other side loses patience
            return False
        if said == HANGS_UP:
            return False
        writer.write(said.replace("\n", "\r\n").encode() + b"\r\n")
        return not said.startswith("421")


async def _message(reader: asyncio.StreamReader) -> bytes:
    """Read a whole message; of one that was begun and never ended there is nothing."""
    lines = []
    while (line := await reader.readline()) != b".\r\n":
        if not line:
            return b""
        lines.append(line)
    return b"".join(lines)


@asynccontextmanager
async def serving(script: Script, *, must_encrypt: bool = False) -> AsyncIterator[MailServer]:
    server = await asyncio.start_server(script.converse, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield MailServer(
            "127.0.0.1",
            port,
            name="vendor.example",
            timeout_seconds=0.5,
            must_encrypt=must_encrypt,
        )


async def outcome_of(answers: Mapping[str, str]) -> Outcome:
    async with serving(Script(answers)) as server, server.session() as session:
        return await session.send(LETTER)


@pytest.mark.parametrize("way", [{}, ONE_AT_A_TIME], ids=["together", "one-at-a-time"])
async def test_messages_arrive_as_they_were_written_over_one_connection(
    way: dict[str, str],
) -> None:
    script = Script(way)
    async with serving(script) as server, server.session() as session:
        outcomes = [await session.send(LETTER) for _ in range(3)]
    assert outcomes == [Accepted(250)] * 3
    assert script.message.replace(b"\r\n..", b"\r\n.") == LETTER.content
    assert script.connections == 1
    assert script.heard[0] == "EHLO vendor.example"
    assert script.heard[1:4] == [
        "MAIL FROM:<privacy@vendor.example>",
        "RCPT TO:<ada@c.example>",
        "DATA",
    ]


@pytest.mark.parametrize("way", [{}, ONE_AT_A_TIME], ids=["together", "one-at-a-time"])
@pytest.mark.parametrize(
    ("answers", "wanted"),
    [
        # A refused sender is ours to mend; a refused recipient is not.
        ({"MAIL": "550 No", "RCPT": "503 No", "DATA": "503 No"}, Deferred(550)),
        ({"RCPT": "550 5.1.1 No", "DATA": "503 No"}, Refused(550, "5.1.1")),
        ({"RCPT": "450-4.7.1 Wait\n450 4.7.1 a minute", "DATA": "503 No"}, Deferred(450, "4.7.1")),
        ({"DATA": "451 Busy"}, Deferred(451)),
        ({"END": "452 4.3.1 Full"}, Deferred(452, "4.3.1")),
        ({"END": "554 5.7.1 Spam"}, Refused(554, "5.7.1")),
        ({"RCPT": "421 4.3.2 Bye"}, Deferred(421, "4.3.2")),
        ({"MAIL": HANGS_UP}, Deferred(None)),
        ({"MAIL": "gibberish"}, Deferred(None)),
        ({"MAIL": SAYS_NOTHING}, Deferred(None)),
        ({"EHLO": "554 No", "HELO": "554 No"}, Deferred(554)),
        # Whether these were taken is known to nobody.
        ({"END": HANGS_UP}, Unknown()),
        ({"END": SAYS_NOTHING}, Unknown()),
        ({"END": "gibberish"}, Unknown()),
    ],
    ids=range(14),
)
async def test_an_answer_says_what_became_of_a_message(
    way: dict[str, str], answers: dict[str, str], wanted: Outcome
) -> None:
    assert await outcome_of({**way, **answers}) == wanted


async def test_a_server_that_waits_for_a_message_with_no_recipient_gets_none() -> None:
    script = Script({"RCPT": "550 5.1.1 No"})
    async with serving(script) as server, server.session() as session:
        sending = asyncio.create_task(session.send(LETTER))
        assert await sending == Refused(550, "5.1.1")
    assert b"Dots" not in script.message


async def test_a_connection_that_ended_between_messages_is_opened_again() -> None:
    script = Script({"RSET": "421 Bye"})
    async with serving(script) as server, server.session() as session:
        assert await session.send(LETTER) == Accepted(250)
        script.answers = {"MAIL": HANGS_UP}
        assert await session.send(LETTER) == Deferred(None)
        script.answers = {}
        assert await session.send(LETTER) == Accepted(250)
    assert script.connections == 3


@pytest.mark.parametrize(
    ("answers", "wanted", "connections"),
    [
        ({}, Accepted(250), 1),
        (ONE_AT_A_TIME, Accepted(250), 1),
        ({"END": "554 5.7.1 Spam"}, Refused(554, "5.7.1"), 1),
        ({"END": HANGS_UP}, Unknown(), 3),
        ({"END": SAYS_NOTHING}, Unknown(), 3),
        # It waits for each message in spite of that, and gets none.
        ({"RCPT": "550 5.1.1 No"}, Refused(550, "5.1.1"), 1),
        ({"RCPT": "550 5.1.1 No", "DATA": "503 No"}, Refused(550, "5.1.1"), 1),
        ({"DATA": "451 Busy"}, Deferred(451), 1),
        ({"MAIL": HANGS_UP}, Deferred(None), 3),
    ],
    ids=range(9),
)
async def test_what_is_announced_with_the_message_before_has_an_outcome_of_its_own(
    answers: Mapping[str, str], wanted: Outcome, connections: int
) -> None:
    letters = [replace(LETTER, recipient=f"{name}@c.example") for name in ("a", "b", "c")]
    script = Script(answers)
    async with serving(script) as server, server.session() as session:
        outcomes = [
            await session.send(letter, following)
            for letter, following in zip_longest(letters, letters[1:])
        ]
    assert outcomes == [wanted] * 3
    assert script.connections == connections
    asked = [line for line in script.heard if line.startswith("RCPT")]
    assert asked == [] or set(asked) == {f"RCPT TO:<{each.recipient}>" for each in letters}


async def test_what_was_announced_and_is_not_sent_is_not_sent_by_the_next_one_either() -> None:
    one, other, third = (replace(LETTER, recipient=f"{name}@c.example") for name in "abc")
    script = Script()
    async with serving(script) as server, server.session() as session:
        assert await session.send(one, other) == Accepted(250)
        assert await session.send(third, other) == Accepted(250)
    assert script.connections == 2
    assert script.taken == [one.recipient, third.recipient]


async def test_an_address_that_could_say_more_is_not_announced() -> None:
    script = Script()
    async with serving(script) as server, server.session() as session:
        bad = replace(LETTER, recipient="ada@c.example>\r\nRSET")
        assert await session.send(LETTER, bad) == Accepted(250)
        assert await session.send(bad) == Deferred(None)
        assert await session.send(LETTER) == Accepted(250)
    assert "RSET" not in script.heard


@pytest.mark.parametrize("after", ["220 Go on", "454 Not now"])
async def test_what_is_offered_as_encryption_and_is_none_is_never_passed_over(after: str) -> None:
    script = Script({"EHLO": "250-here\n250 STARTTLS", "STAR": after})
    async with serving(script) as server, server.session() as session:
        assert isinstance(await session.send(LETTER), Deferred)
    assert script.message == b""


async def test_a_server_without_encryption_gets_nothing_where_it_is_needed() -> None:
    script = Script()
    async with serving(script, must_encrypt=True) as server, server.session() as session:
        assert isinstance(await session.send(LETTER), Deferred)
    assert not any(line.startswith("MAIL") for line in script.heard)


@pytest.mark.parametrize(
    "address", ["ada@c.example>\r\nRSET", "a@c.example ", "ädä@c.example", ""], ids=range(4)
)
async def test_what_is_no_address_says_nothing_to_the_server(address: str) -> None:
    script = Script()
    async with serving(script) as server, server.session() as session:
        assert await session.send(replace(LETTER, recipient=address)) == Deferred(None)
    assert [line[:4] for line in script.heard] == ["EHLO"]
