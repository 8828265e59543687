"""Pages for a person in need: their commands are run, word for word, on a stack of real servers."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import asyncpg
import httpx2
import pytest

from contracts.purges import Phase
from contracts.topics import SERVICES
from devstack.postgres import binary
from devstack.programs import ROOT
from devstack.stack import known_environment
from services.notifier.domain.campaigns import Kind
from tests.support.chart import CHART, VALUES
from tests.support.drills import RUNBOOKS, Drill
from tests.support.journey import RELEASED_BY, Entrusted, entrust, leave, let_it_start
from tests.support.note_takers import note_takers, noted
from tests.support.runbooks import follow


class Person:
    """Somebody with a shell, in a folder of their own, who follows the pages."""

    def __init__(self, drill: Drill, folder: Path) -> None:
        self.drill = drill
        self.folder = folder

    async def follows(self, page: str, block: str, **variables: str) -> str:
        environment = known_environment(self.drill.stack.folder)
        assert environment is not None
        given = {
            **environment,
            **self.drill.environment(),
            "PURGER": self.drill.stack.endpoints.purger,
            "NOTIFIER": self.drill.stack.endpoints.notifier,
            **variables,
        }
        tools = (self.folder / "tools", binary("psql").parent)
        return await follow(RUNBOOKS / f"{page}.md", block, given, folder=self.folder, tools=tools)


@pytest.fixture(scope="module")
def person(drill: Drill, tmp_path_factory: pytest.TempPathFactory) -> Person:
    folder = tmp_path_factory.mktemp("desk")
    note_takers(folder)
    (folder / "deploy").symlink_to(ROOT / "deploy")
    return Person(drill, folder)


@pytest.fixture(scope="module")
async def gone(drill: Drill) -> tuple[str, str]:
    """Who has left and is erased: the tenant's id, and the code in its receipt."""
    journey = drill.customer("gone")
    given: Entrusted = await entrust(journey)
    await let_it_start(journey, await leave(journey))
    await journey.wait_for_phase(Phase.CLOSED)
    receipt = await journey.wait_for_receipt_mail(given.address)
    # It notes how far the ledger has come when it starts, and then each day.
    drill.stack.kill("purger")
    await drill.start("purger")
    checkpoints = drill.stack.folder / "ledger-checkpoints"

    async def noted() -> bool | None:
        return True if checkpoints.exists() else None

    await journey.until(noted, "a checkpoint is written")
    return str(journey.tenant_id), receipt.code


@pytest.mark.timeout(400)
async def test_a_customer_who_asks_gets_a_proof_that_verifies_without_us(
    person: Person, gone: tuple[str, str]
) -> None:
    tenant, code = gone
    assert "closed" in await person.follows("proof", "look", TENANT=tenant)
    assert (await person.follows("proof", "code", TENANT=tenant)).split() == [code]
    assert await person.follows("proof", "code", TENANT=str(uuid4())) == ""
    await person.follows("proof", "give", CODE=code)
    said = await proven(person, code)
    assert said.count("Verified") == 2
    assert "checkpoints stand in it" in said
    assert "gone" not in (person.folder / "receipt.json").read_text()


async def proven(person: Person, code: str) -> str:
    checkpoints = person.drill.stack.folder / "ledger-checkpoints"
    return await person.follows("proof", "verify", CODE=code, CHECKPOINTS=str(checkpoints))


@pytest.mark.timeout(400)
async def test_who_changes_the_ledgers_key_keeps_all_receipts_valid(
    person: Person, gone: tuple[str, str]
) -> None:
    _, code = gone
    purger = person.drill.stack.endpoints.purger
    file = person.drill.stack.folder / "keys" / "ledger.pem"
    seen = []
    async with httpx2.AsyncClient() as http:
        for _ in range(3):
            answer = await http.get(f"{purger}/ledger/public-key")
            seen.append((answer.headers["x-key-id"], answer.text.count("BEGIN PUBLIC KEY")))
            if len(seen) < 3:
                await person.follows("keys", "ledger-key", FILE=str(file))
    assert len({key_id for key_id, _ in seen}) == 3
    assert [count for _, count in seen] == [1, 2, 3]
    # Of the keys before nothing is left by which one could sign.
    assert file.read_text().count("PRIVATE KEY-----") == 2
    assert file.stat().st_mode & 0o077 == 0
    await person.follows("proof", "give", CODE=code)
    assert (await proven(person, code)).count("Verified") == 2


