"""The tickets of a tenant that leaves are erased at their desk, looked for again, and counted."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from structlog.testing import capture_logs

from chassis.egress import Egress
from connect.service_desk import ERASED_SUMMARY, Refused, ServiceDesk
from contracts.classes import TENANT_CLASSES, DataClass
from contracts.purges import BY_A_PERSON
from contracts.tenants import ClassState, TenantState
from devstack.atlassian import Atlassian, create_app
from devstack.atlassian import service_desk as stand_in
from devstack.atlassian.service_desk import DeskFaults
from services.notifier.clients import TicketDesk
from services.notifier.domain.tickets import (
    EVIDENCE_KEPT,
    FIRST_PAUSE_OF_DESK,
    HISTORY_STAYS,
    LICENCES_UNKNOWN,
    MOST_EVIDENCE,
    TicketsGo,
    WhatGoes,
    complaint_about_evidence,
    history_stays,
    licences_may_be_kept,
    who_erases_tickets,
)
from services.notifier.handlers import forget_tenant
from services.notifier.jobs import tickets
from services.notifier.jobs.tickets import TicketErasures, TicketEvidence
from services.notifier.store import tickets as store
from services.notifier.store.tickets import TicketClaim
from tests.connect.serving import serving
from tests.notifier.builders import Notifier, Purge
from tests.support.chassis import a_tenant

SEN = "SEN-12345678"
NEIGHBOUR = "SEN-87654321"
LEASE = timedelta(minutes=3)
FIRST = FIRST_PAUSE_OF_DESK


@dataclass(frozen=True)
class Desk:
    """A desk with tickets, and a notifier that may reach it."""

    notifier: Notifier
    tickets: stand_in.ServiceDesk
    address: TicketDesk

    def job(self, what_goes: WhatGoes = WhatGoes.TICKET) -> TicketErasures:
        return TicketErasures(self.notifier.units, self.notifier.worker, self.address, what_goes)

    def open(self, licence: str = SEN, person: str = "Ada Example") -> str:
        return self.tickets.open_ticket(licence, person).ticket_id

    async def leaving(self, *numbers: str) -> Purge:
        """A tenant of these licences in wave 1 of its purge."""
        purge = Purge(await self.notifier.hear(with_licences(*numbers)))
        await self.notifier.obey(purge.wave_1())
        return purge

    async def erasure(self) -> dict[str, Any]:
        [row] = await self.notifier.erasures_of_tickets()
        return row

    async def answer_of(self, purge: Purge) -> dict[DataClass, int] | None:
        """Let the eraser run; the last answer's counts, None where there is none."""
        await self.notifier.erase()
        answers = await self.notifier.answers(purge.tenant_id)
        assert all(answer.remaining == 0 for answer in answers)
        return answers[-1].counts if answers else None

    async def said_by(self, purge: Purge) -> str | None:
        return (await self.notifier.answers(purge.tenant_id))[-1].by


def with_licences(*numbers: str, n: int = 1, tenant_id: UUID | None = None) -> TenantState:
    return a_tenant(n=n, tenant_id=tenant_id).model_copy(update={"licence_numbers": numbers})


def purging(tenant: TenantState) -> TenantState:
    classes = dict.fromkeys(TENANT_CLASSES, ClassState.PURGING)
    return tenant.model_copy(update={"classes": classes, "licence_numbers": ()})


@pytest.fixture
async def desk(notifier: Notifier, tmp_path: Path) -> AsyncIterator[Desk]:
    token = tmp_path / "desk-token"
    token.write_text(f"{stand_in.TOKEN}\n", "utf-8")
    async with httpx2.AsyncClient() as http:
        atlassian = Atlassian(http)
        async with serving(create_app(atlassian, "http://127.0.0.1:9", ["a"])) as url:
            address = TicketDesk(
                f"{url}{stand_in.PATH}",
                stand_in.PROJECT,
                stand_in.LICENCE_FIELD,
                stand_in.ACCOUNT,
                token,
                Egress.to(url).client,
            )
            yield Desk(notifier, atlassian.service_desk, address)


