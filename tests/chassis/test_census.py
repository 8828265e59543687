"""A census counts what a service holds, by its data map, so that two that hold the same say the same."""

from dataclasses import replace
from hashlib import sha256
from uuid import UUID, uuid4

import pytest

from chassis import census as module
from chassis.census import Census, with_doubts
from chassis.data_map import DataMap
from chassis.erasure import NOBODY, BlindVerificationError
from chassis.handlers import Handlers
from contracts.censuses import BUCKETS, CensusDoubted, CensusListed, CensusTaken
from contracts.classes import DataClass
from contracts.messages import Message
from contracts.registry import by_ce_type
from contracts.tenants import TenantState
from tests.support.chassis import SAMPLE_MAP, Sample

# The samples' units of work speak as the installer.
MAP = replace(SAMPLE_MAP, service="installer")
EMPTY = sha256(b"").hexdigest()


def a_census(sample: Sample) -> Census[None]:
    return Census(sample.units(), sample.eraser, MAP)


async def note(sample: Sample, tenant_id: UUID, *, n: int | None = None) -> None:
    async with sample.units().begin() as uow:
        await uow.act_for(tenant_id)
        await uow.connection.execute(
            "INSERT INTO notes VALUES ($1, $2, 'secret plan')", tenant_id, uuid4()
        )
        if n is not None:
            await uow.connection.execute(
                "INSERT INTO followed_states VALUES ('c', 'installer.tenants.v1', $1, 3, $2)"
                " ON CONFLICT (consumer, topic, tenant_id) DO UPDATE SET n = excluded.n",
                tenant_id,
                n,
            )


async def said(sample: Sample) -> list[Message]:
    rows = await sample.worker.fetch("SELECT type, payload FROM outbox ORDER BY position")
    found = []
    for row in rows:
        known = by_ce_type(row["type"])
        assert known is not None
        found.append(known.model.decode(row["payload"]))
    return found


async def take(sample: Sample) -> CensusTaken:
    await a_census(sample).take()
    taken = (await said(sample))[-1]
    assert isinstance(taken, CensusTaken)
    return taken


async def ask(sample: Sample, *buckets: int, **of: object) -> list[CensusListed]:
    before = len(await said(sample))
    given = {"owner": "installer", "data_class": DataClass.CONTENT} | of
    doubt = CensusDoubted(census_id=uuid4(), buckets=buckets, **given)
    async with sample.units().begin() as uow:
        await a_census(sample).list_doubted(doubt, uow)
    return [each for each in (await said(sample))[before:] if isinstance(each, CensusListed)]


async def test_a_digest_is_what_the_contract_says_and_counts_each_tenant_once(
    sample: Sample,
) -> None:
    tenant_id = uuid4()
    await note(sample, tenant_id, n=7)
    await note(sample, tenant_id)
    await note(sample, NOBODY)

    (tally,) = (await take(sample)).tallies

    assert (tally.data_class, tally.tenants) == (DataClass.CONTENT, 1)
    bucket = tenant_id.bytes[15]
    assert tally.digests[bucket] == sha256(f"{tenant_id} 3 7".encode()).hexdigest()
    assert set(tally.digests) == {EMPTY, tally.digests[bucket]}


async def test_a_version_that_moves_on_and_a_tenant_that_comes_change_their_bucket_alone(
    sample: Sample,
) -> None:
    first, second = UUID(int=(1 << 120) + 1), UUID(int=(1 << 120) + 2)
    await note(sample, first, n=1)
    before = (await take(sample)).tallies[0].digests
    await note(sample, first, n=2)
    await note(sample, second)
    after = (await take(sample)).tallies[0].digests
    assert [bucket for bucket in range(BUCKETS) if before[bucket] != after[bucket]] == [1, 2]


async def test_doubted_buckets_are_listed_as_they_are_now(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_TENANTS_A_MESSAGE", 2)
    tenants = [UUID(int=(number << 16) + bucket) for bucket in (1, 2, 3) for number in (1, 2)]
    for tenant_id in tenants:
        await note(sample, tenant_id, n=1)

    pages = await ask(sample, 2, 1, 9)

    assert [page.buckets for page in pages] == [(1,), (2, 9)]
    assert [page.last for page in pages] == [False, True]
    listed = [tenant.tenant_id for page in pages for tenant in page.tenants]
    assert listed == tenants[:4]


async def test_an_empty_bucket_is_answered_too(sample: Sample) -> None:
    (page,) = await ask(sample, 5)
    assert (page.buckets, page.tenants, page.last) == ((5,), (), True)


async def test_who_is_not_meant_says_nothing(sample: Sample) -> None:
    assert await ask(sample, 1, owner="config") == []
    assert await ask(sample, 1, data_class=DataClass.CONTACTS) == []


async def test_a_service_without_tables_of_tenants_takes_no_census(sample: Sample) -> None:
    empty = Census(sample.units(), sample.eraser, DataMap("installer"))
    await empty.take()
    assert empty.classes == ()
    assert await said(sample) == []


async def test_who_may_be_shown_less_than_there_is_takes_no_census(sample: Sample) -> None:
    async with sample.units().begin() as uow:
        hidden: bool = await uow.connection.fetchval(
            "SELECT relrowsecurity FROM pg_class WHERE relname = 'notes'"
        )
    assert hidden
    await sample.eraser.execute("DELETE FROM notes WHERE tenant_id = $1", NOBODY)
    with pytest.raises(BlindVerificationError):
        await a_census(sample).take()
    with pytest.raises(BlindVerificationError):
        await ask(sample, 1)
    assert await said(sample) == []


async def test_what_else_a_service_hears_stays_and_a_doubt_is_added(sample: Sample) -> None:
    own: Handlers[None] = Handlers("installer")

    @own.follows(TenantState)
    async def follow(_: TenantState, __: object) -> None: ...

    heard = with_doubts(own, a_census(sample))
    assert heard.by_model.keys() == {TenantState, CensusDoubted}
    # The service's own list is of the module, and another service of the process has it too.
    assert own.by_model.keys() == {TenantState}
