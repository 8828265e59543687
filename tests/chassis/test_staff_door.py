"""Who is let in as staff: only whom the provider names, by this browser's own sign-on, and once."""

import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import asyncpg
import httpx2
import pytest
from fastapi import APIRouter, FastAPI
from joserfc.jwk import OctKey
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from chassis.problems import answer_with_problems
from chassis.staff.access import (
    StaffRouter,
    Undeclared,
    allowed,
    let_staff_in,
    staff_routes,
)
from chassis.staff.door import SIGN_ONS_A_MINUTE, Door, own_path
from chassis.staff.people import Role, roles_in, said_by
from chassis.staff.provider import LOGOUT_TOKENS_LAST, Client, Provider
from chassis.staff.records import records_router
from tests.support.chassis import Sample
from tests.support.provider import FOREIGN_KEY, ISSUER, SECRET, StrictProvider

HERE = "https://config.example.com"
THERE = "https://purger.example.com"
GROUPS = {Role.SUPPORT: "kw-support", Role.PRIVACY: "kw-privacy"}
EVENT: dict[str, Any] = {"http://schemas.openid.net/event/backchannel-logout": {}}
MENDED: list[str] = []
PAGE = {"accept": "text/html"}


class Clock:
    """Wall time that a test moves."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def wall(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    now = wall


router = StaffRouter()


@router.get("/things")
@allowed(Role.SUPPORT, page="Things")
async def things() -> dict[str, str]:
    return {"by": said_by("typed")}


@router.post("/things")
@allowed(Role.SUPPORT)
async def change_things() -> dict[str, str]:
    return {"by": said_by("typed")}


@router.post("/things/{thing}/{act}")
@allowed(Role.SUPPORT)
async def mend_thing(thing: str, act: str) -> dict[str, str]:
    MENDED.append(f"{act} {thing}")
    return {"by": said_by("typed")}


@router.get("/holds")
@allowed(Role.PRIVACY, page="Holds")
async def holds() -> dict[str, str]:
    return {}


@dataclass
class House:
    """A service with a door, and a provider that people come from."""

    provider: StrictProvider
    app: FastAPI
    client: httpx2.AsyncClient
    clock: Clock
    sample: Sample

    def browser(self) -> httpx2.AsyncClient:
        """Another person's browser."""
        transport = httpx2.ASGITransport(app=self.app)
        return httpx2.AsyncClient(transport=transport, base_url=HERE)

    async def sign_on(
        self, client: httpx2.AsyncClient | None = None, to: str = "/staff/things"
    ) -> httpx2.Response:
        """Go the whole way of a sign-on, and give the answer at its end."""
        client = client or self.client
        answer = await client.get("/sign-on", params={"to": to})
        while answer.has_redirect_location and answer.headers["location"].startswith(ISSUER):
            back = self.provider.authorize(answer.headers["location"])
            answer = await client.get(back)
        return answer

    async def begun(self) -> str:
        """Begin a sign-on; the address at the provider."""
        answer = await self.client.get("/sign-on")
        return str(answer.headers["location"])

    async def sessions(self) -> int:
        return int(await self.sample.runtime.fetchval("SELECT count(*) FROM staff_sessions"))


@pytest.fixture
async def house(sample: Sample, tmp_path: Path) -> AsyncIterator[House]:
    secret = tmp_path / "secret"
    secret.write_text(f"{SECRET}\n")
    strict, clock = StrictProvider(), Clock()
    await sample.worker.execute("SELECT audit_make_partitions($1::date, 2)", clock.wall().date())
    known = Client(
        issuer=ISSUER,
        client_id=strict.client_id,
        secret_file=secret,
        command_id="keepword",
        groups=GROUPS,
        groups_claim="groups",
        second_factors=frozenset({"mfa"}),
        http=lambda: httpx2.AsyncClient(transport=httpx2.ASGITransport(app=strict.app())),
    )
    provider = Provider(known)
    app = FastAPI()
    answer_with_problems(app)
    door = Door("config", HERE, provider, services={"config": HERE, "purger": f"{THERE}/"})
    app.state.running = SimpleNamespace(units=SimpleNamespace(pool=sample.runtime, clock=clock))
    let_staff_in(app, door, [router, records_router("config")])
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url=HERE) as client:
        yield House(strict, app, client, clock, sample)


# -- the way in -------------------------------------------------------------------------------------


