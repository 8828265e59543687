"""Who of our staff looked, as the customer sees it: true, in two languages, a page at a time."""

import re
from datetime import timedelta
from uuid import UUID, uuid4

from services.config.domain.grants import Category, Grant, Reason
from services.config.store import grants as store
from services.config.store import looks
from services.config.store.looks import Look
from tests.config.builders import NOW, Config, a_datasource
from tests.config.screens.test_your_data import PATH, look

TICKET = Reason(Category.QUESTION, "SUP-7", "words for our officers")
EMERGENCY = Reason(Category.SECURITY, None, "words for our officers")


async def granted(
    config: Config, tenant_id: UUID, reason: Reason = TICKET, *, role: str = "support"
) -> Grant:
    grant = Grant(
        grant_id=uuid4(),
        tenant_id=tenant_id,
        subject="sam-4711",
        role=role,
        category=reason.category,
        reason_hash=reason.hash(b"salt"),
        break_glass=reason.breaks_glass,
        renews=None,
        granted_at=config.clock.now(),
        expires_at=config.clock.now() + timedelta(minutes=30),
    )
    async with config.units.begin() as uow:
        await uow.act_for(tenant_id)
        await store.add(uow.connection, grant, reason, salt=b"salt")
    return grant


async def look_at(config: Config, grant: Grant, kind: str, thing_id: UUID | None = None) -> None:
    async with config.units.begin() as uow:
        await uow.act_for(grant.tenant_id)
        shown = Look(uuid4(), grant.grant_id, kind, thing_id)
        await looks.note(uow.connection, grant.tenant_id, shown, now=config.clock.now())


async def test_it_says_when_as_what_why_and_at_what_and_not_who(config: Config) -> None:
    tenant_id = await config.tenant()
    assert "Nobody has looked at it." in await look(config, tenant_id)
    made = await config.create(tenant_id, "datasources", a_datasource(name="Sales & <b>"))
    grant = await granted(config, tenant_id)
    await look_at(config, grant, "datasource", UUID(made["id"]))
    config.clock.advance(timedelta(minutes=1))
    await look_at(config, await granted(config, tenant_id, role="developer"), "query")

    shown = await look(config, tenant_id)
    assert "<bdi>Sales &amp; &lt;b&gt;</bdi></strong> (Datasources)" in shown
    assert "Our support" in shown
    assert "Why: a question of yours, ticket SUP-7" in shown
    assert f'<time datetime="{NOW.isoformat()}">' in shown
    # The latest first.
    assert shown.index("Our development") < shown.index("Our support")
    assert "the list: Queries" in shown
    for hidden in ("sam-4711", "words for our officers"):
        assert hidden not in shown

    german = await look(config, tenant_id, "de")
    assert "Warum: eine Frage von Ihnen, Ticket SUP-7" in german
    assert "die Liste: Abfragen" in german
    assert "Sales" not in await look(config, await config.tenant())


async def test_the_name_stays_what_it_was_when_somebody_looked(config: Config) -> None:
    tenant_id = await config.tenant()
    made = await config.create(tenant_id, "datasources", a_datasource(name="Secret plans"))
    await look_at(config, await granted(config, tenant_id), "datasource", UUID(made["id"]))
    async with config.client(tenant_id) as client:
        gone = await client.delete(f"/api/v1/datasources/{made['id']}", headers={"if-match": '"1"'})
    assert gone.status_code == 204
    assert "<bdi>Secret plans</bdi>" in await look(config, tenant_id)


async def test_a_broken_glass_is_said_with_what_became_of_its_review(config: Config) -> None:
    tenant_id = await config.tenant()
    grant = await granted(config, tenant_id, EMERGENCY)
    await look_at(config, grant, "query")
    shown = await look(config, tenant_id)
    assert "in an emergency, without a ticket; our privacy officers are reviewing that" in shown
    for justified, said in ((True, "it was justified"), (False, "it was not justified")):
        async with config.units.begin() as uow:
            await store.note_review(
                uow.connection, grant.grant_id, by="pat", justified=justified, now=uow.now
            )
        assert f"privacy officers: {said}" in await look(config, tenant_id)


async def test_looks_come_a_page_at_a_time_without_a_gap_or_a_repeat(config: Config) -> None:
    tenant_id, other = await config.tenant(), await config.tenant()
    grant, foreign = await granted(config, tenant_id), await granted(config, other)
    # All of one moment, so that the ids alone order them.
    for _ in range(45):
        await look_at(config, grant, "query")
    await look_at(config, foreign, "template")

    page, sizes = await look(config, tenant_id), []
    while True:
        sizes.append(page.count("the list: Queries"))
        assert "Templates)" not in page
        assert "the list: Templates" not in page
        following = re.search(r'"before": "([0-9a-f-]{36})"', page)
        if following is None:
            break
        async with config.client(tenant_id) as client:
            answer = await client.get(f"{PATH}/looks", params={"before": following[1]})
        assert answer.status_code == 200
        page = answer.text
    assert sizes == [20, 20, 5]
    # Somebody else's place is none.
    async with config.client(other) as client:
        nothing = await client.get(f"{PATH}/looks", params={"before": str(uuid4())})
    assert "the list" not in nothing.text
