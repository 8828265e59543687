"""A restored installer loses no uninstall, no purge and no tenant that its own topic still knows."""

from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest

from chassis.clock import ManualClock
from chassis.epochs import ensure_epoch
from chassis.own_topics import Said
from chassis.unit_of_work import Units
from contracts.classes import TENANT_CLASSES, DataClass
from contracts.ledger import ReceiptStage
from contracts.purges import PurgeAccepted, Scope
from contracts.tenants import (
    ClassState,
    Departure,
    DepartureKind,
    Subscription,
    SubscriptionStatus,
    TenantState,
    TenantStatus,
    Version,
)
from services.installer import handlers
from services.installer.domain import tenants as domain
from services.installer.domain.takeover import Adopt, Bury, decide_take_over
from services.installer.door import Door
from services.installer.door.installs import hear_installed
from services.installer.store import tenants as store
from services.installer.store.access import adopt_tenants
from services.installer.takeover import take_over_states
from tests.installer.conftest import Database
from tests.installer.test_handlers import (
    WAVE_1,
    Ledger,
    a_request,
    an_installation,
    obey,
    started,
)

NOBODY_ERASED: frozenset[DataClass] = frozenset()


@pytest.fixture
def ledger(units: Units[Door], clock: ManualClock) -> Ledger:
    return Ledger(units, clock)


async def installed(units: Units[Door], database: Database, name: str = "client") -> TenantState:
    await hear_installed(units, an_installation(name))
    (tenant_id,) = await database.tenants(name)
    return (await database.said(tenant_id))[-1].state


async def state_of(units: Units[Door], tenant_id: UUID) -> TenantState | None:
    async with units.begin() as uow:
        return await store.lock_tenant(uow.connection, tenant_id)


async def restore(units: Units[Door], database: Database, *said: Said[TenantState]) -> int:
    """Let the database be one that was restored, and take over what the topic has."""
    async with database.worker.acquire() as connection:
        await ensure_epoch(connection, wall=units.clock.wall(), force=True)
    return await take_over(units, *said)


async def take_over(units: Units[Door], *said: Said[TenantState]) -> int:
    async with units.begin() as uow:
        return await take_over_states(uow, said)


def left(tenant: TenantState, at: datetime) -> TenantState:
    said = domain.leave(tenant, DepartureKind.UNINSTALLED, epoch=tenant.version.epoch, at=at)
    assert said is not None
    return said


def purging(tenant: TenantState, purge_id: UUID, *classes: DataClass) -> TenantState:
    said = domain.begin_purge(tenant, purge_id, classes, epoch=tenant.version.epoch)
    assert said is not None
    return said


async def test_an_uninstall_of_the_lost_days_is_not_lost(
    units: Units[Door], database: Database, clock: ManualClock
) -> None:
    tenant = await installed(units, database)
    said = left(tenant, clock.now())
    clock.advance(timedelta(days=1))
    await database.forget_said()

    assert await restore(units, database, Said(said, clock.now())) == 1

    assert await state_of(units, tenant.tenant_id) == said
    assert (await database.stored(tenant.tenant_id))["present"] is False
    assert await database.said() == []
    await handlers.restate(units)
    [again] = await database.said(tenant.tenant_id)
    assert again.state.version > said.version
    assert again.state.departure == said.departure


async def test_an_uninstall_is_not_lost_where_the_ledger_names_the_tenant_too(
    units: Units[Door], database: Database, clock: ManualClock, ledger: Ledger
) -> None:
    tenant = await installed(units, database)
    said = purging(left(tenant, clock.now()), uuid4(), *Scope.SERVICE_DATA.classes)
    assert said.purge_id is not None

    await restore(units, database, Said(said, clock.now()))
    await ledger.erased(a_request(said, purge_id=said.purge_id), *Scope.SERVICE_DATA.classes)

    now = await state_of(units, tenant.tenant_id)
    assert now is not None
    assert (now.departure, now.classes) == (said.departure, said.classes)


async def test_what_is_not_newer_is_left_alone_and_to_take_over_again_changes_nothing(
    units: Units[Door], database: Database, clock: ManualClock
) -> None:
    tenant = await installed(units, database)
    said = Said(left(tenant, clock.now()), clock.now())
    unknown = Said(tenant.model_copy(update={"tenant_id": uuid4()}), clock.now())
    assert await restore(units, database, Said(tenant, clock.now())) == 0
    assert await take_over(units, said, unknown) == 2
    assert await take_over(units, said, unknown, Said(tenant, clock.now())) == 0