async def test_whoever_is_not_signed_on_is_led_to_the_provider_and_back(house: House) -> None:
    asked = await house.client.get("/staff/things?q=a", headers=PAGE)
    assert asked.headers["location"] == f"{HERE}/sign-on?to=%2Fstaff%2Fthings%3Fq%3Da"

    posted = await house.client.post("/staff/things", headers=PAGE)
    assert posted.headers["location"] == f"{HERE}/sign-on?to=%2Fstaff"

    back = await house.sign_on(to="/staff/things?q=a")
    assert back.headers["location"] == f"{HERE}/staff/things?q=a"
    assert (await house.client.get("/staff/things")).json() == {"by": "ada"}

    cookies = back.headers.get_list("set-cookie")
    for part in ("__Host-keepword-config=", "HttpOnly", "Secure", "Path=/", "SameSite=lax"):
        assert part in cookies[0]
    assert "Domain" not in cookies[0]


async def test_a_program_without_a_token_is_told_that_it_needs_one(house: House) -> None:
    asked = await house.client.get("/staff/things")
    assert (asked.status_code, asked.headers["www-authenticate"]) == (401, "Bearer")


async def test_the_provider_asks_nothing_at_first_and_asks_where_it_has_to(house: House) -> None:
    await house.sign_on()
    assert house.provider.asked == ["none"]
    house.provider.knows_browser = False
    async with house.browser() as other:
        back = await house.sign_on(other)
    assert house.provider.asked == ["none", "none", ""]
    assert back.headers["location"] == f"{HERE}/staff/things"


async def test_the_database_holds_hashes_alone_of_what_a_browser_holds(house: House) -> None:
    url = await house.begun()
    state = parse_qs(urlsplit(url).query)["state"][0]
    await house.client.get(house.provider.authorize(await house.begun()))
    kept = [
        str(dict(row)) for table in ("staff_sessions", "staff_sign_ons")
        for row in await house.sample.runtime.fetch(f"SELECT * FROM {table}")
    ]  # fmt: skip
    assert len(kept) == 2
    for value in (state, *house.client.cookies.values()):
        assert not any(value in row for row in kept)


async def test_roles_open_what_is_declared_for_them_and_nothing_else(house: House) -> None:
    await house.sign_on()
    assert (await house.client.get("/staff/things")).status_code == 200
    assert (await house.client.get("/staff/holds")).status_code == 403
    page = await house.client.get("/staff/holds", headers=PAGE)
    assert page.status_code == 403
    assert "Your roles: support" in page.text


async def test_the_first_page_shows_what_is_open_to_a_persons_roles(house: House) -> None:
    await house.sign_on()
    page = (await house.client.get("/staff", headers=PAGE)).text
    assert "Ada Lovelace" in page
    assert page.count('href="./staff/things"') == 2  # in the navigation, and with what it does
    assert "/staff/holds" not in page


async def test_every_page_has_one_frame_that_leads_to_all_that_is_open(house: House) -> None:
    await house.sign_on()
    page = (await house.client.get("/staff/access", headers=PAGE)).text
    assert 'href="../staff/things">Things</a>' in page
    assert 'href="../staff/access" aria-current="page">Access</a>' in page
    assert "Holds</a>" not in page
    assert "Audit</a>" not in page
    assert f'href="{THERE}/staff">purger</a>' in page
    assert f'href="{HERE}/staff" aria-current="true">config</a>' in page
    assert 'action="../sign-on/out"' in page


async def test_the_page_of_access_says_what_routes_declare(house: House) -> None:
    await house.sign_on()
    page = (await house.client.get("/staff/access", headers=PAGE)).text
    found = re.findall(r"<code>(\w+ /staff\S*)</code></td>(.*?)</tr>", page)
    marks = {
        route: [mark == "yes" for mark in re.findall("<td>(.*?)</td>", row)] for route, row in found
    }
    declared = {f"{each.method} {each.path}": each.roles for each in staff_routes(house.app.routes)}
    assert marks == {route: [role in roles for role in Role] for route, roles in declared.items()}


async def test_the_page_of_the_audit_shows_who_did_what_page_by_page(house: House) -> None:
    house.provider.groups = ["kw-privacy", "kw-support"]
    await house.sign_on()
    thing = uuid4()
    own = {"sec-fetch-site": "same-origin"}
    await house.client.post(f"/staff/things/{thing}/mend", headers=own)
    page = (await house.client.get("/staff/audit", headers=PAGE)).text
    assert "POST /staff/things/{thing}/{act}" in page
    assert f"thing <code>{thing}</code>" in page
    assert page.index("POST /staff/things") < page.index("sign-on</td>")
    older = (await house.client.get("/staff/audit?before=2", headers=PAGE)).text
    assert "POST /staff/things" not in older
    assert "sign-on</td>" in older
    for odd in ("0", "-1", "x", "9" * 30):
        assert (await house.client.get(f"/staff/audit?before={odd}", headers=PAGE)).is_success