# -- rules --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("numbers", "has_desk", "goes_on", "who"),
    [
        (("1",), True, False, TicketsGo.BY_JOB),
        ((), True, False, None),
        (None, True, False, TicketsGo.BY_HAND),
        (("1",), True, True, None),
        (("1",), False, False, None),
        (None, False, False, None),
    ],
)
def test_who_erases_tickets(
    numbers: tuple[str, ...] | None, has_desk: bool, goes_on: bool, who: TicketsGo | None
) -> None:
    assert who_erases_tickets(numbers, has_desk=has_desk, goes_on=goes_on) is who


@pytest.mark.parametrize("data_class", TENANT_CLASSES)
def test_licences_are_heard_while_every_class_is_live(data_class: DataClass) -> None:
    live = dict.fromkeys(TENANT_CLASSES, ClassState.LIVE)
    assert licences_may_be_kept(live)
    assert not licences_may_be_kept(live | {data_class: ClassState.PURGING})


def test_history_is_left_where_tickets_are() -> None:
    assert history_stays(WhatGoes.PERSONAL_DATA, 1)
    assert not history_stays(WhatGoes.PERSONAL_DATA, 0)
    assert not history_stays(WhatGoes.TICKET, 1)


@pytest.mark.parametrize(
    ("evidence", "complaint"),
    [
        ("Deleted filter 10210, 3 tickets, in the desk", None),
        ("x" * MOST_EVIDENCE, None),
        ("x" * (MOST_EVIDENCE + 1), "at most"),
        (" ", "how you know"),
        ("two\nlines", "one line"),
        ("asked ada@customer.example", "names an address"),
    ],
)
def test_evidence_is_short_and_names_no_address(evidence: str, complaint: str | None) -> None:
    said = complaint_about_evidence(evidence)
    assert said is None if complaint is None else complaint in str(said)


# -- what is heard ------------------------------------------------------------------------------


async def known(notifier: Notifier, tenant_id: UUID) -> tuple[str, ...] | None:
    async with notifier.units.begin() as uow:
        return await store.licence_numbers(uow.connection, tenant_id)


async def test_licences_are_known_as_they_are_until_the_point_of_no_return(
    notifier: Notifier,
) -> None:
    tenant = with_licences(SEN, "e-ab-1", "12345678")
    await notifier.hear(tenant)
    assert await known(notifier, tenant.tenant_id) == ("12345678", "E-AB-1")
    await notifier.hear(with_licences(NEIGHBOUR, tenant_id=tenant.tenant_id))
    assert await known(notifier, tenant.tenant_id) == ("87654321",)
    await notifier.hear(purging(tenant))
    assert await known(notifier, tenant.tenant_id) == ("87654321",)


async def test_licences_that_are_heard_late_are_not_kept(notifier: Notifier) -> None:
    unheard, tenant = uuid4(), with_licences(SEN)
    await notifier.hear(tenant)
    for tenant_id in (unheard, tenant.tenant_id):
        await notifier.obey(Purge(tenant_id).wave_1())
        await notifier.hear(with_licences(NEIGHBOUR, tenant_id=tenant_id))
    assert await known(notifier, unheard) is None
    assert await known(notifier, tenant.tenant_id) == ("12345678",)


# -- the way of a purge -------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["command", "ledger", "both"])
async def test_tickets_are_erased_before_the_step_is_answered(desk: Desk, way: str) -> None:
    tenant_id = await desk.notifier.hear(with_licences(SEN, "E-AB-1"))
    purge = Purge(tenant_id)
    for licence in (SEN, "12345678", "E-AB-1"):
        desk.open(licence)
    neighbour = desk.open(NEIGHBOUR, "Eve Example")
    if way != "ledger":
        await desk.notifier.obey(purge.wave_1())
    if way != "command":
        await desk.notifier.read_wave_1(purge)

    assert await desk.answer_of(purge) is None
    assert await desk.job().run() == 1
    assert list(desk.tickets.tickets) == [neighbour]
    assert await desk.answer_of(purge) == {DataClass.TICKETS: 3}
    assert await desk.said_by(purge) is None

    assert await known(desk.notifier, tenant_id) is None
    everything = await desk.notifier.everything()
    assert "12345678" not in everything
    assert "E-AB-1" not in everything


