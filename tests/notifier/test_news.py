"""News of products: who may bring it out, whom it reaches, and that nobody gets it twice."""

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from chassis.erasure import NOBODY
from contracts.news import ProductUpdateAnnounced
from contracts.tenants import ClassState
from services.notifier import news as process
from services.notifier.domain.campaigns import CampaignState, Kind
from services.notifier.domain.news import (
    KEPT,
    LONGEST_SUBJECT,
    MOST_TEXT_BYTES,
    Act,
    NewsRefused,
    Overtaken,
    Segment,
    Stage,
    Verdict,
    Written,
    check_list,
    stage_of,
)
from services.notifier.domain.paces import pace_of
from services.notifier.domain.people import ADDRESS_INDEX, Language, Tenant
from services.notifier.domain.policy_text import as_plain
from services.notifier.domain.suppressions import ALL_OPTIONAL, EVERYTHING, Reason
from services.notifier.store import campaigns, suppressions
from services.notifier.store import news as store
from services.notifier.takeover import doubt_deliveries
from tests.notifier.builders import NOW, Notifier
from tests.notifier.news_texts import (
    ENGLISH,
    GERMAN,
    READER,
    WRITER,
    a_news,
    approve,
    jobs,
    kept,
    schedule,
    scheduled,
    send,
    write,
)

ADA, BOB, EVE = "ada@c.example", "bob@c.example", "eve@c.example"


async def steer(notifier: Notifier, campaign_id: UUID, act: Act) -> None:
    async with notifier.units.begin() as uow:
        await process.steer(uow, campaign_id, act, by=WRITER)


async def stage(notifier: Notifier, campaign_id: UUID) -> Stage:
    return (await kept(notifier, campaign_id)).stage


def told(notifier: Notifier) -> list[str]:
    return sorted(mail.recipients[0] for mail in notifier.mails)


# -- what was written -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("english", "german", "why"),
    [
        (("", "text"), ("", ""), "English subject"),
        (("subject", " "), ("", ""), "English: There is no text"),
        (("a\r\nBcc: eve@x.example", "text"), ("", ""), "on one line"),
        (("a\x00b", "text"), ("", ""), "on one line"),
        (("x" * (LONGEST_SUBJECT + 1), "text"), ("", ""), "letters at most"),
        (("subject", "a\x00b"), ("", ""), "nobody can see"),
        (("subject", "x" * (MOST_TEXT_BYTES + 1)), ("", ""), "20,000 bytes"),
        (("subject", "text\ud800"), ("", ""), "not UTF-8"),
        (("subject", "text"), ("Betreff", ""), "German: There is no text"),
        (("subject", "text"), ("", "Text"), "German subject"),
    ],
    ids=(
        *("no subject", "no text", "header", "null in subject", "long subject", "null in text"),
        *("long text", "surrogate", "half German", "German without subject"),
    ),
)
def test_what_cannot_be_sent_is_not_kept(
    english: tuple[str, str], german: tuple[str, str], why: str
) -> None:
    with pytest.raises(NewsRefused, match=why):
        a_news(english, german)


@pytest.mark.parametrize("kind", ["policy-change", "receipt", "", "x"])
def test_what_is_owed_to_everybody_is_no_news(kind: str) -> None:
    with pytest.raises(NewsRefused, match="one of two kinds"):
        a_news(kind=kind)


def test_a_text_is_read_without_any_markup() -> None:
    text = "# Big\n\nSome *words* and [a link](https://x.example/a-b).\n\n* one\n* two\n\n```\ncode\n```\n"
    assert as_plain(text) == (
        "Big\n===\n\nSome words and a link (https://x.example/a-b).\n\n- one\n- two\n\n    code"
    )
    long = f"Go to [it](https://x.example/{'y' * 100}) now and then."
    assert f"(https://x.example/{'y' * 100})" in as_plain(long)


@pytest.mark.parametrize(
    ("own", "campaign", "planned", "seen"),
    [
        (Stage.DRAFT, None, False, Stage.DRAFT),
        (Stage.APPROVED, None, False, Stage.APPROVED),
        (Stage.SCHEDULED, CampaignState.WAITING, False, Stage.SCHEDULED),
        (Stage.SCHEDULED, CampaignState.PAUSED, False, Stage.PAUSED),
        (Stage.SCHEDULED, CampaignState.STOPPED, False, Stage.STOPPED),
        (Stage.SCHEDULED, CampaignState.SENDING, True, Stage.SENDING),
        (Stage.SCHEDULED, CampaignState.PAUSED, True, Stage.PAUSED),
        (Stage.SCHEDULED, CampaignState.DONE, True, Stage.DONE),
    ],
    ids=str,
)
def test_its_stage_follows_the_campaign_that_sends_it(
    own: Stage, campaign: CampaignState | None, planned: bool, seen: Stage
) -> None:
    assert stage_of(own, campaign, planned=planned) is seen


