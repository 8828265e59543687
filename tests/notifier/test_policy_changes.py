"""Who is told of a revision: every contact, once, with evidence that outlives the contact."""

import asyncio
import re
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from chassis.erasure import ErasureOrder, accept_erasure
from contracts.tenants import ClassState
from devstack.mail import Answer, Fault, Moment
from services.notifier.domain.deliveries import Accepted
from services.notifier.domain.people import ADDRESS_INDEX, Language, Tenant
from services.notifier.domain.policies import Coverage, Proof, campaign_of
from services.notifier.domain.suppressions import EVERYTHING, Reason
from services.notifier.jobs.policies import Policies
from services.notifier.store import deliveries as sent
from services.notifier.store import evidence
from services.notifier.store import policies as store
from services.notifier.store.suppressions import suppress
from tests.notifier.builders import NOW, Notifier, Purge
from tests.notifier.policy_texts import SECOND, SUMMARY, publish, publish_in_force

THREE_YEARS = timedelta(days=1096)
DAY = timedelta(days=1)


def jobs(notifier: Notifier) -> Policies:
    return Policies(notifier.units, notifier.worker, THREE_YEARS)


def index(notifier: Notifier, address: str) -> bytes:
    return notifier.keys.blind_index(ADDRESS_INDEX, address)


async def covered(notifier: Notifier, number: int = 1) -> Coverage:
    async with notifier.runtime.acquire() as connection:
        return await evidence.coverage(connection, number)


async def told(notifier: Notifier) -> list[str]:
    return sorted(address for mail in notifier.mails for address in mail.recipients)


async def test_everybody_is_told_once_whatever_they_are_known_by(notifier: Notifier) -> None:
    await notifier.tenant("ada@c.example", "bob@c.example")
    await notifier.tenant("ADA@c.example", "cyd@c.example")
    await notifier.tenant("dan@c.example", contacts=ClassState.LIVE)
    going = await notifier.tenant("eve@c.example")
    await notifier.know(Tenant(going, "com.example.app", ClassState.PURGING))
    await publish(notifier)

    assert await jobs(notifier).plan() == 4
    assert await jobs(notifier).plan() == 0
    assert await notifier.mail.run() == 4

    assert [each.lower() for each in await told(notifier)] == [
        f"{name}@c.example" for name in ("ada", "bob", "cyd", "dan")
    ]


async def test_nobody_is_told_before_two_people_wanted_it(notifier: Notifier) -> None:
    await notifier.tenant("ada@c.example")
    assert await jobs(notifier).plan() == 0
    revision = await publish(notifier)
    # What was published waits until it is planned.
    assert await notifier.mail.run() == 0
    state = await notifier.worker.fetchval("SELECT state FROM campaigns")
    assert (state, revision.campaign_id) == ("waiting", campaign_of(1))


async def test_who_joins_before_its_day_is_told_too_and_who_comes_later_is_not(
    notifier: Notifier,
) -> None:
    await notifier.tenant("ada@c.example")
    revision = await publish(notifier)
    await jobs(notifier).plan()
    await notifier.mail.run()
    await notifier.worker.execute("UPDATE campaigns SET state = 'done'")

    notifier.clock.set(revision.effective_at - timedelta(minutes=1))
    await notifier.tenant("bob@c.example", "ada@c.example")
    # The job looks after the day only: it was away.
    notifier.clock.set(revision.effective_at + DAY)
    await notifier.tenant("cyd@c.example")
    assert await jobs(notifier).plan_joiners() == 1
    await notifier.mail.run()
    assert await told(notifier) == ["ada@c.example", "bob@c.example"]

    notifier.clock.set(revision.effective_at + 8 * DAY)
    assert await jobs(notifier).plan_joiners() == 0
    assert await store.revisions_to_plan_again(notifier.worker) == []


async def known_twice(notifier: Notifier) -> UUID:
    """A person whom two tenants know, and who is told on account of the one that is returned."""
    first = await notifier.tenant("ada@c.example")
    notifier.clock.advance(timedelta(hours=1))
    await notifier.tenant("ada@c.example")
    await publish(notifier)
    await jobs(notifier).plan()
    return first


async def erase(notifier: Notifier, tenant_id: UUID) -> None:
    """Erase a tenant's people, whom nobody wrote a receipt for, and their deliveries with them."""
    await notifier.know(Tenant(tenant_id, "com.example.app", ClassState.PURGING))
    purge = Purge(tenant_id)
    await notifier.obey(purge.wave_2())
    await notifier.worker.execute(
        "UPDATE deliveries SET state = 'failed' WHERE campaign_id = $1", purge.purge_id
    )
    assert await notifier.erase() == 1


