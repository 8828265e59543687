"""How a text becomes a revision, what a difference shows, and that neither can be changed later."""

import asyncio
from datetime import date, timedelta
from typing import Any

import asyncpg
import pytest

from chassis.epochs import ensure_epoch
from contracts.policies import PolicyState
from services.notifier import policies
from services.notifier.domain.differences import ComparedBlock, Mark, difference
from services.notifier.domain.people import Language
from services.notifier.domain.policies import MOST_BYTES, PolicyRefused, standing, start_of
from services.notifier.domain.policy_text import MOST_BLOCKS, as_html, blocks
from tests.notifier.builders import NOW, Notifier
from tests.notifier.policy_texts import (
    FIRST,
    IN_TIME,
    SECOND,
    SUMMARY,
    approve,
    draft,
    kept_revisions,
    publish,
    publish_in_force,
)

# -- the text -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("markdown", "html"),
    [
        ("<script>alert(1)</script>", "<p>&lt;script&gt;alert(1)&lt;/script&gt;</p>"),
        ("a <b onclick=x>b</b>", "<p>a &lt;b onclick=x&gt;b&lt;/b&gt;</p>"),
        ("[a](javascript:alert(1))", "<p>[a](javascript:alert(1))</p>"),
        ("[a](JaVaScRiPt:alert(1))", "<p>[a](JaVaScRiPt:alert(1))</p>"),
        ("[a](data:text/html,x)", "<p>[a](data:text/html,x)</p>"),
        ("[a](http://x.example)", "<p>[a](http://x.example)</p>"),
        ("[a](//x.example)", "<p>[a](//x.example)</p>"),
        (
            "[a](https://x.example/?a=1&b=2)",
            '<p><a href="https://x.example/?a=1&amp;b=2">a</a></p>',
        ),
        ("<mailto:a@x.example>", '<p><a href="mailto:a@x.example">mailto:a@x.example</a></p>'),
        ("![a](https://x.example/p.png)", '<p>!<a href="https://x.example/p.png">a</a></p>'),
        (
            '[a](https://x.example "t\\" onload=x")',
            '<p><a href="https://x.example" title="t&quot; onload=x">a</a></p>',
        ),
        ("# One\n\n###### Six", "<h2>One</h2>\n<h6>Six</h6>"),
    ],
)
def test_markdown_brings_no_html_nothing_of_others_and_no_doubtful_link(
    markdown: str, html: str
) -> None:
    assert as_html(markdown).strip() == html


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (b"", "no text"),
        (b" \n\t \n", "no text"),
        (b"\xef\xbb\xbf", "no text"),
        (b"\xff\xfe", "UTF-8"),
        (b"x" * 5_000_000, "bytes"),
        (b"a\x00b", "nobody can see"),
        (b"a\x1b[31mb", "nobody can see"),
        ("a\u202eb".encode(), "nobody can see"),
        (b"a\n\n" * (MOST_BLOCKS + 1), "paragraphs"),
    ],
    ids=("none", "blank", "mark", "bytes", "5 MB", "null", "escape", "bidi", "paragraphs"),
)
async def test_what_is_no_text_is_refused(notifier: Notifier, given: bytes, why: str) -> None:
    with pytest.raises(PolicyRefused, match=why):
        await draft(notifier, given)
    assert await notifier.runtime.fetchval("SELECT count(*) FROM policy_drafts") == 0


@pytest.mark.parametrize(
    ("others", "why"),
    [
        ({"summary": {**SUMMARY, Language.GERMAN: " "}}, "a summary"),
        ({"summary": {**SUMMARY, Language.ENGLISH: "a\nb"}}, "a summary"),
        ({"summary": {**SUMMARY, Language.ENGLISH: "x" * 1001}}, "a summary"),
        ({"effective_on": NOW.date() - timedelta(days=1)}, "over"),
        ({"effective_on": date(1, 1, 1), "early_because": "x"}, "over"),
        ({"effective_on": NOW.date() + timedelta(days=30)}, "30 days before"),
        ({"effective_on": NOW.date(), "early_because": " "}, "a reason"),
    ],
    ids=("blank", "lines", "long", "past", "far past", "too soon", "no reason"),
)
async def test_a_draft_says_what_it_changes_and_leaves_people_their_time(
    notifier: Notifier, others: dict[str, Any], why: str
) -> None:
    with pytest.raises(PolicyRefused, match=why):
        await draft(notifier, **others)