def test_a_pace_is_told_by_what_was_taken_lately() -> None:
    assert pace_of(0, None, 5, now=NOW) is None
    half = pace_of(30, NOW - timedelta(seconds=30), 60, now=NOW)
    assert half is not None
    assert (half.per_minute, half.ends_at) == (60, NOW + timedelta(minutes=1))
    standing = pace_of(5, NOW, 5, now=NOW)
    assert standing is not None
    assert standing.per_minute == 300


# -- the check list -------------------------------------------------------------------------------

FINE = Written(size=9_000, offers_a_way_out=True)


def verdicts(text: str = "Good.", subject: str = "Good", **letter: Any) -> dict[str, Verdict]:
    news = a_news((subject, text), ("Gut", "Gut."))
    letters = dict.fromkeys(Language, replace(FINE, **letter))
    return {check.said: check.verdict for check in check_list(news, letters, recipients=1)}


def bad(found: dict[str, Verdict]) -> list[str]:
    return [said for said, verdict in found.items() if verdict is Verdict.BAD]


def test_good_news_has_nothing_to_find() -> None:
    assert set(verdicts("[a](https://x.example/) <mailto:a@x.example>").values()) == {Verdict.GOOD}


@pytest.mark.parametrize(
    "text",
    [
        "[a](http://x.example)",
        "http://x.example/plain",
        "[a](javascript:alert(1))",
        "[a](/here)",
        "[a](https://localhost/)",
        "[a](https://user:secret@x.example/)",
        "[a](https://x.example:99999/)",
        "[a](https://x.example:8443/)",
        "[a](mailto:nobody)",
    ],
)
def test_a_link_that_a_reader_cannot_follow_is_named(text: str) -> None:
    assert "is no link" in " ".join(bad(verdicts(text)))


@pytest.mark.parametrize(
    "text",
    ["Dear {{ name }}", "{% if x %}", "[[link]]", "${NAME}", "%NAME%", "TODO", "Lorem ipsum"],
)
def test_a_placeholder_that_nobody_filled_is_named(text: str) -> None:
    assert len(bad(verdicts(text))) == 1
    assert len(bad(verdicts(subject=text))) == 1


def test_a_letter_that_is_cut_off_or_has_no_way_out_is_bad() -> None:
    assert "102 KB" in " ".join(bad(verdicts(size=102 * 1024)))
    assert "unsubscribe" in " ".join(bad(verdicts(offers_a_way_out=False)))


def test_what_a_person_may_send_all_the_same_is_doubtful() -> None:
    assert Verdict.DOUBTFUL in verdicts(subject="x" * 61).values()
    news = a_news(german=("", ""))
    found = check_list(news, {Language.ENGLISH: FINE}, recipients=0)
    doubtful = [check.said for check in found if check.verdict is Verdict.DOUBTFUL]
    assert len(doubtful) == 2
    assert "Nobody would get it" in doubtful[0]
    assert "German translation is missing" in doubtful[1]


# -- two people -----------------------------------------------------------------------------------


async def test_a_second_person_approves_what_the_first_wrote(notifier: Notifier) -> None:
    await notifier.tenant(ADA)
    campaign_id = await write(notifier)
    for by in (WRITER, " kim  KEEPER "):
        with pytest.raises(NewsRefused, match="cannot approve"):
            await approve(notifier, campaign_id, by)
    with pytest.raises(NewsRefused, match="approved"):
        await schedule(notifier, campaign_id)
    await approve(notifier, campaign_id)
    with pytest.raises(NewsRefused, match="already"):
        await approve(notifier, campaign_id)
    await schedule(notifier, campaign_id)
    assert await stage(notifier, campaign_id) is Stage.SCHEDULED


async def test_who_wrote_any_of_it_cannot_approve_it(notifier: Notifier) -> None:
    campaign_id = await write(notifier)
    async with notifier.units.begin() as uow:
        changed = replace(a_news(("New", "New.")), campaign_id=campaign_id)
        await process.change(uow, changed, version=1, by=READER)
    with pytest.raises(NewsRefused, match="cannot approve"):
        await approve(notifier, campaign_id, WRITER)
    await approve(notifier, campaign_id, "Lee Looker")