async def test_a_tenant_without_a_licence_has_no_tickets_and_is_answered_at_once(
    desk: Desk,
) -> None:
    purge = await desk.leaving()
    assert await desk.answer_of(purge) == {DataClass.TICKETS: 0}
    assert desk.tickets.requests == 0
    desk.notifier.clock.advance(timedelta(minutes=1))
    # Asked again, nothing is known of its licences any more, and nobody is to look for that.
    await desk.notifier.obey(purge.wave_1())
    await desk.answer_of(purge)
    assert len(await desk.notifier.answers(purge.tenant_id)) == 2
    assert await desk.notifier.erasures_of_tickets() == []


async def test_a_desk_without_their_tickets_is_asked_all_the_same(desk: Desk) -> None:
    purge = await desk.leaving(SEN)
    assert await desk.job().run() == 1
    assert desk.tickets.requests > 0
    assert await desk.answer_of(purge) == {DataClass.TICKETS: 0}


async def test_a_ticket_of_a_living_tenants_licence_is_left_and_counted(desk: Desk) -> None:
    living = await desk.notifier.hear(with_licences(NEIGHBOUR, SEN))
    purge = await desk.leaving(SEN, "E-AB-1")
    shared, both = desk.open(SEN), desk.open(f"E-AB-1 {NEIGHBOUR}")
    desk.open("E-AB-1")

    assert await desk.job().run() == 1

    assert list(desk.tickets.tickets) == [shared, both]
    assert (await desk.erasure())["tickets_left"] == 2
    assert await desk.answer_of(purge) == {DataClass.TICKETS: 1}
    # When the other one leaves too, nobody is left who holds them.
    other = Purge(living)
    await desk.notifier.obey(other.wave_1())
    assert await desk.job().run() == 1
    assert desk.tickets.tickets == {}
    assert await desk.answer_of(other) == {DataClass.TICKETS: 2}


async def test_two_that_leave_at_once_leave_a_common_ticket_to_nobody(desk: Desk) -> None:
    first, second = await desk.leaving(SEN), await desk.leaving(SEN)
    desk.open()
    assert await desk.job().run() == 2
    assert desk.tickets.tickets == {}
    counts = [await desk.answer_of(purge) for purge in (first, second)]
    assert sorted(each[DataClass.TICKETS] for each in counts if each) == [0, 1]


async def test_nobody_holds_a_licence_against_themselves(notifier: Notifier) -> None:
    tenant_id = await notifier.hear(with_licences(SEN, "E-AB-1"))
    held = {"12345678", "87654321"}
    assert not await store.is_held_by_others(notifier.worker, tenant_id, held)
    assert await store.is_held_by_others(notifier.worker, uuid4(), held)
    assert not await store.is_held_by_others(notifier.worker, uuid4(), {"87654321"})


async def test_tickets_that_are_left_hide_none_behind_them(desk: Desk) -> None:
    desk.tickets.page_tickets = 1
    await desk.notifier.hear(with_licences(NEIGHBOUR))
    purge = await desk.leaving(SEN)
    shared = desk.open(f"{SEN} {NEIGHBOUR}")
    desk.open()
    assert await desk.job().run() == 1
    assert list(desk.tickets.tickets) == [shared]
    assert await desk.answer_of(purge) == {DataClass.TICKETS: 1}


async def test_tickets_of_a_tenant_that_goes_on_as_another_are_left_to_it(desk: Desk) -> None:
    kept = desk.open(SEN)
    purge = Purge(await desk.notifier.hear(with_licences(SEN)))
    await desk.notifier.read_wave_1(purge, uuid4())
    await desk.notifier.obey(purge.wave_1(uuid4()))
    assert await desk.answer_of(purge) == {DataClass.TICKETS: 0}
    assert list(desk.tickets.tickets) == [kept]


async def test_a_command_that_comes_again_is_answered_again_with_the_same_counts(
    desk: Desk,
) -> None:
    purge = await desk.leaving(SEN)
    desk.open()
    await desk.notifier.obey(purge.wave_1())
    await desk.job().run()
    first = await desk.answer_of(purge)
    desk.notifier.clock.advance(timedelta(minutes=1))
    await desk.notifier.obey(purge.wave_1())
    await desk.notifier.read_wave_1(purge)

    assert await desk.job().run() == 0
    assert await desk.answer_of(purge) == first == {DataClass.TICKETS: 1}
    assert len(await desk.notifier.answers(purge.tenant_id)) == 2
    assert len(await desk.notifier.erasures_of_tickets()) == 1