async def test_a_revision_never_takes_effect_before_an_earlier_one(notifier: Notifier) -> None:
    await publish(notifier)
    with pytest.raises(PolicyRefused, match="takes effect later, on 2026-12-24"):
        await draft(notifier, SECOND, effective_on=NOW.date(), early_because="The law.")


# -- two people -----------------------------------------------------------------------------------


async def test_a_second_person_publishes_what_the_first_wrote(notifier: Notifier) -> None:
    draft_id = await draft(notifier)
    assert await kept_revisions(notifier) == []

    published = await approve(notifier, draft_id)

    assert (published.number, published.published_at) == (1, NOW)
    assert published.effective_at == start_of(IN_TIME)
    assert [each.number for each in await kept_revisions(notifier)] == [1]


@pytest.mark.parametrize("by", ["Kim Keeper", " kim  KEEPER "])
async def test_whoever_drafted_it_cannot_approve_it(notifier: Notifier, by: str) -> None:
    draft_id = await draft(notifier)
    with pytest.raises(PolicyRefused, match="cannot approve"):
        await approve(notifier, draft_id, by)
    assert await kept_revisions(notifier) == []


async def test_a_draft_is_published_once_also_by_two_at_once(notifier: Notifier) -> None:
    draft_id = await draft(notifier)
    done = await asyncio.gather(
        *(approve(notifier, draft_id, by) for by in ("Robin", "Lee")), return_exceptions=True
    )
    assert sorted(type(each).__name__ for each in done) == ["PolicyRefused", "Revision"]
    with pytest.raises(PolicyRefused, match="published already, as revision 1"):
        await approve(notifier, draft_id)
    with pytest.raises(PolicyRefused, match="no draft 77"):
        await approve(notifier, 77)


async def test_a_draft_that_something_was_published_after_is_drafted_anew(
    notifier: Notifier,
) -> None:
    stale, other = await draft(notifier), await draft(notifier, SECOND)
    await approve(notifier, other)
    with pytest.raises(PolicyRefused, match="Revision 1 was published after"):
        await approve(notifier, stale)


async def test_the_notice_counts_from_the_approval(notifier: Notifier) -> None:
    draft_id = await draft(notifier)
    notifier.clock.advance(timedelta(days=2))
    with pytest.raises(PolicyRefused, match="30 days before"):
        await approve(notifier, draft_id)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE policy_drafts SET text = 'We keep everything.'",
        "UPDATE policy_revisions SET approved_by = 'Kim Keeper'",
        "DELETE FROM policy_drafts",
        "DELETE FROM policy_revisions",
        "TRUNCATE policy_drafts CASCADE",
        "TRUNCATE policy_revisions CASCADE",
    ],
)
async def test_nobody_changes_or_removes_what_was_written(
    notifier: Notifier, statement: str
) -> None:
    await publish(notifier)
    owner = await asyncpg.connect(notifier.roles.owner_url)
    try:
        with pytest.raises(asyncpg.RaiseError, match="kept as it is"):
            await owner.execute(statement)
    finally:
        await owner.close()
    with pytest.raises((asyncpg.RaiseError, asyncpg.InsufficientPrivilegeError)):
        await notifier.runtime.execute(statement)
    assert len(await kept_revisions(notifier)) == 1


async def test_of_two_in_force_the_later_one_is(notifier: Notifier) -> None:
    one = await publish_in_force(notifier)
    two = await publish(notifier, SECOND)
    known = await kept_revisions(notifier)
    assert standing(known, NOW).current == one
    assert standing(known, NOW).coming == (two,)
    assert standing(known, two.effective_at).current == two
    assert standing(known, NOW - timedelta(days=1)).current is None