# -- what is not let in -----------------------------------------------------------------------------

REFUSED: dict[str, dict[str, Any]] = {
    "of another issuer": {"iss": "https://id.example.org"},
    "of no issuer": {"iss": None},
    "for another audience": {"aud": "keepword-purger"},
    "for nobody": {"aud": None},
    "for several without a party": {"aud": ["keepword-config", "keepword-purger"]},
    "given to another client": {"azp": "keepword-purger"},
    "expired": {"exp": int(time.time()) - 3600},
    "without an end": {"exp": None},
    "without its time": {"iat": None},
    "with another nonce": {"nonce": "of another sign-on"},
    "without a nonce": {"nonce": None},
    "without a second factor": {"amr": ["pwd"]},
    "without factors": {"amr": None},
    "with factors of an odd shape": {"amr": "mfa"},
    "of nobody": {"sub": None},
    "of a number": {"sub": 7},
    "of an endless name": {"sub": "a" * 256},
    "without groups": {"groups": None},
    "with a role's name for a group": {"groups": ["support"]},
    "with groups of an odd shape": {"groups": {"kw-support": True}},
    "with groups in groups": {"groups": [["kw-support"]]},
    "with a number among groups": {"groups": ["kw-support", 1]},
    "with a text of several groups": {"groups": "kw-support,kw-privacy"},
    "with a nonce in a logout token": {"events": EVENT},
}


async def test_an_id_token_is_refused(house: House) -> None:
    for what, told in REFUSED.items():
        house.provider.tell = told
        answer = await house.sign_on()
        assert answer.status_code == 403, what
        assert "You are not signed on" in answer.text, what
        assert await house.sessions() == 0, what


async def test_a_token_that_is_signed_by_nobody_or_somebody_else_is_refused(house: House) -> None:
    house.provider.header = {"alg": "none"}
    assert (await house.sign_on()).status_code == 403
    house.provider.header = {"alg": "RS256", "kid": "of the provider"}
    house.provider.signed_by = FOREIGN_KEY
    assert (await house.sign_on()).status_code == 403
    # The public key as a shared secret: everybody has it.
    house.provider.header = {"alg": "HS256", "kid": "of the provider"}
    house.provider.signed_by = OctKey.import_key(b"k" * 32)
    assert (await house.sign_on()).status_code == 403
    assert await house.sessions() == 0


async def test_an_answer_counts_once_and_for_its_own_browser(house: House) -> None:
    back = house.provider.authorize(await house.begun())
    async with house.browser() as other:
        assert (await other.get(back)).status_code == 403
    # Whoever has the answer of another browser has taken it from that browser too.
    assert (await house.client.get(back)).status_code == 303
    assert (await house.client.get(back)).status_code == 403
    assert await house.sessions() == 1


async def test_an_answer_that_comes_too_late_is_refused(house: House) -> None:
    back = house.provider.authorize(await house.begun())
    house.clock.ahead = timedelta(minutes=11)
    assert (await house.client.get(back)).status_code == 403


async def test_a_code_of_another_sign_on_is_refused_by_its_challenge(house: House) -> None:
    async with house.browser() as other:
        begun = await other.get("/sign-on")
        stolen = parse_qs(urlsplit(house.provider.authorize(begun.headers["location"])).query)
    mine = parse_qs(urlsplit(await house.begun()).query)
    back = await house.client.get(
        "/sign-on/callback", params={"state": mine["state"][0], "code": stolen["code"][0]}
    )
    assert back.status_code == 403
    assert "does not take the code" in back.text


ELSEWHERE = (
    "https://evil.example",
    "//evil.example",
    "/\\evil.example",
    "/staff//evil.example",
    "/staff/../sign-on/out",
    "/staff@evil.example",
    "/staff\r\nlocation: https://evil.example",
    "/staff/%2e%2e",
    "javascript:alert(1)",
    "/sign-on",
    "/staff/" + "a" * 1000,
)


async def test_nobody_is_led_elsewhere_after_the_sign_on(house: House) -> None:
    for to in ELSEWHERE:
        assert own_path(to) is None, to
        back = await house.sign_on(to=to)
        assert back.headers["location"] == f"{HERE}/staff", to