async def test_a_tenant_that_came_back_is_called_by_its_name_again(
    units: Units[Door], database: Database, clock: ManualClock
) -> None:
    tenant = await installed(units, database)
    await restore(units, database, Said(left(tenant, clock.now()), clock.now()))
    gone = await state_of(units, tenant.tenant_id)
    assert gone is not None
    back = domain.newer(gone, gone.version.epoch, status=TenantStatus.INSTALLED, departure=None)
    assert back is not None
    await take_over(units, Said(back, clock.now()))
    assert (await database.stored(tenant.tenant_id))["present"] is True


async def test_a_tenant_that_came_back_in_the_lost_days_is_not_lost_from_what_the_copy_remembers(
    units: Units[Door], database: Database, clock: ManualClock
) -> None:
    tenant = await installed(units, database)
    await adopt_tenants(units.pool, now=clock.now(), limit=10)
    refused_at, back_at = clock.now(), clock.now() + timedelta(days=20)
    await database.owner.execute(
        "UPDATE access_checks SET losses = 5, first_lost_at = $1, last_lost_at = $1", refused_at
    )
    gone = left(tenant, refused_at)
    async with units.begin() as uow:
        await store.write_state(uow.connection, gone)
    back = domain.newer(gone, gone.version.epoch, status=TenantStatus.INSTALLED, departure=None)
    assert back is not None

    await restore(units, database, Said(back, back_at))

    check = await database.owner.fetchrow("SELECT losses, last_seen_at FROM access_checks")
    assert check is not None
    assert tuple(check) == (0, back_at)


async def test_a_purge_past_the_point_of_no_return_is_known_and_ends_by_its_receipts(
    units: Units[Door], database: Database, clock: ManualClock, ledger: Ledger
) -> None:
    tenant = await installed(units, database)
    before = left(tenant, clock.now())
    request = a_request(before)
    said = purging(before, request.purge_id, *TENANT_CLASSES)

    await restore(units, database, Said(said, clock.now()))
    assert await database.tenants("client") == [tenant.tenant_id]
    assert (await database.stored(tenant.tenant_id))["live"] is False
    await obey(units, request)
    assert isinstance((await database.said())[-1].message, PurgeAccepted)
    await ledger.erased(request, *WAVE_1)
    await ledger.receipt(request, ReceiptStage.ERASED, *WAVE_1)
    await ledger.erased(request, DataClass.CONTACTS)
    await ledger.receipt(request, ReceiptStage.CLOSED, *TENANT_CLASSES)

    assert await state_of(units, tenant.tenant_id) is None
    assert (await database.said(tenant.tenant_id))[-1].message is None


async def test_a_tenant_that_the_database_never_knew_has_left_when_it_was_last_seen(
    units: Units[Door],
    database: Database,
    clock: ManualClock,
    capsys: pytest.CaptureFixture[str],
) -> None:
    known = await installed(units, database)
    unknown = known.model_copy(
        update={
            "tenant_id": uuid4(),
            "subscription": Subscription(status=SubscriptionStatus.ACTIVE),
        }
    )
    seen_at = clock.now() + timedelta(hours=5)
    clock.advance(timedelta(days=2))

    await restore(units, database, Said(unknown, seen_at))

    orphan = await state_of(units, unknown.tenant_id)
    assert orphan is not None
    assert orphan.status is TenantStatus.UNINSTALLED
    assert orphan.departure == Departure(at=seen_at, how=DepartureKind.ACCESS_LOST)
    # An active licence that nobody ends any more would keep its people for ever.
    assert orphan.subscription.status is SubscriptionStatus.NONE
    told = await database.owner.fetchval(
        "SELECT what FROM timelines WHERE tenant_id = $1", unknown.tenant_id
    )
    assert told == "orphaned"
    assert "tenant orphaned" in capsys.readouterr().out


async def test_an_orphan_leaves_by_an_ordinary_purge(
    units: Units[Door], database: Database, clock: ManualClock, ledger: Ledger
) -> None:
    known = await installed(units, database)
    unknown = known.model_copy(update={"tenant_id": uuid4()})
    await restore(units, database, Said(unknown, clock.now()))
    await handlers.restate(units)
    request = a_request((await database.said(unknown.tenant_id))[-1].state)

    await obey(units, request)
    await obey(units, started(request))
    await database.forget_said()
    assert await database.eraser_job(units).run() == 1
    await ledger.erased(request, *WAVE_1)
    await ledger.receipt(request, ReceiptStage.ERASED, *WAVE_1)
    await ledger.erased(request, DataClass.CONTACTS)
    await ledger.receipt(request, ReceiptStage.CLOSED, *TENANT_CLASSES)

    assert await state_of(units, unknown.tenant_id) is None
    assert await state_of(units, known.tenant_id) is not None