async def test_who_waits_for_the_mail_when_the_tenant_goes_is_told_for_another_one(
    notifier: Notifier,
) -> None:
    first = await known_twice(notifier)

    await erase(notifier, first)
    assert await jobs(notifier).plan_joiners() == 1
    await notifier.mail.run()

    assert await told(notifier) == ["ada@c.example"]


async def test_nobody_is_told_twice_when_the_first_delivery_went_with_its_tenant(
    notifier: Notifier,
) -> None:
    first = await known_twice(notifier)
    await notifier.mail.run()

    await erase(notifier, first)

    assert await notifier.worker.fetch("SELECT FROM deliveries") == []
    assert await jobs(notifier).plan_joiners() == 0
    assert (await covered(notifier)).proofs[Proof.ACCEPTED] == 1


async def test_what_was_accepted_after_its_tenant_went_is_evidence_all_the_same(
    notifier: Notifier,
) -> None:
    first = await known_twice(notifier)
    token = uuid4()
    async with notifier.units.begin() as uow:
        [claim] = await sent.claim_due_deliveries(
            uow.connection, token, wall=NOW + DAY, lease=DAY, limit=1
        )
    await erase(notifier, first)

    async with notifier.units.begin() as uow:
        done = [sent.Done(claim, Accepted(250), NOW)]
        assert await sent.record_outcomes(uow.connection, token, done, now=NOW) == 0

    assert await jobs(notifier).plan_joiners() == 0


async def test_who_is_planned_while_the_tenant_is_erased_leaves_no_delivery_behind(
    notifier: Notifier,
) -> None:
    tenant_id = await notifier.tenant("ada@c.example")
    await publish(notifier)
    async with notifier.units.begin() as uow:
        purge = Purge(tenant_id)
        await accept_erasure(uow, ErasureOrder.of(purge.wave_2()))
        planning = asyncio.create_task(jobs(notifier).plan())
        async with asyncio.timeout(10):
            while not await notifier.worker.fetchval(
                "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND mode = 'ShareLock')"
            ):
                await asyncio.sleep(0)
    assert await planning == 0
    assert await notifier.worker.fetch("SELECT FROM deliveries") == []


# -- the letter -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("language", "subject", "greeting"),
    [
        (
            Language.ENGLISH,
            "Our privacy policy changes on 24 December 2026 (revision 2)",
            "Dear Ada Ex,",
        ),
        (
            Language.GERMAN,
            "Unsere Datenschutzerklärung ändert sich am 24. Dezember 2026 (Fassung 2)",
            "Guten Tag Ada Ex,",
        ),
    ],
)
async def test_the_letter_says_what_changes_and_where_it_stands(
    notifier: Notifier, language: Language, subject: str, greeting: str
) -> None:
    await publish_in_force(notifier)
    await jobs(notifier).plan()
    await notifier.tenant("ada@c.example")
    await notifier.worker.execute("UPDATE audience SET language = $1", language)
    await publish(notifier, SECOND)
    await jobs(notifier).plan()
    await notifier.mail.run()

    (mail,) = notifier.mails
    assert mail.subject == subject
    assert greeting in mail.text
    assert SUMMARY[language] in " ".join(mail.text.split())
    assert SUMMARY[language].replace("&", "&amp;") in mail.html
    assert set(re.findall(r"https?://[^\s\"<]+", mail.text + mail.html)) == {
        "http://127.0.0.1/policy/2",
        "http://127.0.0.1/policy/diff/1...2",
    }
    assert not re.search(r"(?i)<(img|script|link|iframe)|src=|url\(", mail.html)
    assert "List-Unsubscribe" not in dict(mail.headers)


async def test_the_first_revision_names_no_difference(notifier: Notifier) -> None:
    await notifier.tenant("ada@c.example")
    await publish(notifier)
    await jobs(notifier).plan()
    await notifier.mail.run()
    (mail,) = notifier.mails
    assert "/policy/1" in mail.text
    assert "/policy/diff" not in mail.text + mail.html


async def test_who_declined_news_is_told_and_who_asked_to_be_forgotten_is_not(
    notifier: Notifier,
) -> None:
    await notifier.tenant("ada@c.example", "bob@c.example")
    await publish(notifier)
    await jobs(notifier).plan()
    async with notifier.units.begin() as uow:
        for address, scope, reason in (
            ("ada@c.example", "optional", Reason.OPTED_OUT),
            ("bob@c.example", EVERYTHING, Reason.ERASED),
        ):
            await suppress(uow, index(notifier, address), scope=scope, reason=reason)
    await notifier.mail.run()

    assert await told(notifier) == ["ada@c.example"]
    (failure,) = (await covered(notifier)).failures
    assert (failure.outcome, failure.known_as) == (
        Proof.SUPPRESSED,
        index(notifier, "bob@c.example"),
    )
    assert failure.what_was_done == "not written to any more: erased"