async def test_a_session_that_somebody_planted_does_not_become_the_persons(house: House) -> None:
    name = "__Host-keepword-config"
    house.client.cookies.set(name, "planted", domain="config.example.com")
    house.client.cookies.set(f"{name}-sign-on", "planted", domain="config.example.com")
    await house.sign_on()
    async with house.browser() as other:
        other.cookies.set(name, "planted", domain="config.example.com")
        assert (await other.get("/staff/things")).status_code == 401


async def test_a_sign_on_anew_ends_the_session_before_it(house: House) -> None:
    await house.sign_on()
    old = house.client.cookies["__Host-keepword-config"]
    await house.sign_on()
    assert house.client.cookies["__Host-keepword-config"] != old
    assert await house.sessions() == 1


async def test_who_begins_very_often_has_to_wait(house: House) -> None:
    answers = [await house.client.get("/sign-on") for _ in range(SIGN_ONS_A_MINUTE + 1)]
    # The minute may end between two of them.
    more = [await house.client.get("/sign-on") for _ in range(SIGN_ONS_A_MINUTE)]
    assert 429 in [each.status_code for each in (*answers, *more)]
    assert answers[0].status_code == 303


async def test_while_the_provider_is_away_nobody_signs_on(house: House) -> None:
    house.provider.away = True
    answer = await house.client.get("/sign-on")
    assert answer.status_code == 503
    assert "Nobody can sign on now" in answer.text


# -- how long it lasts ------------------------------------------------------------------------------


async def test_a_session_ends_after_half_an_hour_without_a_visit(house: House) -> None:
    await house.sign_on()
    for _ in range(3):
        house.clock.ahead += timedelta(minutes=29)
        assert (await house.client.get("/staff/things")).status_code == 200
    # A page that keeps itself fresh is no visit.
    fresh = {"sec-fetch-dest": "empty"}
    house.clock.ahead += timedelta(minutes=20)
    assert (await house.client.get("/staff/things", headers=fresh)).status_code == 200
    house.clock.ahead += timedelta(minutes=11)
    assert (await house.client.get("/staff/things")).status_code == 401


async def test_a_session_ends_after_eight_hours_whatever_happens(house: House) -> None:
    await house.sign_on()
    for _ in range(19):
        house.clock.ahead += timedelta(minutes=25)
        assert (await house.client.get("/staff/things")).status_code == 200
    house.clock.ahead += timedelta(minutes=6)
    assert (await house.client.get("/staff/things")).status_code == 401


async def test_signing_out_ends_the_session(house: House) -> None:
    await house.sign_on()
    kept = house.client.cookies["__Host-keepword-config"]
    answer = await house.client.post("/sign-on/out", headers={"origin": HERE})
    assert "You are signed out" in answer.text
    assert f"{ISSUER}/end?" in answer.text
    house.client.cookies.set("__Host-keepword-config", kept, domain="config.example.com")
    assert (await house.client.get("/staff/things")).status_code == 401


async def logout(house: House, **told: Any) -> int:
    claims = {"nonce": None, "amr": None, "groups": None, "events": EVENT} | told
    token = house.provider.sign(house.provider.claims(**claims))
    answer = await house.client.post("/sign-on/back-channel", data={"logout_token": token})
    return answer.status_code


NAMES: tuple[dict[str, None], ...] = ({"sid": None}, {"sub": None}, {})


async def test_the_provider_ends_sessions_by_person_or_by_its_session(house: House) -> None:
    for names in NAMES:
        await house.sign_on()
        assert await logout(house, sub="somebody else", sid="of somebody else") == 200
        assert await house.sessions() == 1
        assert await logout(house, **names) == 200
        assert await house.sessions() == 0


REFUSED_LOGOUTS: tuple[dict[str, Any], ...] = (
    {"sub": None, "sid": None},
    {"events": None},
    {"events": ["http://schemas.openid.net/event/backchannel-logout"]},
    {"nonce": "n"},
    {"aud": "keepword-purger"},
    {"iss": "https://id.example.org"},
    {"iat": int(time.time() - LOGOUT_TOKENS_LAST.total_seconds()) - 120},
    {"sub": 7},
)


async def test_a_logout_token_is_refused(house: House) -> None:
    await house.sign_on()
    for told in REFUSED_LOGOUTS:
        assert await logout(house, **told) == 400, told
    assert await house.sessions() == 1


# -- requests of other sites, and of programs -------------------------------------------------------