# -- on the bus -----------------------------------------------------------------------------------


async def states(notifier: Notifier) -> list[PolicyState]:
    rows = await notifier.worker.fetch(
        "SELECT payload FROM outbox WHERE topic = 'notifier.policies.v1' ORDER BY position"
    )
    return [PolicyState.decode(row["payload"]) for row in rows]


async def test_what_is_published_is_said_without_its_text(notifier: Notifier) -> None:
    one = await publish_in_force(notifier)
    two = await publish(notifier, SECOND)

    said = await states(notifier)

    assert [(each.number, each.text_hash) for each in said] == [
        (one.number, one.text_hash),
        (two.number, two.text_hash),
    ]
    rows = await notifier.worker.fetch("SELECT record_key, payload FROM outbox")
    assert [row["record_key"] for row in rows] == ["1", "2"]
    assert not any(b"five months" in row["payload"] for row in rows)


async def test_a_new_epoch_says_all_of_it_again_as_newer(notifier: Notifier) -> None:
    await publish_in_force(notifier)
    await publish(notifier, SECOND)
    notifier.clock.advance(timedelta(minutes=1))
    async with notifier.worker.acquire() as connection:
        await ensure_epoch(connection, wall=notifier.clock.wall(), force=True)

    await policies.restate(notifier.units)

    said = await states(notifier)
    assert sorted(each.number for each in said) == [1, 1, 2, 2]
    assert all(
        new.version > old.version and new.text_hash == old.text_hash
        for old in said[:2]
        for new in said[2:]
        if old.number == new.number
    )


# -- differences ----------------------------------------------------------------------------------


def marked(block: ComparedBlock) -> str:
    wrap = {Mark.SAME: "{}", Mark.REMOVED: "[-{}-]", Mark.ADDED: "[+{}+]"}
    return " ".join(wrap[piece.mark].format(piece.text) for piece in block.pieces)


def test_a_difference_is_word_by_word_within_paragraphs() -> None:
    assert [(block.tag, marked(block)) for block in difference(FIRST, SECOND)] == [
        ("h2", "What we keep"),
        ("p", "We keep your name and your address for [-six-] [+five+] months."),
        ("li", "Errors of browsers, for 90 days."),
        ("li", "[-Nothing else.-]"),
        ("p", "[+Where it lies: San Francisco.+]"),
        (
            "p",
            "Ask our desk (https://desk.vendor.example/ask) or mailto:privacy@vendor.example.",
        ),
    ]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("[a b c d](https://x.example/1)", "[a b c d](https://x.example/2)"),
        ("    code one", "    code two"),
        ("| a |\n|--|\n| b |", "| a |\n|--|\n| c |"),
        ("One.\n\nTwo.", "Two.\n\nOne."),
    ],
    ids=("address of a link", "code", "table", "order"),
)
def test_nothing_that_changes_is_hidden(before: str, after: str) -> None:
    assert any(block.changed for block in difference(before, after))
    assert not any(block.changed for block in difference(before, before))


def test_each_side_of_a_difference_has_all_words_of_its_text() -> None:
    before, after = FIRST * 3 + "x " * 1600, "y " * 1600 + SECOND * 2
    compared = difference(before, after)
    for text, other in ((before, Mark.ADDED), (after, Mark.REMOVED)):
        shown = [
            word
            for block in compared
            for piece in block.pieces
            if piece.mark is not other
            for word in piece.text.split()
        ]
        assert shown == [word for block in blocks(text) for word in block.text.split()]


def test_texts_of_the_greatest_length_are_compared_all_the_same() -> None:
    before = "\n\n".join(f"word{n} " * 6 for n in range(700))[:MOST_BYTES]
    after = before.replace("7", "8")
    assert sum(block.changed for block in difference(before, after)) > 100
