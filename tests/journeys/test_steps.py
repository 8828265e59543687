"""A service is killed at each step of a purge, and the purge ends as if nobody had been."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import httpx2
import pytest

from cli.audit import check_receipt
from contracts.classes import DataClass
from contracts.deadlines import deadline
from contracts.ledger import EntryKind, ReceiptStage
from contracts.purges import Phase, Plan
from contracts.topics import SERVICES
from devstack.journey import Journey, TookTooLongError, data_map_of
from devstack.postgres import RunningPostgres
from devstack.provider import ROLE_VARIABLES
from devstack.stack import start_local_stack
from tests.support.cuts import Commit, Cuts, Fate, published, said
from tests.support.journey import (
    Entrusted,
    entrust,
    fingerprint,
    leave,
    ledger_keys,
    let_it_start,
    whole_ledger,
    without_given_servers,
)
from tests.support.stack import Databases

A_DAY = timedelta(days=1)
# Longer than a claim of an erasure that a killed service leaves behind (business time).
LONGER_THAN_A_CLAIM = timedelta(minutes=3)
AT_ONCE_SECONDS = 5.0
# Claims of mails and tickets go by wall time, and last up to three minutes.
PATIENCE_SECONDS = 300.0
NUDGE_SECONDS = 10.0


def of_erasure(service: str, step: str, key: bool, *rows: str) -> tuple[Commit, ...]:
    """The commits of an owner's part: guard, claim, key, rows, answer."""
    its = f"NEW.step = '{step}'"
    claimed = f"{its} AND OLD.claim_token IS NULL AND NEW.claim_token IS NOT NULL"
    answered = f"{its} AND OLD.state = 'queued' AND NEW.state = 'erased'"
    keys = [Commit(service, "key destroyed", "DELETE ON tenant_keys")] if key else []
    return (
        Commit(service, f"{step} accepted", "INSERT ON erasures", its),
        Commit(service, f"{step} claimed", "UPDATE ON erasures", claimed),
        *keys,
        *(Commit(service, f"{table} erased", f"DELETE ON {table}") for table in rows),
        Commit(service, f"{step} answered", "UPDATE ON erasures", answered),
    )


def of_purger(name: str, write: str, when: str) -> Commit:
    return Commit("purger", name, write, when, "purge_id")


ANSWERED = "OLD.erased_at IS NULL AND NEW.erased_at IS NOT NULL"
COMMITS = (
    # Wave 0.
    of_purger("asked", "UPDATE ON purges", "OLD.phase = 'planned' AND NEW.phase = 'requested'"),
    said("purger", "purge-requested"),
    Commit("installer", "accepted", "INSERT ON accepted_purges"),
    said("installer", "purge-accepted"),
    # Wave 1.
    of_purger("begun", "INSERT ON ledger", "NEW.part = 'wave-1'"),
    published("wave-1"),
    said("purger", "purge-started"),
    *of_erasure("installer", "erase-installer", True, "installations", "timelines"),
    said("installer", "data-erased"),
    *of_erasure("config", "erase-config", True, "things", "tenants", "followed_states"),
    said("config", "data-erased"),
    Commit(
        "notifier",
        "tickets claimed",
        "UPDATE ON ticket_erasures",
        "OLD.claim_token IS NULL AND NEW.claim_token IS NOT NULL",
    ),
    Commit("notifier", "ticket noted", "INSERT ON tickets"),
    Commit("notifier", "tickets gone", "UPDATE ON ticket_erasures", "NEW.state = 'done'"),
    *of_erasure("notifier", "erase-notifier", False, "licences", "tickets"),
    said("notifier", "data-erased"),
    *(
        of_purger(f"{step} answered", "UPDATE ON steps", f"NEW.step = '{step}' AND {ANSWERED}")
        for step in ("erase-installer", "erase-config", "erase-notifier")
    ),
    of_purger("first receipt", "INSERT ON ledger", "NEW.part = 'receipt-erased'"),
    published("receipt-erased"),
    Commit(
        "installer",
        "first receipt heard",
        "UPDATE ON tenants",
        "NEW.classes ->> 'installation' = 'erased' AND NEW.classes <> OLD.classes",
    ),
    # Wave 2.
    Commit("notifier", "first receipt kept", "INSERT ON receipts", column="purge_id"),
    Commit("notifier", "mail claimed", "UPDATE ON deliveries", "NEW.state = 'sending'"),
    Commit("notifier", "mail recorded", "UPDATE ON deliveries", "NEW.state = 'sent'"),
    *of_erasure("notifier", "erase-contacts", True, "contacts", "deliveries"),
    of_purger("last receipt", "INSERT ON ledger", "NEW.part = 'receipt-closed'"),
    published("receipt-closed"),
    # The end.
    Commit("installer", "tenant gone", "DELETE ON tenants"),
    said("installer", "tenant-installed"),  # the type of a tombstone
    Commit("config", "purges forgotten", "DELETE ON purge_states"),
    Commit("purger", "tenant forgotten", "DELETE ON tenants"),
)
# One of each service, where most hangs on it.
SOME = {
    ("installer", "key destroyed", Fate.STANDS),
    ("config", "things erased", Fate.STANDS),
    ("notifier", "contacts erased", Fate.LOST),
    ("purger", "first receipt", Fate.LOST),
}
GIVEN = (
    *(f"{service}.tenant_keys" for service in ("installer", "config", "notifier")),
    *("installer.installations", "config.things", "notifier.contacts", "notifier.licences"),
)
# Before these a mail server or a service desk was called; or nothing was done at all yet.
AFTER_A_CALL = {"asked", "ticket noted", "tickets gone", "mail recorded"}
# A mail that was being sent is looked after when its lease of 75 seconds is over. Three days of
# business time later it would be given up, and each next customer's purge begins a day later.
MAIL_IN_HAND = [("mail claimed", Fate.STANDS), ("mail recorded", Fate.LOST)]
MAIL_SECONDS = 150.0
# Whoever dies between the server's word and noting it cannot know, and sends it again.
SENT_TWICE = [("mail recorded", Fate.LOST)]