async def test_a_reinstall_beside_an_orphan_is_a_new_tenant(
    units: Units[Door], database: Database, clock: ManualClock
) -> None:
    known = await installed(units, database)
    orphan = known.model_copy(update={"tenant_id": uuid4()})
    await restore(units, database, Said(orphan, clock.now()))
    await hear_installed(units, an_installation("orphaned-site"))
    (new,) = await database.tenants("orphaned-site")
    assert new not in {orphan.tenant_id, known.tenant_id}


async def test_the_tombstone_of_an_erased_tenant_is_set_again(
    units: Units[Door], database: Database, clock: ManualClock
) -> None:
    known = await installed(units, database)
    gone = known.model_copy(update={"tenant_id": uuid4()})
    await database.owner.execute(
        "INSERT INTO erased_tenants VALUES ($1, 'installation', 1, $1, $2)",
        gone.tenant_id,
        clock.now(),
    )
    await database.forget_said()
    await restore(units, database, Said(gone, clock.now()))
    assert await state_of(units, gone.tenant_id) is None
    [last] = await database.said(gone.tenant_id)
    assert (last.message, last.data_class) == (None, "erasure-proof")


async def test_what_goes_with_its_tenant_is_counted_in_the_answer(
    units: Units[Door], database: Database, clock: ManualClock, ledger: Ledger
) -> None:
    """After a restore the receipts are read before the eraser runs, and take the tenant along."""
    tenant = await installed(units, database)
    await restore(units, database)
    request = a_request(left(tenant, clock.now()))
    await ledger.erased(request, *WAVE_1)
    await ledger.receipt(request, ReceiptStage.ERASED, *WAVE_1)
    await ledger.erased(request, DataClass.CONTACTS)
    await ledger.receipt(request, ReceiptStage.CLOSED, *TENANT_CLASSES)
    assert await state_of(units, tenant.tenant_id) is None
    await database.forget_said()
    assert await database.eraser_job(units).run() == 1
    [answer] = [each.message for each in await database.said() if each.type == "data-erased"]
    assert answer.counts == {DataClass.INSTALLATION: 1}
    assert answer.restored_at == clock.wall()


# -- rules -----------------------------------------------------------------------------------


def a_state(**changes: object) -> TenantState:
    given: dict[str, object] = {
        "tenant_id": uuid4(),
        "version": Version(epoch=1, n=2),
        "status": TenantStatus.INSTALLED,
        "classes": dict.fromkeys(TENANT_CLASSES, ClassState.LIVE),
        "platform": "connect",
        "addon_key": "com.example.app",
        "product_type": "jira",
        "created_at": "2026-02-01T00:00:00Z",
        "subscription": Subscription(status=SubscriptionStatus.NONE),
        "licence_numbers": (),
    }
    return TenantState.model_validate(given | changes)


def test_a_clock_that_runs_is_not_wound_back_for_an_orphan() -> None:
    departure = Departure.model_validate({"at": "2026-03-01T00:00:00Z", "how": "uninstalled"})
    ended = Subscription.model_validate({"status": "ended", "ended_at": "2026-02-15T00:00:00Z"})
    said = a_state(status=TenantStatus.UNINSTALLED, departure=departure, subscription=ended)
    seen_at = said.created_at + timedelta(days=90)
    assert decide_take_over(None, said, said_at=seen_at, erased=NOBODY_ERASED) == Adopt(said)


def test_an_orphan_is_not_last_seen_before_it_began() -> None:
    said = a_state()
    early = said.created_at - timedelta(days=1)
    decision = decide_take_over(None, said, said_at=early, erased=NOBODY_ERASED)
    assert isinstance(decision, Adopt)
    assert decision.state.departure is not None
    assert decision.state.departure.at == said.created_at


def test_a_purging_orphan_stays_what_it_is_and_a_guarded_one_is_buried() -> None:
    classes = dict.fromkeys(TENANT_CLASSES, ClassState.PURGING)
    said = a_state(status=TenantStatus.PURGING, classes=classes, purge_id=uuid4())
    decision = decide_take_over(None, said, said_at=said.created_at, erased=NOBODY_ERASED)
    assert isinstance(decision, Adopt)
    assert decision.state.status is TenantStatus.PURGING
    guarded = frozenset({DataClass.INSTALLATION})
    assert decide_take_over(None, said, said_at=said.created_at, erased=guarded) == Bury()