async def test_a_change_voids_the_approval_and_the_schedule(notifier: Notifier) -> None:
    await notifier.tenant(ADA)
    campaign_id = await scheduled(notifier, at=NOW + timedelta(hours=1))
    version = (await kept(notifier, campaign_id)).version
    async with notifier.units.begin() as uow:
        changed = replace(a_news(("New", "New.")), campaign_id=campaign_id)
        await process.change(uow, changed, version=version, by=WRITER)

    now = await kept(notifier, campaign_id)
    assert (now.stage, now.send_at) == (Stage.DRAFT, None)
    notifier.clock.advance(timedelta(hours=2))
    assert await jobs(notifier).plan() == 0
    assert await notifier.worker.fetchval("SELECT count(*) FROM campaigns") == 0


async def test_of_two_editors_the_second_is_told(notifier: Notifier) -> None:
    campaign_id = await write(notifier)
    changed = replace(a_news(("New", "New.")), campaign_id=campaign_id)
    async with notifier.units.begin() as uow:
        await process.change(uow, changed, version=1, by=READER)
    with pytest.raises(Overtaken, match="Robin Reader changed it"):
        async with notifier.units.begin() as uow:
            await process.change(uow, changed, version=1, by=WRITER)
    with pytest.raises(Overtaken):
        async with notifier.units.begin() as uow:
            await process.approve(uow, campaign_id, version=1, by="Lee Looker")


@pytest.mark.parametrize(
    ("after", "why"),
    [(timedelta(seconds=-1), "over"), (timedelta(days=367), "more than a year")],
    ids=("past", "far"),
)
async def test_it_is_scheduled_for_a_time_to_come(
    notifier: Notifier, after: timedelta, why: str
) -> None:
    await notifier.tenant(ADA)
    campaign_id = await write(notifier)
    await approve(notifier, campaign_id)
    with pytest.raises(NewsRefused, match=why):
        await schedule(notifier, campaign_id, NOW + after)


async def test_news_for_nobody_is_not_scheduled(notifier: Notifier) -> None:
    await notifier.tenant(ADA)
    campaign_id = await write(notifier, a_news(segment=Segment(addon_key="com.example.other")))
    await approve(notifier, campaign_id)
    with pytest.raises(NewsRefused, match="Nobody would get it"):
        await schedule(notifier, campaign_id)


# -- whom it reaches ------------------------------------------------------------------------------