SENT_BY: tuple[tuple[dict[str, str], int], ...] = (
    ({"sec-fetch-site": "same-origin"}, 200),
    ({"origin": HERE}, 200),
    ({"sec-fetch-site": "cross-site"}, 403),
    ({"sec-fetch-site": "same-site"}, 403),
    ({"sec-fetch-site": "none"}, 403),
    ({"origin": "https://evil.example"}, 403),
    ({"origin": f"{HERE}.evil.example"}, 403),
    ({"origin": "null"}, 403),
    ({"sec-fetch-site": "cross-site", "origin": HERE}, 403),
    ({}, 403),
)


async def test_another_site_cannot_send_anything_in_a_persons_name(house: House) -> None:
    await house.sign_on()
    for headers, status in SENT_BY:
        answer = await house.client.post("/staff/things", headers=headers)
        assert answer.status_code == status, headers


async def test_what_a_person_changes_is_in_the_audit_before_it_is_done(house: House) -> None:
    await house.sign_on()
    thing = "018f0000-0000-7000-8000-000000000000"
    await house.client.get("/staff/things")
    for path in (f"/staff/things/{thing}/mend", "/staff/things/acme.example/mend"):
        answer = await house.client.post(path, headers={"origin": HERE})
        assert answer.json() == {"by": "ada"}
    rows = await house.sample.runtime.fetch("SELECT * FROM audit_entries ORDER BY number")
    assert [(row["subject"], row["act"], row["about"]) for row in rows] == [
        ("ada", "sign-on", {}),
        ("ada", "POST /staff/things/{thing}/{act}", {"thing": thing}),
        ("ada", "POST /staff/things/{thing}/{act}", {}),
    ]
    await house.sample.worker.execute("UPDATE audit_ends SET number = 0")
    owner = await asyncpg.connect(house.sample.roles.owner_url)
    await owner.execute("DROP TABLE audit_entries")
    await owner.close()
    MENDED.clear()
    with pytest.raises(asyncpg.UndefinedTableError):
        await house.client.post(f"/staff/things/{thing}/mend", headers={"origin": HERE})
    assert MENDED == []


async def test_the_command_asks_by_a_token_of_its_own_client(house: House) -> None:
    def bearer(**told: Any) -> dict[str, str]:
        claims = house.provider.claims(aud="keepword", **told)
        return {"authorization": f"Bearer {house.provider.sign(claims)}"}

    answer = await house.client.post("/staff/things", headers=bearer())
    assert answer.json() == {"by": "ada"}
    me = await house.client.get("/sign-on/me", headers=bearer())
    assert me.json() == {"subject": "ada", "name": "Ada Lovelace", "roles": ["support"]}
    assert (await house.client.get("/staff/holds", headers=bearer())).status_code == 403
    # What a page was given opens no programs' way in, and neither does anything that is odd.
    page = house.provider.sign(house.provider.claims())
    for given in (
        {"authorization": f"Bearer {page}"},
        bearer(exp=int(time.time()) - 3600),
        bearer(amr=["pwd"]),
        bearer(events=EVENT),
        bearer(azp="keepword-config"),
        {"authorization": "Bearer "},
        {"authorization": "Basic YTpi"},
        {"authorization": "Bearer a.b.c"},
    ):
        refused = await house.client.get("/staff/things", headers=given)
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"].startswith("Bearer")


# -- what is declared -------------------------------------------------------------------------------


def test_a_route_that_does_not_say_who_may_use_it_does_not_come_about() -> None:
    router = StaffRouter()

    async def open_to_all() -> None:
        """Nothing."""

    with pytest.raises(Undeclared):
        router.get("/open")(open_to_all)
    plain = APIRouter(prefix="/staff")
    plain.get("/open")(open_to_all)
    with pytest.raises(Undeclared):
        let_staff_in(FastAPI(), Door("config", HERE, None), [plain])
    listed = Starlette(routes=[Route("/staff/open", lambda _: Response())])
    with pytest.raises(Undeclared):
        list(staff_routes(listed.routes))


def test_a_group_is_compared_whole() -> None:
    for told in (["KW-SUPPORT"], ["kw-support "], ["kw"], "kw", [], None, 1, [None]):
        assert roles_in({"groups": told}, GROUPS, claim="groups") == frozenset()
    assert roles_in({"groups": "kw-support"}, GROUPS, claim="groups") == {Role.SUPPORT}
    both = roles_in({"groups": ["kw-support", "kw-privacy", "x"]}, GROUPS, claim="groups")
    assert both == {Role.SUPPORT, Role.PRIVACY}