@dataclass
class Traveller:
    """A customer that leaves, and in which commit which service is killed meanwhile."""

    journey: Journey
    given: Entrusted
    plan: Plan
    commit: Commit
    fate: Fate

    def __str__(self) -> str:
        return f"{self.commit}, {self.fate.value}"

    @property
    def whose(self) -> UUID:
        by_purge = self.commit.column == "purge_id"
        return self.plan.purge_id if by_purge else self.journey.tenant_id


def licence_of(journey: Journey) -> str:
    return f"SEN-{journey.site}".upper()


@pytest.fixture(scope="module")
async def cuts(
    postgres: RunningPostgres, databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Cuts]:
    """A stack with a Kafka of its own, on databases whose superuser we are."""
    roles = await databases(*SERVICES)
    given = {
        variable.format(service.upper()): str(getattr(roles[service], kind))
        for service in SERVICES
        for kind, variable in ROLE_VARIABLES.items()
    }
    folder = tmp_path_factory.mktemp("steps")
    environment = {**without_given_servers(), **given}
    async with await start_local_stack(folder, environment=environment) as stack:
        urls = {
            service: postgres.superuser_url(urlsplit(each.runtime_url).path.removeprefix("/"))
            for service, each in roles.items()
        }
        prepared = Cuts(stack, urls)
        await prepared.prepare(COMMITS)
        yield prepared


@pytest.mark.timeout(300)
async def test_a_service_killed_in_a_commit_of_a_purge_changes_nothing_about_the_end(
    cuts: Cuts,
) -> None:
    wanted = [
        (commit, fate)
        for commit in COMMITS
        for fate in Fate
        if (commit.service, commit.name, fate) in SOME
    ]
    assert len(wanted) == len(SOME)

    await travel(cuts, "some", wanted)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_killed_at_any_step_of_a_purge_changes_nothing_about_the_end(
    cuts: Cuts, service: str
) -> None:
    wanted = [
        (commit, fate)
        for commit in COMMITS
        if commit.service == service
        for fate in fates_of(commit)
    ]

    await travel(cuts, service, wanted)


def fates_of(commit: Commit) -> tuple[Fate, ...]:
    """Which of its fates leave something that no other commit's leaves.

    A commit that is lost leaves what the one before left, unless something was
    done meanwhile that is not in the database.
    """
    if commit.function == "hold_said":
        return (Fate.LOST,)
    return (Fate.LOST, Fate.STANDS) if commit.name in AFTER_A_CALL else (Fate.STANDS,)


async def travel(cuts: Cuts, name: str, wanted: Sequence[tuple[Commit, Fate]]) -> None:
    """Let one customer leave undisturbed, and one for each kill; expect the same end of all."""
    stack = cuts.stack
    async with httpx2.AsyncClient() as http:
        neighbour = Journey(stack, http, f"{name}-neighbour")
        calm = Journey(stack, http, f"{name}-calm")
        sites = [Journey(stack, http, f"{name}-{number:02}") for number in range(len(wanted))]
        _, given, *entrusted = await asyncio.gather(*map(settle_in, (neighbour, calm, *sites)))
        untouched = await what_is_its_own(cuts, neighbour)

        calm_plan = await leave(calm)
        travellers = []
        for site, its, (commit, fate) in zip(sites, entrusted, wanted, strict=True):
            await site.move_to(next_day_alone(stack.now()))
            travellers.append(Traveller(site, its, await leave(site), commit, fate))

        await let_it_start(calm, calm_plan)
        await come_to_an_end(calm)
        usual = await End.of(cuts, calm, given)
        problems = []
        for each in travellers:
            print(each)  # noqa: T201 - shown with a failure
            try:
                await set_out(cuts, each)
            except AssertionError as error:
                problems.append(str(error))
        for each in travellers:
            try:
                await come_to_an_end(each.journey)
                problems += await differences(cuts, each, usual)
            except TookTooLongError as error:
                problems.append(f"{each}: {error}")
        assert problems == []
        assert await what_is_its_own(cuts, neighbour) == untouched
        assert len(await neighbour.tickets_naming(neighbour.site)) == 1


