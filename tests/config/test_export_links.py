"""The link of a reminder: one tenant's export while one purge waits, and nothing of anybody else's."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest

from chassis.tokens import PublishedKeys
from contracts.classes import DataClass
from contracts.exports import PATH, ExportLink
from contracts.purges import ClockKind, Phase, Plan, PurgeState, Scope
from contracts.tenants import ClassState, Platform, TenantStatus, Version
from services.config.domain.access import Tenant
from services.config.domain.export_links import MOST_USES, LinkState, state_of_link
from services.config.handlers import remember_purges
from services.config.jobs import Forgetting
from services.config.routes import exports
from services.config.routes.export_links import USES_PATH
from services.config.store import transfers
from tests.config.archives import export_of, fill, unpacked
from tests.config.builders import EXPORT_JWKS_URL, NOW, Config
from tests.support.sessions import Installer, answering

DAY = timedelta(days=1)
A_PAGE = {"accept": "text/html", "sec-fetch-site": "same-origin"}


def a_plan(phase: Phase = Phase.PLANNED, **changes: Any) -> Plan:
    plan = Plan(
        purge_id=uuid4(),
        scope=Scope.EVERYTHING,
        clock=ClockKind.UNINSTALLED,
        clock_started_at=NOW - 150 * DAY,
        rule_version=1,
        deadline=NOW + 58 * DAY,
        erase_by=NOW + 44 * DAY,
        start_at=NOW + 30 * DAY,
        phase=phase,
    )
    return plan.model_copy(update=changes)


async def hear(config: Config, tenant_id: UUID, *plans: Plan) -> None:
    version = Version(epoch=1, n=1)
    async with config.units.begin() as uow:
        await remember_purges(PurgeState(tenant_id=tenant_id, version=version, plans=plans), uow)


async def left(config: Config) -> tuple[UUID, Plan]:
    """A customer with something, who has left, and the purge that waits for it."""
    tenant_id, plan = await config.tenant(), a_plan()
    await fill(config, tenant_id)
    await know(config, tenant_id, TenantStatus.UNINSTALLED)
    await hear(config, tenant_id, plan)
    return tenant_id, plan


async def know(
    config: Config,
    tenant_id: UUID,
    status: TenantStatus,
    content: ClassState = ClassState.LIVE,
) -> None:
    await config.know(Tenant(tenant_id, status, Platform.CONNECT, content))


def claims(tenant_id: UUID, plan: Plan) -> dict[str, Any]:
    return ExportLink(tenant_id, plan.purge_id, plan.erase_by).claims()


def a_token(config: Config, tenant_id: UUID, plan: Plan) -> str:
    return config.notifier.sign(claims(tenant_id, plan))


async def use(
    config: Config, token: str, headers: Mapping[str, str] | None = None, **more: str
) -> httpx2.Response:
    async with config.client() as client:
        return await client.post(PATH, data={"token": token, **more}, headers=headers)


async def refusal(config: Config, token: str) -> tuple[int, str]:
    answer = await use(config, token)
    assert answer.headers["content-type"] == "application/problem+json", answer.status_code
    return answer.status_code, answer.json()["reason"]


async def uses(config: Config, tenant_id: UUID) -> int:
    count = await config.eraser.fetchval(
        "SELECT count(*) FROM export_uses WHERE tenant_id = $1", tenant_id
    )
    return int(count)


# -- the rule -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "told", "state"),
    [
        ({}, {}, LinkState.OPEN),
        ({"phase": Phase.REQUESTED}, {}, LinkState.OPEN),
        ({"held": True}, {}, LinkState.OPEN),
        ({"classes": (DataClass.CONTENT,)}, {}, LinkState.OPEN),
        ({"classes": (DataClass.ERRORS,)}, {}, LinkState.CANCELLED),
        ({"scope": Scope.PEOPLE}, {}, LinkState.CANCELLED),
        ({"phase": Phase.WITHDRAWN}, {}, LinkState.CANCELLED),
        *(
            ({"phase": phase}, {}, LinkState.ERASED)
            for phase in (Phase.ERASING, Phase.ERASED, Phase.CLOSED)
        ),
        ({}, {"erased": {DataClass.CONTENT}}, LinkState.ERASED),
        ({}, {"erased": {DataClass.CONTACTS}}, LinkState.OPEN),
        ({}, {"tenant": None}, LinkState.NOT_YET),
        ({}, {"said": None}, LinkState.NOT_YET),
        ({}, {"tenant": None, "said": None, "erased": {DataClass.CONTENT}}, LinkState.ERASED),
        ({}, {"uses": MOST_USES - 1}, LinkState.OPEN),
        ({}, {"uses": MOST_USES}, LinkState.USED_UP),
    ],
)
def test_a_link_lives_as_long_as_its_purge_waits(
    changes: dict[str, Any], told: dict[str, Any], state: LinkState
) -> None:
    tenant_id, plan = uuid4(), a_plan(**changes)
    known: dict[str, Any] = {
        "tenant": Tenant(tenant_id, TenantStatus.UNINSTALLED, Platform.CONNECT, ClassState.LIVE),
        "said": PurgeState(
            tenant_id=tenant_id, version=Version(epoch=1, n=1), plans=(a_plan(), plan)
        ),
        "erased": frozenset(),
        "uses": 0,
    }
    assert state_of_link(plan.purge_id, **(known | told)) is state


def test_what_notifier_signs_config_reads() -> None:
    link = ExportLink(uuid4(), uuid4(), NOW)
    assert ExportLink.of(link.claims()) == link
    assert link.claims() == link.claims()


# -- the door -------------------------------------------------------------------------------------


async def test_who_has_left_fetches_everything_without_credentials_and_it_is_noted(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "_THINGS_A_PAGE", 1)
    tenant_id = await config.tenant()
    await fill(config, tenant_id)
    in_the_app = unpacked(await export_of(config, tenant_id))
    plan = a_plan()
    await know(config, tenant_id, TenantStatus.UNINSTALLED)
    await hear(config, tenant_id, plan)
    config.clock.advance(timedelta(seconds=1))

    answer = await use(config, a_token(config, tenant_id, plan))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["cache-control"] == "no-store"
    told = unpacked(answer.content)
    # When it was written stands in the manifest alone.
    del told["manifest.json"], in_the_app["manifest.json"]
    assert told == in_the_app
    assert "correct-horse" not in str(told)

    # Its log is the customer's, who sees it when it is back.
    await know(config, tenant_id, TenantStatus.INSTALLED)
    config.clock.advance(timedelta(minutes=1))
    await export_of(config, tenant_id)
    async with config.client(tenant_id) as client:
        shown = (await client.get(USES_PATH)).json()["uses"]
    assert [each["way"] for each in shown] == ["app", "link", "app"]
    assert shown[0]["used_at"] == config.clock.now().isoformat()
    async with config.client(await config.tenant()) as client:
        assert (await client.get(USES_PATH)).json() == {"uses": []}
    async with config.client() as client:
        assert (await client.get(USES_PATH)).status_code == 401


async def test_to_look_at_a_link_does_nothing(config: Config) -> None:
    tenant_id, plan = await left(config)
    token = a_token(config, tenant_id, plan)
    async with config.client() as client:
        for query in ({}, {"token": token}, {"language": "de", "token": token}):
            page = await client.get(PATH, params=query)
            assert page.status_code == 200
            assert page.headers["content-type"] == "text/html; charset=utf-8"
            assert page.headers["referrer-policy"] == "no-referrer"
            assert "script-src 'self'" in page.headers["content-security-policy"]
            assert token not in page.text
        assert (await client.head(PATH)).status_code in {200, 405}
        # A page of somebody else's sends nothing in the customer's name.
        answer = await client.post(
            PATH, data={"token": token}, headers={"sec-fetch-site": "cross-site"}
        )
        assert answer.status_code == 403
    assert await uses(config, tenant_id) == 0
    assert (await use(config, token)).status_code == 200


async def test_what_notifier_did_not_sign_for_this_opens_nothing(config: Config) -> None:
    tenant_id, plan = await left(config)
    right = claims(tenant_id, plan)
    good = config.notifier.sign(right)
    head, body, signature = good.split(".")
    other = config.notifier.sign(claims(uuid4(), plan)).split(".")[1]
    without = [{name: told for name, told in right.items() if name != missing} for missing in right]
    wrong: tuple[dict[str, Any], ...] = (
        {"iss": "keepword-installer"},
        {"aud": "config"},
        {"aud": ["config", "notifier"]},
        {"purge": "every"},
        {"purge": 7},
        {"sub": "nobody"},
    )
    for token in (
        "",
        "é",
        good[:-4],
        good + "A",
        good[: len(good) // 2],
        f"{head}.{other}.{signature}",
        f"{head}.{body}.",
        *(config.notifier.sign(some) for some in without),
        *(config.notifier.sign(right | some) for some in wrong),
        # Another key, also under the same name; the installer's; a session of the tenant.
        Installer.new("notifier").sign(right),
        Installer.new("another").sign(right),
        config.installer.sign(right),
        config.installer.token(tenant_id, config.clock.wall()),
    ):
        assert await refusal(config, token) == (403, "unknown"), token
    assert await uses(config, tenant_id) == 0
    async with config.client() as client:
        session = {"authorization": f"Bearer {good}"}
        assert (await client.get("/api/v1/datasources", headers=session)).status_code == 401
    assert (await use(config, good)).status_code == 200


async def test_a_link_opens_its_own_tenant_and_its_own_purge_alone(config: Config) -> None:
    mine, my_plan = await left(config)
    theirs, their_plan = await left(config)
    # Signed, but of another's purge: there is no such purge of this tenant.
    assert await refusal(config, a_token(config, mine, their_plan)) == (410, "cancelled")
    answer = await use(config, a_token(config, mine, my_plan))
    own = {str(row["thing_id"]) for row in await config.rows(mine)}
    told = str(unpacked(answer.content))
    assert all(each in told for each in own)
    assert not any(str(row["thing_id"]) in told for row in await config.rows(theirs))


async def test_it_ends_with_its_time_with_its_purge_and_with_the_return(config: Config) -> None:
    tenant_id, plan = await left(config)
    token = a_token(config, tenant_id, plan)
    assert (await use(config, token)).status_code == 200

    await know(config, tenant_id, TenantStatus.INSTALLED)
    await hear(config, tenant_id, plan.model_copy(update={"phase": Phase.WITHDRAWN}))
    assert await refusal(config, token) == (410, "cancelled")
    # It stays away once more: that is another purge, with a link of its own.
    again = a_plan(clock_started_at=NOW)
    await know(config, tenant_id, TenantStatus.UNINSTALLED)
    await hear(config, tenant_id, plan.model_copy(update={"phase": Phase.WITHDRAWN}), again)
    assert await refusal(config, token) == (410, "cancelled")
    assert (await use(config, a_token(config, tenant_id, again))).status_code == 200

    config.clock.advance(45 * DAY)
    assert await refusal(config, a_token(config, tenant_id, again)) == (410, "over")


async def test_after_the_purge_it_is_gone_also_where_purger_was_not_heard(config: Config) -> None:
    tenant_id, plan = await left(config)
    token = a_token(config, tenant_id, plan)
    await use(config, token)
    await config.order_erasure(tenant_id)
    assert await refusal(config, token) == (410, "erased")
    await config.erase()
    assert await refusal(config, token) == (410, "erased")
    assert await uses(config, tenant_id) == 0

    other, plan = await left(config)
    await hear(config, other, plan.model_copy(update={"phase": Phase.ERASING}))
    assert await refusal(config, a_token(config, other, plan)) == (410, "erased")
    await hear(config, other, plan)
    await know(config, other, TenantStatus.UNINSTALLED, ClassState.PURGING)
    assert await refusal(config, a_token(config, other, plan)) == (410, "erased")


async def test_an_erasure_that_begins_meanwhile_breaks_the_file_off(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "_THINGS_A_PAGE", 1)
    tenant_id, plan = await left(config)
    pages, real = 0, transfers.page_of_things

    async def meanwhile(*args: Any, **named: Any) -> Any:
        nonlocal pages
        pages += 1
        if pages == 1:
            found = await real(*args, **named)
            # It waits for this page's transaction, and no other page is read after it.
            await hear(config, tenant_id, plan.model_copy(update={"phase": Phase.ERASING}))
            return found
        return await real(*args, **named)

    monkeypatch.setattr(transfers, "page_of_things", meanwhile)
    with pytest.raises(Exception, match="erased"):
        await use(config, a_token(config, tenant_id, plan))
    assert pages == 1


async def test_it_is_used_up_after_a_while_and_counted_by_its_purge(config: Config) -> None:
    tenant_id, plan = await left(config)
    token = a_token(config, tenant_id, plan)
    async with config.units.begin() as uow:
        await uow.act_for(tenant_id)
        for _ in range(MOST_USES - 1):
            await uow.connection.execute(
                "INSERT INTO export_uses VALUES ($1, gen_random_uuid(), $2, $3)",
                tenant_id,
                NOW,
                plan.purge_id,
            )
    assert (await use(config, token)).status_code == 200
    assert await refusal(config, token) == (410, "used-up")
    await know(config, tenant_id, TenantStatus.INSTALLED)
    assert await export_of(config, tenant_id)

    config.clock.advance(364 * DAY)
    await Forgetting(config.clock, config.worker).run()
    assert await uses(config, tenant_id) == MOST_USES + 1
    config.clock.advance(2 * DAY)
    await Forgetting(config.clock, config.worker).run()
    assert await uses(config, tenant_id) == 0


async def test_keys_change_without_a_link_being_lost(config: Config) -> None:
    tenant_id, plan = await left(config)
    old, new = config.notifier, Installer.new("newer")
    seconds, published = 0.0, [*old.jwks()["keys"]]
    keys = PublishedKeys(
        EXPORT_JWKS_URL,
        answering(lambda _: httpx2.Response(200, json={"keys": published})),
        monotonic=lambda: seconds,
    )
    config.change(export_keys=keys)
    by_old, by_new = (each.sign(claims(tenant_id, plan)) for each in (old, new))
    assert (await use(config, by_old)).status_code == 200
    assert await refusal(config, by_new) == (403, "unknown")

    published.append(new.jwks()["keys"][0])
    seconds += 10
    assert (await use(config, by_new)).status_code == 200
    assert (await use(config, by_old)).status_code == 200
    del published[0]
    seconds += 3600
    assert await refusal(config, by_old) == (403, "unknown")
    assert (await use(config, by_new)).status_code == 200


async def test_while_notifier_is_away_known_keys_are_enough_and_without_them_one_tries_again(
    config: Config,
) -> None:
    tenant_id, plan = await left(config)
    token = a_token(config, tenant_id, plan)

    def away(_: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("away")

    keys = PublishedKeys(EXPORT_JWKS_URL, answering(away))
    config.change(export_keys=keys)
    answer = await use(config, token)
    assert (answer.status_code, answer.json()["reason"]) == (503, "not-now")
    assert answer.headers["retry-after"] == "5"
    assert await uses(config, tenant_id) == 0

    away_now = False
    keys = PublishedKeys(
        EXPORT_JWKS_URL,
        answering(
            lambda request: (
                away(request) if away_now else httpx2.Response(200, json=config.notifier.jwks())
            )
        ),
    )
    config.change(export_keys=keys)
    assert (await use(config, token)).status_code == 200
    away_now = True
    assert (await use(config, token)).status_code == 200


async def test_a_purge_that_was_not_heard_of_yet_is_asked_for_again_later(config: Config) -> None:
    tenant_id, plan = await config.tenant(), a_plan()
    assert await refusal(config, a_token(config, tenant_id, plan)) == (503, "not-yet")


async def test_without_keys_there_are_no_links(config: Config) -> None:
    config.change(export_keys=None)
    async with config.client() as client:
        assert (await client.get(PATH)).status_code == 404
    assert (await use(config, "token")).status_code == 404


@pytest.mark.parametrize(
    ("headers", "told", "language"),
    [
        ({}, {}, "en"),
        ({"accept-language": "fr, de-AT;q=0.8, en;q=0.5"}, {}, "de"),
        ({"accept-language": "en-GB, de"}, {}, "en"),
        ({"accept-language": "de"}, {"language": "en"}, "en"),
        ({"accept-language": ", ;;"}, {"language": "../de"}, "en"),
    ],
)
async def test_a_page_says_in_the_readers_language_why_a_link_opens_nothing(
    config: Config, headers: dict[str, str], told: dict[str, str], language: str
) -> None:
    titles = {
        "en": ("Take your data with you", "This link does not open anything"),
        "de": ("Nehmen Sie Ihre Daten mit", "Dieser Link öffnet nichts"),
    }[language]
    async with config.client() as client:
        page = await client.get(PATH, params=told, headers=headers)
    refused = await use(config, "tampered", {**A_PAGE, **headers}, **told)
    assert refused.status_code == 403
    for shown, title in zip((page, refused), titles, strict=True):
        assert f'<html lang="{language}">' in shown.text
        assert f"<h1>{title}</h1>" in shown.text


@pytest.mark.parametrize("language", ["en", "de"])
async def test_every_reason_has_words_of_its_own(config: Config, language: str) -> None:
    tenant_id, plan = await left(config)
    token, told = a_token(config, tenant_id, plan), set()

    async def look(token: str) -> None:
        page = await use(config, token, A_PAGE, language=language)
        assert page.status_code >= 400
        told.add(page.text.partition("<h1>")[2].partition("</main>")[0])

    await look("tampered")
    await look(config.notifier.sign(claims(tenant_id, plan) | {"exp": int(NOW.timestamp()) - 9}))
    await hear(config, tenant_id)
    await look(token)
    await hear(config, tenant_id, plan.model_copy(update={"phase": Phase.CLOSED}))
    await look(token)
    await look(a_token(config, await config.tenant(), plan))
    async with config.units.begin() as uow:
        await uow.act_for(tenant_id)
        await uow.connection.execute(
            "INSERT INTO export_uses SELECT $1, gen_random_uuid(), $2, $3"
            " FROM generate_series(1, $4)",
            tenant_id,
            NOW,
            plan.purge_id,
            MOST_USES,
        )
    await hear(config, tenant_id, plan)
    await look(token)
    assert len(told) == 6