@pytest.mark.timeout(400)
async def test_a_session_outlives_the_change_of_the_key_that_signed_it(person: Person) -> None:
    drill = person.drill
    staying = drill.customer("staying")
    await entrust(staying)
    old = await staying.open_session()
    file = drill.stack.folder / "keys" / "session.pem"
    before = file.read_text()
    await person.follows("keys", "signing-key", FILE=str(file))
    new = await staying.open_session()
    url = f"{drill.stack.endpoints.config}/api/v1/datasources"

    async def believed(session: dict[str, str]) -> bool | None:
        answer = await staying.http.get(url, headers=session)
        return True if answer.status_code == httpx2.codes.OK else None

    for session in (old, new):
        # An id that is not known is asked for at most every ten seconds.
        await staying.until(partial(believed, dict(session)), "the token is believed")
    jwks = f"{drill.stack.endpoints.installer}/.well-known/jwks.json"
    assert len((await staying.http.get(jwks)).json()["keys"]) == 2
    await person.follows("keys", "forget", FILE=str(file))
    assert len((await staying.http.get(jwks)).json()["keys"]) == 1
    assert file.read_text() not in before
    assert await believed(dict(await staying.open_session()))


@pytest.mark.timeout(400)
async def test_changed_keys_and_passwords_let_nobody_in_who_has_the_old_ones(
    person: Person,
) -> None:
    drill = person.drill
    customer = drill.customer("careful")
    await entrust(customer)
    kept = await customer.datasources()
    assert "the current key of config" in await person.follows("keys", "rotate", SERVICE="config")
    assert "lie under it" in await person.follows("keys", "retire", SERVICE="config")

    roles = drill.stack.databases["config"]
    changed = roles
    for role in ("runtime_url", "worker_url", "eraser_url"):
        url = getattr(roles, role)
        word = uuid4().hex
        await person.follows("keys", "database", URL=url, WORD=word)
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(url)
        user, _, rest = url.partition("@")
        new = f"{user.rpartition(':')[0]}:{word}@{rest}"
        changed = replace(changed, **{role: new})
    # Who is connected goes on; who starts needs the new one.
    assert await customer.datasources() == kept
    drill.stack.move_database("config", changed)
    drill.stack.kill("config")
    await drill.start("config")
    assert await customer.datasources() == kept

    file = person.folder / "token"
    await person.follows("keys", "replace", FILE=str(file))
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.long
@pytest.mark.timeout(400)
async def test_an_authority_gets_the_record_of_what_runs(
    person: Person, gone: tuple[str, str]
) -> None:
    tenant, code = gone
    controller = str(ROOT / "docs" / "controller.toml")
    await person.follows("record-of-processing", "record", CONTROLLER=controller)
    record = json.loads((person.folder / "record.json").read_text())
    assert record
    assert "<html" in (person.folder / "record.html").read_text()
    assert (person.folder / "periods.md").read_text().startswith(("#", "|"))
    await person.follows("record-of-processing", "true")
    findings = json.loads((person.folder / "findings.json").read_text())
    # Of a laptop there are warnings alone.
    assert {finding["state"] for finding in findings} == {"ok", "warning"}
    await person.follows("record-of-processing", "kept")
    entries = json.loads((person.folder / "ledger-1.json").read_text())["entries"]
    assert code in {entry["receipt_code"] for entry in entries if entry["tenant_id"] == tenant}
    assert (await person.follows("record-of-processing", "audit")).count("\n") >= 4
    await person.follows("record-of-processing", "people")