async def test_what_is_needed_to_find_tickets_outlives_people_and_tombstone(desk: Desk) -> None:
    desk.open()
    purge = await desk.leaving(SEN)
    await desk.notifier.read_receipt(purge)
    await desk.notifier.obey(purge.wave_2())
    assert await desk.notifier.erase() == 1  # people wait for no ticket
    async with desk.notifier.units.begin() as uow:
        await forget_tenant(purge.tenant_id, uow)

    assert await desk.job().run() == 1
    assert desk.tickets.tickets == {}
    assert await desk.answer_of(purge) == {DataClass.TICKETS: 1}


# -- a desk that is away, refuses, or lies ------------------------------------------------------


@pytest.mark.parametrize(
    ("faults", "trouble", "at_least"),
    [
        (DeskFaults(away=True), "server fault", FIRST),
        (DeskFaults(throttled=1, retry_after="900"), "throttled", timedelta(minutes=15)),
        (DeskFaults(refused=403), "refused with status 403", FIRST),
        (
            DeskFaults(withheld=("BROWSE_PROJECTS",)),
            "permissions are missing",
            FIRST,
        ),
        (DeskFaults(withheld=("DELETE_ISSUES",)), "permissions are missing", FIRST),
        (DeskFaults(stubborn=True), "tickets stay", FIRST),
    ],
)
async def test_a_desk_that_does_not_erase_delays_the_step_and_fails_nothing(
    desk: Desk, faults: DeskFaults, trouble: str, at_least: timedelta
) -> None:
    purge = await desk.leaving(SEN)
    desk.open()
    desk.tickets.faults = faults

    with capture_logs() as logs:
        assert await desk.job().run() == 0

    assert {"tickets not erased yet"} <= {entry["event"] for entry in logs}
    assert SEN not in str(logs)
    row = await desk.erasure()
    assert (row["state"], row["trouble"], row["attempts"]) == ("open", trouble, 1)
    assert row["claim_token"] is None
    assert row["next_attempt_at"] - desk.notifier.clock.wall() == at_least
    assert await desk.answer_of(purge) is None
    before = desk.tickets.requests
    assert await desk.job().run() == 0
    assert desk.tickets.requests == before  # it is left alone for so long

    desk.tickets.faults = DeskFaults()
    desk.notifier.clock.advance(at_least)
    assert await desk.job().run() == 1
    assert desk.tickets.tickets == {}
    assert await desk.answer_of(purge) == {DataClass.TICKETS: 1}


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
async def test_a_token_that_cannot_be_read_delays_the_step_too(
    desk: Desk, content: bytes | None
) -> None:
    purge = await desk.leaving(SEN)
    desk.open()
    path, token = desk.address.token_file, desk.address.token_file.read_bytes()
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert await desk.job().run() == 0
    assert (await desk.erasure())["trouble"] == "the token cannot be read"

    path.write_bytes(token)
    desk.notifier.clock.advance(FIRST)
    assert await desk.job().run() == 1
    assert await desk.answer_of(purge) == {DataClass.TICKETS: 1}


async def test_a_desk_that_stays_away_is_asked_more_and_more_rarely(desk: Desk) -> None:
    await desk.leaving(SEN)
    desk.tickets.faults = DeskFaults(away=True)
    pauses = []
    for _ in range(14):
        await desk.job().run()
        row = await desk.erasure()
        pauses.append(row["next_attempt_at"] - desk.notifier.clock.wall())
        desk.notifier.clock.advance(pauses[-1])
    assert pauses[:3] == [FIRST, 2 * FIRST, 4 * FIRST]
    assert max(pauses) == pauses[-1] == timedelta(hours=4)


async def test_a_desk_that_is_away_is_not_asked_for_each_purge(desk: Desk) -> None:
    await desk.leaving(SEN)
    await desk.leaving(NEIGHBOUR)
    desk.tickets.faults = DeskFaults(away=True)
    assert await desk.job().run() == 0
    assert desk.tickets.requests == 1


