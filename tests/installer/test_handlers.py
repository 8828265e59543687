"""Purges, from the point of no return to the tombstone: messages in, rows and outbox out."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from chassis.clock import ManualClock
from chassis.epochs import ensure_epoch
from chassis.ledger import ledger_handlers
from chassis.unit_of_work import UnitOfWork, Units
from contracts.access import AccessGranted, AccessRevoked, CustomerDataAccessed
from contracts.censuses import StatesDoubted
from contracts.classes import TENANT_CLASSES, DataClass
from contracts.ledger import (
    GENESIS,
    EntryKind,
    LedgerEntry,
    Receipt,
    ReceiptStage,
    StepProof,
    UnsealedEntry,
    entry_hash,
)
from contracts.messages import Message
from contracts.purges import (
    DataErased,
    PurgeAccepted,
    PurgeRefused,
    PurgeRequested,
    PurgeStarted,
    Scope,
)
from contracts.tenants import ClassState, TenantState, TenantStatus, Version
from services.installer import handlers
from services.installer.app import ERASES
from services.installer.domain.tenants import Installation
from services.installer.domain.timelines import Entry
from services.installer.door import Door, Overtaken, hear_installed, hear_uninstalled
from services.installer.store.timelines import timeline_of
from tests.installer.conftest import APP, Database
from tests.support.chassis import suppressed

WAVE_1 = tuple(each for each in TENANT_CLASSES if each is not DataClass.CONTACTS)


def an_installation(client_key: str = "client", secret: str = "ATCOone") -> Installation:
    return Installation(
        addon_key=APP,
        product_type="jira",
        client_key=client_key,
        base_url=f"https://{client_key}.atlassian.net",
        service_entitlement_number="SEN-1",
        shared_secret=secret,
        oauth_client_id=None,
    )


async def gone_away(
    units: Units[Door], database: Database, client_key: str = "client"
) -> TenantState:
    """The state of a tenant that was installed and has left."""
    await hear_installed(units, an_installation(client_key))
    await hear_uninstalled(units, APP, client_key)
    (tenant_id,) = await database.tenants(client_key)
    return (await database.said(tenant_id))[-1].state


def a_request(
    tenant: TenantState,
    *,
    version: Version | None = None,
    purge_id: UUID | None = None,
    classes: Sequence[DataClass] = TENANT_CLASSES,
) -> PurgeRequested:
    return PurgeRequested(
        purge_id=purge_id or uuid4(),
        step="accept",
        tenant_id=tenant.tenant_id,
        tenant_version=version or tenant.version,
        classes=tuple(classes),
    )


async def obey(units: Units[Door], message: Message) -> None:
    async with units.begin() as uow:
        handler = handlers.handlers.by_model[type(message)]
        assert await handler.function(message, uow) is None


def started(request: PurgeRequested, *, number: int = 1) -> PurgeStarted:
    return PurgeStarted(
        purge_id=request.purge_id,
        step="erase-installer",
        wave=1,
        tenant_id=request.tenant_id,
        owner="installer",
        classes=(DataClass.INSTALLATION,),
        ledger_number=number,
    )


# -- wave 0 ----------------------------------------------------------------------------------


async def test_a_purge_of_the_present_version_is_accepted(
    units: Units[Door], database: Database, clock: ManualClock
) -> None:
    tenant = await gone_away(units, database)
    request = a_request(tenant)
    await obey(units, request)
    state, answer = (await database.said(tenant.tenant_id))[-2:]
    assert state.type == "tenant-purging"
    assert state.state.status is TenantStatus.PURGING
    assert state.state.purge_id == request.purge_id
    assert state.state.licence_numbers == ()
    assert set(state.state.classes.values()) == {ClassState.PURGING}
    assert answer.message == PurgeAccepted(
        purge_id=request.purge_id,
        step="accept",
        tenant_id=tenant.tenant_id,
        tenant_version=state.state.version,
        accepted_at=clock.now(),
    )


async def test_a_purge_of_an_older_version_is_refused_and_says_the_newer_one(
    units: Units[Door], database: Database, clock: ManualClock
) -> None:
    tenant = await gone_away(units, database)
    older = Version(epoch=tenant.version.epoch, n=tenant.version.n - 1)
    request = a_request(tenant, version=older)
    await obey(units, request)
    answer = (await database.said(tenant.tenant_id))[-1]
    assert answer.message == PurgeRefused(
        purge_id=request.purge_id,
        step="accept",
        tenant_id=tenant.tenant_id,
        tenant_version=tenant.version,
        reason="newer-state",
        refused_at=clock.now(),
    )
    assert await database.status(tenant.tenant_id) == "uninstalled"
    assert (await database.counts())["accepted_purges"] == 0


async def test_the_same_request_again_is_answered_again_and_changes_nothing(
    units: Units[Door], database: Database, clock: ManualClock
) -> None:
    tenant = await gone_away(units, database)
    request = a_request(tenant)
    await obey(units, request)
    first = (await database.said(tenant.tenant_id))[-1].message
    clock.advance(timedelta(minutes=2))
    await database.forget_said()
    await obey(units, request)
    (again,) = await database.said(tenant.tenant_id)
    assert again.message == first


async def test_a_purge_of_nobody_is_refused(units: Units[Door], database: Database) -> None:
    tenant = await gone_away(units, database)
    unknown = tenant.model_copy(update={"tenant_id": uuid4()})
    await obey(units, a_request(unknown))
    (answer,) = await database.said(unknown.tenant_id)
    assert isinstance(answer.message, PurgeRefused)
    assert answer.message.reason == "unknown-tenant"


async def test_people_can_follow_service_data_in_a_purge_of_their_own(
    units: Units[Door], database: Database
) -> None:
    tenant = await gone_away(units, database)
    first = a_request(tenant, classes=Scope.SERVICE_DATA.classes)
    await obey(units, first)
    after = (await database.said(tenant.tenant_id))[-2].state
    second = a_request(after, classes=Scope.PEOPLE.classes)
    await obey(units, second)
    last = (await database.said(tenant.tenant_id))[-2].state
    assert set(last.classes.values()) == {ClassState.PURGING}
    assert last.purge_id == second.purge_id


async def test_what_is_said_of_a_tenant_that_lost_its_content_alone_goes_with_its_installation(
    units: Units[Door], database: Database
) -> None:
    tenant = await gone_away(units, database)
    await obey(units, a_request(tenant, classes=(DataClass.CONTENT,)))
    said = (await database.said(tenant.tenant_id))[-2].state
    assert said.classes[DataClass.CONTENT] is ClassState.PURGING
    assert said.licence_numbers == tenant.licence_numbers

    await obey(units, a_request(said, classes=(DataClass.INSTALLATION,)))

    said_of = await database.said(tenant.tenant_id)
    states = [each for each in said_of if isinstance(each.message, TenantState)]
    assert [each.data_class for each in states[-2:]] == ["installation", "erasure-proof"]


async def test_a_reinstall_during_a_purge_makes_a_new_tenant(
    units: Units[Door], database: Database
) -> None:
    tenant = await gone_away(units, database)
    await obey(units, a_request(tenant))
    await hear_installed(units, an_installation(secret="ATCOtwo"))
    old, new = await database.tenants("client")
    assert old == tenant.tenant_id
    assert await database.status(old) == "purging"
    assert await database.status(new) == "installed"
    assert await database.secret(old) == "ATCOone"
    assert await database.secret(new) == "ATCOtwo"
    keys = await database.owner.fetch("SELECT wrapped_key FROM tenant_keys")
    assert len({row["wrapped_key"] for row in keys}) == 2


async def test_hooks_of_a_purging_tenant_touch_nothing(
    units: Units[Door], database: Database
) -> None:
    tenant = await gone_away(units, database)
    await obey(units, a_request(tenant))
    before = await database.said()
    await hear_uninstalled(units, APP, "client")
    assert await database.said() == before


async def test_a_reinstall_that_races_with_wave_0_is_either_seen_by_it_or_a_new_tenant(
    database: Database, clock: ManualClock
) -> None:
    units = database.units(clock)
    outcomes = set()
    for n in range(30):
        key = f"client-{n}"
        tenant = await gone_away(units, database, key)
        request = a_request(tenant)
        race: list[Awaitable[object]] = [
            hear_installed(units, an_installation(key, secret="ATCOtwo")),
            obey(units, request),
        ]
        await asyncio.gather(*(race if n % 2 else reversed(race)))
        answer = next(
            said.message
            for said in await database.said(tenant.tenant_id)
            if isinstance(said.message, PurgeAccepted | PurgeRefused)
        )
        tenants = await database.tenants(key)
        statuses = [await database.status(each) for each in tenants]
        if isinstance(answer, PurgeAccepted):
            assert statuses == ["purging", "installed"]
        else:
            assert statuses == ["installed"]
            assert answer.tenant_version.n == 3
        assert await database.secret(tenants[-1]) == "ATCOtwo"
        outcomes.add(type(answer))
    assert outcomes


async def test_a_reinstall_that_waits_for_wave_0_makes_a_new_tenant(
    units: Units[Door], database: Database
) -> None:
    tenant = await gone_away(units, database)
    async with units.begin() as uow:
        await handlers.decide_purge(a_request(tenant), uow)
        reinstall = asyncio.create_task(hear_installed(units, an_installation(secret="ATCOtwo")))
        await until_somebody_waits(database)
        await uow.outbox.flush(uow.connection)
    await reinstall
    assert [await database.status(each) for each in await database.tenants("client")] == [
        "purging",
        "installed",
    ]


async def test_wave_0_that_waits_for_a_reinstall_is_refused(
    units: Units[Door], database: Database
) -> None:
    tenant = await gone_away(units, database)
    request = a_request(tenant)
    connection = database.owner
    async with connection.transaction():
        await connection.fetch("SELECT FROM tenants FOR UPDATE")
        # Whoever waits first for a row's lock gets it first.
        reinstall = asyncio.create_task(hear_installed(units, an_installation()))
        await until_somebody_waits(database)
        purge = asyncio.create_task(obey(units, request))
        await until_somebody_waits(database, count=2)
    await asyncio.gather(reinstall, purge)
    assert isinstance((await database.said(tenant.tenant_id))[-1].message, PurgeRefused)
    assert await database.status(tenant.tenant_id) == "installed"


async def until_somebody_waits(database: Database, *, count: int = 1) -> None:
    while True:
        waiting = await database.worker.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted")
        if waiting >= count:
            return


# -- wave 1 ----------------------------------------------------------------------------------


async def test_the_installation_and_its_key_are_erased_and_that_is_answered(
    units: Units[Door], database: Database
) -> None:
    tenant = await gone_away(units, database)
    request = a_request(tenant)
    await obey(units, request)
    await database.forget_said()
    await obey(units, started(request))
    assert await database.eraser_job(units).run() == 1
    (answer,) = await database.said(tenant.tenant_id)
    assert isinstance(answer.message, DataErased)
    assert answer.message.step == "erase-installer"
    assert answer.message.counts == {DataClass.INSTALLATION: 1}
    counts = await database.counts()
    assert (counts["installations"], counts["tenant_keys"], counts["tenants"]) == (0, 0, 1)
    assert await database.owner.fetchval("SELECT data_class FROM erased_tenants") == "installation"


async def test_the_step_again_looks_again_and_answers_again(
    units: Units[Door], database: Database, clock: ManualClock
) -> None:
    tenant = await gone_away(units, database)
    request = a_request(tenant)
    await obey(units, request)
    await database.forget_said()
    for _ in range(2):
        await obey(units, started(request))
        assert await database.eraser_job(units).run() == 1
        clock.advance(timedelta(minutes=1))
    first, again = await database.said(tenant.tenant_id)
    assert first.message.counts == again.message.counts == {DataClass.INSTALLATION: 1}


async def test_what_is_said_while_purging_does_not_hold_the_erasure_up(
    units: Units[Door], database: Database
) -> None:
    tenant = await gone_away(units, database)
    await database.forget_said()
    request = a_request(tenant)
    await obey(units, request)
    assert {said.data_class for said in await database.said()} == {"erasure-proof"}
    await obey(units, started(request))
    assert await database.eraser_job(units).run() == 1


async def test_a_purge_that_a_restored_database_forgot_is_adopted(
    units: Units[Door], database: Database
) -> None:
    tenant = await gone_away(units, database)
    await obey(units, started(a_request(tenant)))
    assert await database.status(tenant.tenant_id) == "purging"
    await hear_installed(units, an_installation(secret="ATCOtwo"))
    old, new = await database.tenants("client")
    assert (await database.status(old), await database.status(new)) == ("purging", "installed")


# -- the ledger ------------------------------------------------------------------------------


class Ledger:
    """Writes entries as purger would, and brings them to the installer as the chassis does."""

    def __init__(self, units: Units[Door], clock: ManualClock) -> None:
        self._units = units
        self._clock = clock
        self._number = 0
        self._hash = GENESIS
        registered = ledger_handlers("installer", ERASES.steps, handlers.follow_ledger)
        self._apply: Callable[[LedgerEntry, UnitOfWork[Door]], Awaitable[object]] = (
            registered.by_model[LedgerEntry].function
        )

    async def erased(self, request: PurgeRequested, *classes: DataClass) -> None:
        await self._append(
            request.purge_id, EntryKind.TENANT_ERASED, classes, tenant_id=request.tenant_id
        )

    async def receipt(
        self, request: PurgeRequested, stage: ReceiptStage, *classes: DataClass
    ) -> None:
        step = StepProof(step="a-step", owner="owner", counts=dict.fromkeys(classes, 0), open=False)
        receipt = Receipt(
            stage=stage,
            receipt_code="c" * 22,
            steps=(step,),
            deadline=self._clock.now(),
            erase_by=self._clock.now(),
        )
        await self._append(request.purge_id, EntryKind.RECEIPT, classes, receipt=receipt)

    async def _append(
        self,
        purge_id: UUID,
        kind: EntryKind,
        classes: Sequence[DataClass],
        *,
        tenant_id: UUID | None = None,
        receipt: Receipt | None = None,
    ) -> None:
        self._number += 1
        unsealed = UnsealedEntry(
            number=self._number,
            kind=kind,
            at=self._clock.now(),
            purge_id=purge_id,
            tenant_id=tenant_id,
            classes=tuple(classes),
            receipt=receipt,
            previous_hash=self._hash,
        )
        self._hash = entry_hash(unsealed)
        entry = LedgerEntry.model_validate(
            {
                **unsealed.model_dump(),
                "hash": self._hash,
                "signature": "s" * 86,
                "key_id": "key",
            }
        )
        async with self._units.begin() as uow:
            await self._apply(entry, uow)


@pytest.fixture
def ledger(units: Units[Door], clock: ManualClock) -> Ledger:
    return Ledger(units, clock)


async def test_receipts_lead_to_the_tombstone(
    units: Units[Door], database: Database, ledger: Ledger
) -> None:
    tenant = await gone_away(units, database)
    request = a_request(tenant)
    await obey(units, request)
    await database.forget_said()
    await ledger.erased(request, *WAVE_1)
    assert await database.said() == []
    assert await database.eraser_job(units).run() == 1
    await ledger.receipt(request, ReceiptStage.ERASED, *WAVE_1)
    state = (await database.said(tenant.tenant_id))[-1]
    assert state.type == "tenant-updated"
    assert state.data_class == "erasure-proof"
    assert state.state.status is TenantStatus.PURGED
    assert state.state.classes[DataClass.CONTACTS] is ClassState.PURGING
    await ledger.erased(request, DataClass.CONTACTS)
    await ledger.receipt(request, ReceiptStage.CLOSED, *TENANT_CLASSES)
    last = (await database.said(tenant.tenant_id))[-1]
    assert last.message is None
    assert last.data_class == "erasure-proof"
    counts = await database.counts()
    assert (counts["tenants"], counts["accepted_purges"], counts["tenant_keys"]) == (0, 0, 0)
    guards = await database.owner.fetchval("SELECT count(*) FROM erased_tenants")
    assert guards == 1


async def test_a_receipt_of_another_purge_changes_nothing(
    units: Units[Door], database: Database, ledger: Ledger
) -> None:
    tenant = await gone_away(units, database)
    await obey(units, a_request(tenant))
    await database.forget_said()
    await ledger.receipt(a_request(tenant), ReceiptStage.CLOSED, *TENANT_CLASSES)
    assert await database.said() == []


async def test_two_purges_of_a_tenant_close_one_after_the_other(
    units: Units[Door], database: Database, ledger: Ledger
) -> None:
    tenant = await gone_away(units, database)
    service = a_request(tenant, classes=Scope.SERVICE_DATA.classes)
    await obey(units, service)
    people = a_request(
        (await database.said(tenant.tenant_id))[-2].state, classes=Scope.PEOPLE.classes
    )
    await obey(units, people)
    await ledger.receipt(service, ReceiptStage.CLOSED, *Scope.SERVICE_DATA.classes)
    assert await database.status(tenant.tenant_id) == "purged"
    await ledger.receipt(people, ReceiptStage.CLOSED, *Scope.PEOPLE.classes)
    assert await database.status(tenant.tenant_id) is None


async def test_a_restored_database_is_brought_to_the_end_by_the_ledger_alone(
    units: Units[Door], database: Database, ledger: Ledger
) -> None:
    tenant = await gone_away(units, database)
    request = a_request(tenant)
    await ledger.erased(request, *WAVE_1)
    assert await database.status(tenant.tenant_id) == "purging"
    await ledger.receipt(request, ReceiptStage.ERASED, *WAVE_1)
    await ledger.erased(request, DataClass.CONTACTS)
    await ledger.receipt(request, ReceiptStage.CLOSED, *TENANT_CLASSES)
    assert (await database.said(tenant.tenant_id))[-1].message is None
    counts = await database.counts()
    assert (counts["tenants"], counts["installations"]) == (0, 0)
    # Its outbox rows hold the erasure up until they are sent.
    assert await database.eraser_job(units).run() == 0
    await database.forget_said()
    async with units.pool.acquire() as connection:
        await connection.execute("UPDATE erasures SET claimed_until = NULL")
    assert await database.eraser_job(units).run() == 1
    assert (await database.counts())["tenant_keys"] == 0


async def test_a_ledger_entry_of_nobody_sets_the_guard_alone(
    units: Units[Door], database: Database, ledger: Ledger
) -> None:
    tenant = await gone_away(units, database)
    request = a_request(tenant.model_copy(update={"tenant_id": uuid4()}))
    await ledger.erased(request, *WAVE_1)
    guarded = await database.owner.fetchval("SELECT tenant_id FROM erased_tenants")
    assert guarded == request.tenant_id
    assert await database.status(tenant.tenant_id) == "uninstalled"


# -- restating -------------------------------------------------------------------------------


async def test_all_tenants_are_said_again_with_newer_versions(
    units: Units[Door], database: Database, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handlers, "_TENANTS_A_PAGE", 2)
    before = {}
    for n in range(5):
        state = await gone_away(units, database, f"client-{n}")
        before[state.tenant_id] = state
    purging = a_request(state)
    await obey(units, purging)
    before[state.tenant_id] = (await database.said(state.tenant_id))[-2].state
    clock.advance(timedelta(hours=1))
    async with database.worker.acquire() as connection:
        epoch = await ensure_epoch(connection, wall=clock.wall(), force=True)
    await database.forget_said()
    await handlers.restate(units)
    said = await database.said()
    assert {each.type for each in said} == {"tenant-updated"}
    assert len(said) == 5
    for each in said:
        old = before[each.tenant_id]
        assert each.state.version == Version(epoch=epoch.number, n=old.version.n + 1)
        assert each.state.model_copy(update={"version": old.version}) == old
    async with database.runtime.acquire() as connection:
        versions = await connection.fetch("SELECT version_epoch, version_n FROM tenants")
    assert {row["version_epoch"] for row in versions} == {epoch.number}


async def test_states_that_are_doubted_are_said_again_and_of_strangers_nothing_is(
    units: Units[Door], database: Database
) -> None:
    await hear_installed(units, an_installation())
    await hear_installed(units, an_installation(client_key="other"))
    (tenant_id,) = await database.tenants("client")
    (before,) = [each for each in await database.said() if each.tenant_id == tenant_id]
    await database.forget_said()

    async with units.begin() as uow:
        doubted = StatesDoubted(tenant_ids=(uuid4(), tenant_id, uuid4()))
        await handlers.restate_doubted(doubted, uow)

    (again,) = await database.said()
    assert (again.type, again.tenant_id) == ("tenant-updated", tenant_id)
    assert again.state.version > before.state.version
    assert again.state.model_copy(update={"version": before.state.version}) == before.state


# -- the guard -------------------------------------------------------------------------------


async def test_nothing_is_written_for_a_tenant_behind_the_guard(
    units: Units[Door], database: Database
) -> None:
    await hear_installed(units, an_installation())
    (tenant_id,) = await database.tenants("client")
    await database.owner.execute(
        "INSERT INTO erased_tenants VALUES ($1, 'installation', 1, $1, $2)",
        tenant_id,
        units.clock.now(),
    )
    with pytest.raises(Overtaken):
        await hear_uninstalled(units, APP, "client")
    with pytest.raises(Overtaken):
        await hear_installed(units, an_installation(secret="ATCOtwo"))
    # Each of the two was told five times, in case another transaction had crossed it.
    assert suppressed(units) == {("route", "installation"): 10}
    assert await database.secret(tenant_id) == "ATCOone"
    assert len(await database.said()) == 1


# -- what staff look at ------------------------------------------------------------------------


async def test_a_timeline_tells_that_staff_looked_and_of_strangers_nothing_is_kept(
    units: Units[Door], database: Database, clock: ManualClock
) -> None:
    tenant = await gone_away(units, database)
    for tenant_id in (tenant.tenant_id, uuid4()):
        grant_id = uuid4()
        granted = AccessGranted(
            grant_id=grant_id,
            tenant_id=tenant_id,
            staff="0" * 64,
            role="support",
            category="question",
            reason_hash="0" * 64,
            break_glass=False,
            granted_at=clock.now(),
            expires_at=clock.now() + timedelta(minutes=30),
        )
        look = CustomerDataAccessed(
            look_id=uuid4(),
            grant_id=grant_id,
            tenant_id=tenant_id,
            what="query",
            accessed_at=clock.now(),
        )
        revoked = AccessRevoked(
            grant_id=grant_id, tenant_id=tenant_id, by_holder=True, revoked_at=clock.now()
        )
        # Many looks in a row are one entry, and push nothing out.
        for message in (granted, look, look, revoked):
            await obey(units, message)
    told = await timeline_of(units.pool, tenant.tenant_id)
    assert [each.what for each in told][-3:] == [
        Entry.STAFF_ACCESS_GRANTED,
        Entry.STAFF_LOOKED,
        Entry.STAFF_ACCESS_REVOKED,
    ]
    assert len(await database.owner.fetch("SELECT DISTINCT tenant_id FROM timelines")) == 1