async def test_everybody_is_told_once_in_their_language_with_a_way_out(notifier: Notifier) -> None:
    await notifier.tenant(ADA, BOB)
    await notifier.tenant(ADA.upper())
    await notifier.worker.execute(
        "UPDATE audience SET language = 'de' WHERE address_index = $1", index(notifier, BOB)
    )
    campaign_id = await send(notifier)

    assert [each.lower() for each in told(notifier)] == [ADA, BOB]
    english, german = sorted(notifier.mails, key=lambda mail: mail.recipients[0].lower())
    assert (english.subject, german.subject) == (ENGLISH[0], GERMAN[0])
    assert "- one\n- two" in english.text.replace("\r\n", "\n")
    headers = dict(english.headers)
    link = headers["List-Unsubscribe"].strip(" <>")
    assert headers["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert headers["List-Id"].startswith("<product-update.")
    assert link in english.text
    assert link in english.html
    assert "http://" not in english.html.replace("http://127.0.0.1", "")
    assert "<img" not in english.html

    assert await jobs(notifier).finish() == 1
    assert await stage(notifier, campaign_id) is Stage.DONE
    assert await jobs(notifier).plan() == await notifier.mail.run() == 0


async def test_where_a_translation_is_missing_all_of_the_letter_is_english(
    notifier: Notifier,
) -> None:
    await notifier.tenant(ADA)
    await notifier.worker.execute("UPDATE audience SET language = 'de'")
    await send(notifier, a_news(german=("", "")))
    [mail] = notifier.mails
    assert "Dear Ada" in mail.text
    assert "Choose what you get" in mail.text


async def test_what_was_written_is_never_a_template(notifier: Notifier) -> None:
    await notifier.tenant(ADA)
    await send(notifier, a_news(("{{ 7 * 7 }}", "{% raise %} {{ recipient.address }}"), ("", "")))
    [mail] = notifier.mails
    assert mail.subject == "{{ 7 * 7 }}"
    assert "{% raise %} {{ recipient.address }}" in mail.text


def index(notifier: Notifier, address: str) -> bytes:
    return notifier.keys.blind_index(ADDRESS_INDEX, address)


async def test_who_declined_or_sells_licences_is_never_told(notifier: Notifier) -> None:
    kinds = [Kind.PRODUCT_UPDATE.value, Kind.NEW_PRODUCT.value, ALL_OPTIONAL, EVERYTHING]
    people = {scope: f"{scope}@c.example" for scope in kinds}
    await notifier.tenant(*people.values(), BOB, EVE)
    await notifier.tenant(BOB)
    for scope, address in people.items():
        async with notifier.units.begin() as uow:
            await suppressions.suppress(
                uow, index(notifier, address), scope=scope, reason=Reason.OPTED_OUT
            )
    await notifier.worker.execute(
        """
        UPDATE audience SET roles = '{partner}'
         WHERE contact_id = (SELECT contact_id FROM audience WHERE address_index = $1 LIMIT 1)
        """,
        index(notifier, BOB),
    )
    await send(notifier)
    assert told(notifier) == [EVE, people[Kind.NEW_PRODUCT]]


async def test_who_declines_after_the_planning_is_not_told(notifier: Notifier) -> None:
    await notifier.tenant(ADA, BOB)
    campaign_id = await scheduled(notifier)
    assert await jobs(notifier).plan() == 2
    async with notifier.units.begin() as uow:
        await suppressions.suppress(
            uow, index(notifier, ADA), scope=Kind.PRODUCT_UPDATE, reason=Reason.OPTED_OUT
        )
    await notifier.mail.run()
    assert told(notifier) == [BOB]
    async with notifier.units.begin() as uow:
        course = await campaigns.course_of(uow.connection, campaign_id, now=uow.now)
    assert course is not None
    assert (course.counts, course.left) == ({"sent": 1, "suppressed": 1}, 0)


@pytest.mark.parametrize(
    ("segment", "addresses"),
    [
        ({}, [ADA, BOB]),
        ({"addon_key": "com.example.other"}, [BOB]),
        ({"product": "jira"}, [ADA]),
        ({"edition": "premium", "region": "emea"}, [ADA]),
        ({"edition": "premium", "region": "apac"}, []),
    ],
    ids=("all", "app", "product", "edition and region", "nobody"),
)
async def test_a_segment_is_told_and_nobody_else(
    notifier: Notifier, segment: dict[str, str], addresses: list[str]
) -> None:
    one, other = await notifier.tenant(ADA), await notifier.tenant(BOB)
    await notifier.know(Tenant(other, "com.example.other", ClassState.LIVE))
    await notifier.worker.execute(
        "UPDATE tenants SET product = 'jira', edition = 'premium', region = 'emea'"
        " WHERE tenant_id = $1",
        one,
    )
    gone = await notifier.tenant(EVE)
    await notifier.know(Tenant(gone, "com.example.app", ClassState.PURGING))
    news = a_news(segment=Segment(**segment))
    async with notifier.units.begin() as uow:
        counted = await store.count_recipients(uow.connection, news.kind, news.segment)
    assert counted == len(addresses)
    if addresses:
        await send(notifier, news)
    assert told(notifier) == addresses


async def test_people_of_an_erased_tenant_are_not_planned(notifier: Notifier) -> None:
    tenant_id = await notifier.tenant(ADA)
    await notifier.tenant(BOB)
    campaign_id = await scheduled(notifier)
    await notifier.start_wave_2(tenant_id)
    assert await jobs(notifier).plan() == 1
    assert await stage(notifier, campaign_id) is Stage.SENDING


# -- its time, pauses, restores -------------------------------------------------------------------


async def test_it_waits_for_its_time(notifier: Notifier) -> None:
    await notifier.tenant(ADA)
    await scheduled(notifier, at=NOW + timedelta(hours=1))
    assert await jobs(notifier).plan() == 0
    notifier.clock.advance(timedelta(hours=1))
    assert await jobs(notifier).plan() == 1


async def test_that_it_is_being_sent_is_said_once_and_names_nobody(notifier: Notifier) -> None:
    await notifier.tenant(ADA)
    campaign_id = await send(notifier, a_news(segment=Segment(addon_key="com.example.app")))
    await jobs(notifier).plan()
    rows = await notifier.worker.fetch(
        "SELECT payload FROM outbox WHERE topic = 'notifier.notices.v1'"
    )
    assert [ProductUpdateAnnounced.decode(row["payload"]) for row in rows] == [
        ProductUpdateAnnounced(
            campaign_id=campaign_id,
            news_kind=Kind.PRODUCT_UPDATE.value,
            addon_key="com.example.app",
            announced_at=NOW,
        )
    ]


async def test_what_is_paused_waits_and_what_is_stopped_stays_so(notifier: Notifier) -> None:
    await notifier.tenant(ADA)
    campaign_id = await scheduled(notifier)
    await jobs(notifier).plan()
    await steer(notifier, campaign_id, Act.PAUSED)
    assert await notifier.mail.run() == 0
    await steer(notifier, campaign_id, Act.RESUMED)
    await steer(notifier, campaign_id, Act.STOPPED)
    assert await notifier.mail.run() == 0
    for act in (Act.RESUMED, Act.PAUSED, Act.STOPPED):
        with pytest.raises(NewsRefused, match="moved on"):
            await steer(notifier, campaign_id, act)
    assert await stage(notifier, campaign_id) is Stage.STOPPED
    assert told(notifier) == []


async def test_scheduled_news_that_is_paused_is_planned_when_it_is_resumed(
    notifier: Notifier,
) -> None:
    await notifier.tenant(ADA)
    campaign_id = await scheduled(notifier)
    await steer(notifier, campaign_id, Act.PAUSED)
    assert await jobs(notifier).plan() == 0
    await steer(notifier, campaign_id, Act.RESUMED)
    assert await jobs(notifier).plan() == 1


async def test_what_is_owed_to_everybody_cannot_be_stopped(notifier: Notifier) -> None:
    await notifier.worker.execute(
        "INSERT INTO campaigns VALUES ($1, 'policy-change', 'sending', $2)", NOBODY, NOW
    )
    with pytest.raises(NewsRefused):
        await steer(notifier, NOBODY, Act.STOPPED)
    await steer(notifier, NOBODY, Act.PAUSED)
    await steer(notifier, NOBODY, Act.RESUMED)


async def test_after_a_restore_all_news_waits_for_a_person(notifier: Notifier) -> None:
    await notifier.tenant(ADA)
    waiting = await scheduled(notifier, at=NOW + timedelta(hours=1))
    running = await scheduled(notifier)
    await jobs(notifier).plan()
    await doubt_deliveries(notifier.units)
    notifier.clock.advance(timedelta(hours=2))

    assert await jobs(notifier).plan() == await notifier.mail.run() == 0
    for campaign_id in (waiting, running):
        assert await stage(notifier, campaign_id) is Stage.PAUSED
        async with notifier.units.begin() as uow:
            assert await campaigns.resume_campaign(uow.connection, campaign_id)
    assert await jobs(notifier).plan() == 1
    await notifier.mail.run()
    # What was under way may have arrived, and news is not sent a second time.
    assert told(notifier) == [ADA]
    assert (
        await notifier.worker.fetchval(
            "SELECT state FROM deliveries WHERE campaign_id = $1", running
        )
        == "uncertain"
    )


async def test_news_that_was_sent_before_a_restore_is_not_scheduled_again(
    notifier: Notifier,
) -> None:
    await notifier.tenant(ADA)
    campaign_id = await write(notifier)
    async with notifier.units.begin() as uow:
        assert await store.stop_announced(uow.connection, [campaign_id], now=uow.now) == 1
        assert await store.stop_announced(uow.connection, [campaign_id], now=uow.now) == 0
    await approve(notifier, campaign_id)
    with pytest.raises(NewsRefused, match="before a restore"):
        await schedule(notifier, campaign_id)


async def test_old_news_is_forgotten_and_drafts_and_what_runs_are_not(notifier: Notifier) -> None:
    await notifier.tenant(ADA)
    sent, running = await send(notifier), await scheduled(notifier)
    await jobs(notifier).finish()
    notifier.clock.advance(KEPT + timedelta(days=1))
    draft = await write(notifier)
    await jobs(notifier).tidy()
    rows = await notifier.worker.fetch("SELECT campaign_id FROM product_news")
    assert {row["campaign_id"] for row in rows} == {running, draft}
    assert not await notifier.worker.fetchval(
        "SELECT count(*) FROM deliveries WHERE campaign_id = $1", sent
    )


async def test_what_is_not_there_cannot_be_approved(notifier: Notifier) -> None:
    with pytest.raises(NewsRefused, match="not there"):
        async with notifier.units.begin() as uow:
            await process.approve(uow, uuid4(), version=1, by=READER)