# -- evidence and coverage ------------------------------------------------------------------------


async def test_coverage_adds_up_and_names_nobody(notifier: Notifier) -> None:
    await notifier.tenant(*(f"p{n}@c.example" for n in range(4)))
    await notifier.tenant()
    await publish(notifier)
    assert (await covered(notifier)).unplanned == 4
    await jobs(notifier).plan()
    assert (await covered(notifier)).open == 4

    notifier.sink.mailbox.faults = [
        Fault(Answer.REFUSE, Moment.BEFORE_DATA),
        Fault(Answer.DEFER, Moment.BEFORE_DATA),
        Fault(Answer.DROP, Moment.AFTER_DATA),
    ]
    await notifier.mail.run()

    now = await covered(notifier)
    assert now.proofs == {
        Proof.ACCEPTED: 1,
        Proof.FAILED: 1,
        Proof.UNCERTAIN: 1,
        Proof.SUPPRESSED: 0,
    }
    assert (now.contacts, now.open, now.unplanned, now.uninformed) == (4, 1, 0, 1)
    failed, uncertain = sorted(now.failures, key=lambda each: each.outcome)
    assert (failed.status_code, uncertain.status_code) == (550, None)
    rows = await notifier.worker.fetch("SELECT * FROM policy_evidence")
    assert {len(row["address_index"]) for row in rows} == {32}

    notifier.clock.advance(timedelta(minutes=1))
    await notifier.mail.run()
    assert (await covered(notifier)).proofs[Proof.ACCEPTED] == 3


async def test_what_a_dead_worker_left_is_uncertain_until_it_is_sent_once_more(
    notifier: Notifier,
) -> None:
    await notifier.tenant("ada@c.example")
    await publish(notifier)
    await jobs(notifier).plan()
    wall = notifier.clock.wall()
    async with notifier.units.begin() as uow:
        await sent.claim_due_deliveries(
            uow.connection, uuid4(), wall=wall, lease=timedelta(seconds=1), limit=1
        )
    await sent.doubt_lost_attempts(notifier.worker, now=NOW, wall=wall + timedelta(minutes=1))
    assert (await covered(notifier)).proofs[Proof.UNCERTAIN] == 1

    notifier.clock.advance(timedelta(minutes=1))
    await notifier.mail.run()
    assert (await covered(notifier)).proofs[Proof.ACCEPTED] == 1


async def test_what_was_accepted_stays_so_and_receipts_leave_no_evidence(
    notifier: Notifier,
) -> None:
    revision = await publish(notifier)
    async with notifier.units.begin() as uow:
        for campaign_id, proof, code in (
            (revision.campaign_id, Proof.UNCERTAIN, None),
            (revision.campaign_id, Proof.ACCEPTED, 250),
            (revision.campaign_id, Proof.FAILED, 550),
            (uuid4(), Proof.ACCEPTED, 250),
        ):
            told = evidence.Told(campaign_id, b"somebody", proof, code)
            await evidence.note_evidence(uow.connection, [told], now=NOW)
    rows = await notifier.worker.fetch("SELECT outcome, status_code FROM policy_evidence")
    assert [tuple(row) for row in rows] == [("accepted", 250)]


async def test_evidence_outlives_the_contact_and_ends_three_years_after_the_next_revision(
    notifier: Notifier,
) -> None:
    tenant_id = await notifier.tenant("ada@c.example")
    await publish_in_force(notifier)
    await jobs(notifier).plan()
    await notifier.mail.run()
    await erase(notifier, tenant_id)
    replaced = await publish(notifier, SECOND)
    everything = await notifier.everything()
    assert "ada@" not in everything

    for moment, kept in (
        (replaced.effective_at + THREE_YEARS - DAY, 1),
        (replaced.effective_at + THREE_YEARS + DAY, 0),
    ):
        notifier.clock.set(moment)
        await jobs(notifier).tidy()
        assert (await covered(notifier)).contacts == kept


async def test_evidence_of_what_is_in_force_has_no_end(notifier: Notifier) -> None:
    await notifier.tenant("ada@c.example")
    await publish_in_force(notifier)
    await jobs(notifier).plan()
    await notifier.mail.run()
    notifier.clock.advance(10 * THREE_YEARS)
    await jobs(notifier).tidy()
    assert (await covered(notifier)).proofs[Proof.ACCEPTED] == 1