def next_day_alone(now: datetime) -> datetime:
    """When to leave next, so that the purge begins on another day than that of who leaves now.

    Dates are reckoned by days, and the last ones of a month may have the same six months later.
    """
    later = now + A_DAY
    while deadline(later) <= deadline(now):
        later += A_DAY
    return later


async def what_is_its_own(cuts: Cuts, journey: Journey) -> dict[str, str]:
    """Hash what a tenant gave us; jobs ask its site what they then note of it."""
    found = await fingerprint(cuts.superuser_urls, journey.tenant_id)
    return {name: found[name] for name in GIVEN}


async def settle_in(journey: Journey) -> Entrusted:
    given = await entrust(journey, licence=licence_of(journey))
    await journey.open_ticket(licence_of(journey), given.name)
    return given


async def set_out(cuts: Cuts, traveller: Traveller) -> None:
    """Let the purge begin, kill the service in the commit, and give the rest a moment."""
    async with cuts.holding(traveller.commit, traveller.whose) as held:
        await let_it_start(traveller.journey, traveller.plan)
        await held.kill(traveller.fate)
    in_hand = (traveller.commit.name, traveller.fate) in MAIL_IN_HAND
    patience = MAIL_SECONDS if in_hand else AT_ONCE_SECONDS
    hasty = replace(traveller.journey, patience_seconds=patience)
    with suppress(TookTooLongError):
        await hasty.wait_for_phase(Phase.CLOSED)
        return
    await hasty.move_to(cuts.stack.now() + LONGER_THAN_A_CLAIM)


async def come_to_an_end(journey: Journey) -> None:
    hasty = replace(journey, patience_seconds=NUDGE_SECONDS)
    for _ in range(int(PATIENCE_SECONDS / NUDGE_SECONDS)):
        with suppress(TookTooLongError):
            await hasty.wait_for_phase(Phase.CLOSED)
            break
        await journey.move_to(journey.stack.now() + LONGER_THAN_A_CLAIM)
    await journey.wait_until_gone()


@dataclass(frozen=True)
class End:
    """What a purge leaves behind when it is over: proof, and nothing of the tenant."""

    rows: dict[str, int]
    counts: dict[str, dict[DataClass, int]]

    @classmethod
    async def of(cls, cuts: Cuts, journey: Journey, given: Entrusted) -> "End":
        """Wait for the last service that forgets the tenant, and look."""

        async def forgotten() -> dict[str, int] | None:
            rows = await all_rows(cuts, journey.tenant_id)
            return None if {"purger.tenants", "config.purge_states"} & rows.keys() else rows

        rows = await journey.until(forgotten, "the tenant is forgotten")
        mail = await journey.wait_for_receipt_mail(given.address)
        receipt = (await journey.receipt(mail.code))[-1].receipt
        assert receipt is not None
        return cls(rows, {step.step: step.counts for step in receipt.steps})


async def all_rows(cuts: Cuts, tenant_id: UUID) -> dict[str, int]:
    """Count what is left of a tenant by table, proof too; what was said is said as often as asked."""
    found = {}
    for service, url in cuts.superuser_urls.items():
        connection = await asyncpg.connect(url)
        try:
            for table in data_map_of(service).all_tables:
                if table.tenant_column is not None and table.name != "outbox":
                    found[f"{service}.{table.name}"] = await connection.fetchval(
                        f"SELECT count(*) FROM {table.name} WHERE {table.tenant_column} = $1",
                        tenant_id,
                    )
        finally:
            await connection.close()
    return {name: count for name, count in found.items() if count}


async def differences(cuts: Cuts, traveller: Traveller, usual: End) -> list[str]:
    """Say in what the end is not the usual one."""
    journey, given = traveller.journey, traveller.given
    end = await End.of(cuts, journey, given)
    mails = await journey.receipt_mails(given.address)
    most = 2 if traveller.commit.service == "notifier" else 1
    least = 2 if (traveller.commit.name, traveller.fate) in SENT_TWICE else 1
    entries = await journey.receipt(mails[0].code)
    ledger = await whole_ledger(journey)
    check_receipt(entries, ledger, await ledger_keys(journey))
    recorded = [e.kind for e in ledger.entries if e.purge_id == traveller.plan.purge_id]
    expected: list[tuple[str, object, object]] = [
        ("rows", end.rows, usual.rows),
        ("counts", end.counts, usual.counts),
        ("traces", await journey.traces_of(*given.secrets_of(journey)), []),
        ("tickets", await journey.tickets_naming(given.name), []),
        ("Message-IDs", len({mail.message_id for mail in mails}), 1),
        ("mails", min(max(len(mails), least), most), len(mails)),
        ("stages", [e.receipt.stage for e in entries if e.receipt], list(ReceiptStage)),
        ("ledger", recorded, [EntryKind.TENANT_ERASED, EntryKind.RECEIPT] * 2),
    ]
    return [
        f"{traveller}: {what} {found} and not {wanted}"
        for what, found, wanted in expected
        if found != wanted
    ]