async def test_one_ticket_that_is_refused_keeps_no_other_and_no_other_tenants(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await desk.leaving(SEN), await desk.leaving(NEIGHBOUR)
    protected, _, _ = desk.open(), desk.open(), desk.open(NEIGHBOUR)
    erase = ServiceDesk.erase_ticket

    async def refuse_one(self: ServiceDesk, ticket_id: str) -> Any:
        return Refused(403) if ticket_id == protected else await erase(self, ticket_id)

    monkeypatch.setattr(ServiceDesk, "erase_ticket", refuse_one)
    assert await desk.job().run() == 1
    assert list(desk.tickets.tickets) == [protected]
    assert await desk.answer_of(first) is None
    assert await desk.answer_of(second) == {DataClass.TICKETS: 1}


async def test_a_search_that_lags_counts_no_ticket_twice(desk: Desk) -> None:
    desk.tickets.faults = DeskFaults(lags=True)
    purge = await desk.leaving(SEN, "E-AB-1")
    desk.open(f"{SEN} E-AB-1")
    assert await desk.job().run() == 1
    assert await desk.answer_of(purge) == {DataClass.TICKETS: 1}


async def test_many_tickets_are_erased_in_turns(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tickets, "MOST_TICKETS_A_TURN", 2)
    desk.tickets.page_tickets = 3
    first = await desk.leaving(SEN)
    second = await desk.leaving(NEIGHBOUR)
    for _ in range(5):
        desk.open()
    desk.open(NEIGHBOUR)
    assert await desk.job().run() == 2
    assert desk.tickets.tickets == {}
    assert await desk.answer_of(first) == {DataClass.TICKETS: 5}
    assert await desk.answer_of(second) == {DataClass.TICKETS: 1}


# -- a worker that dies -------------------------------------------------------------------------


class PowerCutError(Exception):
    """The process is gone."""


@pytest.mark.parametrize("after_the_call", [False, True])
async def test_a_worker_that_dies_at_a_ticket_delays_it_by_a_lease_and_loses_no_count(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, after_the_call: bool
) -> None:
    purge = await desk.leaving(SEN)
    desk.open()
    desk.open()
    erase = ServiceDesk.erase_ticket

    async def cut(self: ServiceDesk, ticket_id: str) -> Any:
        if after_the_call:
            await erase(self, ticket_id)
        raise PowerCutError

    with monkeypatch.context() as patched:
        patched.setattr(ServiceDesk, "erase_ticket", cut)
        with pytest.raises(PowerCutError):
            await desk.job().run()
    assert await desk.job().run() == 0  # claimed still
    desk.notifier.clock.advance(LEASE + timedelta(seconds=1))

    assert await desk.job().run() == 1
    assert desk.tickets.tickets == {}
    assert await desk.answer_of(purge) == {DataClass.TICKETS: 2}


async def test_two_workers_never_have_the_same_tickets(desk: Desk) -> None:
    await desk.leaving(SEN)
    wall = desk.notifier.clock.wall()
    first = await store.claim_ticket_erasure(desk.notifier.worker, wall=wall, lease=LEASE)
    assert first is not None
    assert await store.claim_ticket_erasure(desk.notifier.worker, wall=wall, lease=LEASE) is None

    later = wall + LEASE + timedelta(seconds=1)
    second = await store.claim_ticket_erasure(desk.notifier.worker, wall=later, lease=LEASE)
    assert second is not None
    await a_late_worker_changes_nothing(desk, first)
    assert await store.note_ticket(desk.notifier.worker, second, "7", claimed_until=later)
    assert await store.finish_ticket_erasure(
        desk.notifier.worker, second, tickets_left=0, now=later
    )


async def a_late_worker_changes_nothing(desk: Desk, claim: TicketClaim) -> None:
    before = await desk.erasure()
    worker, now = desk.notifier.worker, desk.notifier.clock.wall()
    assert not await store.note_ticket(worker, claim, "6", claimed_until=now)
    assert not await store.finish_ticket_erasure(worker, claim, tickets_left=9, now=now)
    assert not await store.hand_over_ticket_erasure(worker, claim, why="x", tickets_left=9)
    await store.postpone_ticket_erasure(worker, claim, trouble="x", next_attempt_at=now)
    assert await desk.erasure() == before
    assert await store.count_tickets(worker, claim.tenant_id) == 0


async def test_a_worker_stops_where_a_person_was_quicker(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    purge = await desk.leaving(SEN)
    kept = [desk.open(), desk.open()]
    note = store.note_ticket

    async def attest_first(*given: Any, **named: Any) -> bool:
        async with desk.notifier.units.begin() as uow:
            await attest(uow, purge)
        return await note(*given, **named)

    monkeypatch.setattr(store, "note_ticket", attest_first)
    assert await desk.job().run() == 0
    assert list(desk.tickets.tickets) == kept
    assert (await desk.erasure())["done_by"] == "Kim Keeper"


# -- personal data alone ------------------------------------------------------------------------


async def test_personal_data_goes_and_a_person_answers_for_the_history(desk: Desk) -> None:
    purge = await desk.leaving(SEN)
    ticket = desk.open()
    neighbour = desk.open(NEIGHBOUR, "Eve Example")

    assert await desk.job(WhatGoes.PERSONAL_DATA).run() == 0

    assert desk.tickets.naming("Ada") == []
    assert desk.tickets.tickets[ticket].fields["summary"] == ERASED_SUMMARY
    assert desk.tickets.naming("Eve") == [neighbour]
    row = await desk.erasure()
    assert (row["state"], row["trouble"]) == ("by-hand", HISTORY_STAYS)
    assert await desk.answer_of(purge) is None

    async with desk.notifier.units.begin() as uow:
        assert await attest(uow, purge)
    assert await desk.answer_of(purge) == {DataClass.TICKETS: 1}
    assert await desk.said_by(purge) == BY_A_PERSON


async def test_without_tickets_there_is_no_history(desk: Desk) -> None:
    purge = await desk.leaving(SEN)
    assert await desk.job(WhatGoes.PERSONAL_DATA).run() == 1
    assert await desk.answer_of(purge) == {DataClass.TICKETS: 0}


async def test_personal_data_needs_permissions_of_its_own(desk: Desk) -> None:
    await desk.leaving(SEN)
    desk.open()
    desk.tickets.faults = DeskFaults(withheld=("MODIFY_REPORTER",))
    assert await desk.job(WhatGoes.PERSONAL_DATA).run() == 0
    assert desk.tickets.naming("Ada") != []
    assert (await desk.erasure())["trouble"] == "permissions are missing"


# -- by hand ------------------------------------------------------------------------------------


async def attest(uow: Any, purge: Purge) -> bool:
    return await store.attest_ticket_erasure(
        uow.connection, purge.purge_id, by="Kim Keeper", evidence="none in HELP", now=uow.now
    )


async def test_where_licences_were_never_heard_a_person_looks(desk: Desk) -> None:
    purge = Purge(uuid4())
    await desk.notifier.obey(purge.wave_1())
    assert await desk.job().run() == 0
    assert await desk.answer_of(purge) is None
    async with desk.notifier.units.begin() as uow:
        [waiting] = await store.open_ticket_erasures(uow.connection, limit=10)
        assert (waiting.purge_id, waiting.by_hand, waiting.trouble) == (
            purge.purge_id,
            True,
            LICENCES_UNKNOWN,
        )
        assert await attest(uow, purge)
        assert not await attest(uow, purge)
        assert await store.open_ticket_erasures(uow.connection, limit=10) == []
    assert await desk.answer_of(purge) == {DataClass.TICKETS: 0}
    assert await desk.said_by(purge) == BY_A_PERSON
    # What it says is a word of ours, and who it was stays here.
    rows = await desk.notifier.worker.fetch("SELECT payload FROM outbox")
    assert "Kim" not in str([bytes(row["payload"]) for row in rows])


async def test_evidence_is_forgotten_after_its_time_and_open_work_never(
    notifier: Notifier,
) -> None:
    done, waiting = Purge(uuid4()), Purge(uuid4())
    for purge in (done, waiting):
        await notifier.obey(purge.wave_1())
    async with notifier.units.begin() as uow:
        await attest(uow, done)
    notifier.clock.advance(EVIDENCE_KEPT)
    await TicketEvidence(notifier.units, notifier.worker).run()
    assert len(await notifier.erasures_of_tickets()) == 2
    notifier.clock.advance(timedelta(seconds=1))
    await TicketEvidence(notifier.units, notifier.worker).run()
    [left] = await notifier.erasures_of_tickets()
    assert left["purge_id"] == waiting.purge_id