@pytest.mark.timeout(400)
async def test_a_campaign_that_comes_back_is_paused_by_name_and_goes_on(person: Person) -> None:
    drill = person.drill
    campaign = uuid4()
    owner = await asyncpg.connect(drill.stack.databases["notifier"].owner_url)
    try:
        await owner.execute(
            "INSERT INTO campaigns VALUES ($1, $2, 'sending', $3)",
            campaign,
            Kind.POLICY_CHANGE,
            datetime.now(UTC),
        )

        async def state() -> str:
            return str(
                await owner.fetchval("SELECT state FROM campaigns WHERE campaign_id = $1", campaign)
            )

        looked = await person.follows("mass-bounce", "look")
        assert str(campaign) in looked
        assert "keepword_deliveries_total" in looked
        await person.follows(
            "mass-bounce", "pause", CAMPAIGN=str(campaign), BY="Kim Keeper", TOKEN="t"
        )
        assert await state() == "paused"
        said = await person.follows("mass-bounce", "resume", CAMPAIGN=str(campaign))
        assert said.count("Mails to be sent: 0.") == 2
        assert await state() == "sending"
        await person.follows("mass-bounce", "check")
    finally:
        await owner.close()


@pytest.mark.long
@pytest.mark.timeout(400)
async def test_an_upgrade_is_looked_at_before_and_gone_back_from(person: Person) -> None:
    given = {
        "NAMESPACE": "apps",
        "VALUES": str(CHART / VALUES["prod"][0]),
        "REVISION": "3",
        "BY": "Kim Keeper",
        "REASON": "OPS-7",
    }
    for page, block in (
        ("upgrade", "look"),
        ("upgrade", "plan"),
        ("upgrade", "topics"),
        ("upgrade", "release"),
        ("upgrade", "check"),
        ("roll-back", "look"),
        ("roll-back", "hold"),
        ("roll-back", "back"),
        ("roll-back", "restate"),
        ("roll-back", "check"),
    ):
        said = await person.follows(page, block, **given)
        assert ("+kind: Deployment" in said) == (block == "plan")
    asked = [each["told"][0] for each in noted(person.folder) if each["tool"] == "helm"]
    assert [each for each in asked if each not in ("history", "test", "get", "template")] == [
        "upgrade",
        "rollback",
    ]
    nobody = person.drill.customer("nobody")
    assert (await nobody.brake()).engaged
    await nobody.release_brake(*RELEASED_BY)


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_all_of_it_moves_to_another_region(person: Person, gone: tuple[str, str]) -> None:
    _, code = gone
    drill = person.drill
    customer = drill.customer("mover")
    await entrust(customer)
    leaver = drill.customer("leaver")
    await entrust(leaver)
    plan = await leave(leaver)
    kept = await customer.datasources()
    await person.follows("move-region", "look")

    for service in SERVICES:
        drill.stack.kill(service)
    await person.follows("move-region", "copy")
    roles, superuser_urls = await drill.fresh_databases(*SERVICES)
    at = urlsplit(superuser_urls["purger"])
    there = {
        "PGHOST": str(at.hostname),
        "PGPORT": str(at.port),
        "PGUSER": unquote(str(at.username)),
        "PGPASSWORD": unquote(str(at.password)),
    }
    for service in SERVICES:
        drill.stack.move_database(service, roles[service])
    drill.empty_kafka()
    await person.follows("move-region", "restore", **there)
    await drill.start(*SERVICES)

    assert await customer.datasources() == kept
    still = await leaver.wait_for_plan()
    assert (still.purge_id, still.deadline) == (plan.purge_id, plan.deadline)
    assert (await leaver.brake()).engaged
    await person.follows("move-region", "release", FIRST="Kim Keeper", SECOND="Robin Reader")
    assert not (await leaver.brake()).engaged
    said = await person.follows("proof", "give", CODE=code)
    assert "Verified" in await person.follows("move-region", "check", CODE=code)
    assert said == ""
