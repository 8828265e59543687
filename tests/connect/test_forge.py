"""Forge's calls: one of our apps, one installation, and no event that a person's browser made up."""

import json
import traceback
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from connect.calls import Refusal, Refused
from connect.forge import (
    APP_ARI,
    INSTALLATION_ARI,
    ForgeEventType,
    ForgeSite,
    ForgeTokens,
    Invocation,
    check_event,
    installation_id_of,
    read_event,
)
from connect.jwt import MAX_TOKEN_BYTES, Reason, sign
from connect.key_sets import KeySet
from connect.keys import KeyHostAway, UnknownKey
from connect.lifecycle import MAX_BODY_BYTES, InvalidBody
from tests.connect.serving import serving

VECTORS = json.loads((Path(__file__).parent / "vectors" / "forge-invocations.json").read_text())
OFFICIAL = (
    Path(__file__).parents[2].parent
    / "shared"
    / "vectors"
    / "marketplace-privacy-forge-samples.json"
)
NOW = VECTORS["now"]
APP = "77334c21-3dd0-474f-a53f-28b4eeee5a71"
INSTALLATION = "75969db9-dc7b-4798-9715-bd098ac0d9d1"
CLOUD = "00000000-0000-4000-8000-0000000000aa"
PERSON = "5be24ad8b1653240376955d2"
KEY_ID = "forge/invocation-token/wf-1"
MODULES = {"lifecycle"}

CLAIMS: dict[str, Any] = {
    "app": {
        "id": APP_ARI + APP,
        "installationId": INSTALLATION_ARI + INSTALLATION,
        "apiBaseUrl": f"https://api.atlassian.com/ex/jira/{CLOUD}",
        "environment": {"type": "PRODUCTION"},
        "module": {"type": "core:trigger", "key": "lifecycle"},
    },
    "aud": APP_ARI + APP,
    "iss": "forge/invocation-token",
    "iat": NOW,
    "nbf": NOW,
    "exp": NOW + 25,
    "jti": "46d16c0878f3db54963c84a9af48a902efcab29c",
}
INVOCATION = Invocation(
    app_id=APP,
    installation_id=INSTALLATION,
    site=ForgeSite("jira", CLOUD),
    environment="PRODUCTION",
    module_key="lifecycle",
    by_a_person=False,
    licence_active=None,
)
EVENT: dict[str, Any] = {
    "id": INSTALLATION,
    "context": f"ari:cloud:jira::site/{CLOUD}",
    "installerAccountId": PERSON,
    "app": {"id": APP, "version": "2.0.0", "name": "x", "ownerAccountId": PERSON},
    "environment": {"id": "3bb5deab-afcd-4140-9be4-f837b4b14b2c"},
    "eventType": "avi:forge:installed:app",
    "newField": {"deep": [1]},
}


class Keys:
    """One key, and a host that can be away."""

    def __init__(self, key: RSAPublicKey) -> None:
        self._key = key
        self.away = False
        self.asked: list[str] = []

    async def key(self, key_id: str) -> RSAPublicKey:
        self.asked.append(key_id)
        if self.away:
            raise KeyHostAway
        if key_id != KEY_ID:
            raise UnknownKey
        return self._key


@pytest.fixture
def keys(private_key: RSAPrivateKey) -> Keys:
    return Keys(private_key.public_key())


@pytest.fixture
def gate(keys: Keys) -> ForgeTokens:
    return ForgeTokens(keys, [APP], now=lambda: NOW)


@pytest.fixture(scope="module")
async def published() -> AsyncIterator[ForgeTokens]:
    """Give a gate whose keys are the vectors' set, fetched over HTTP."""

    async def key_set(_: Request) -> Response:
        return JSONResponse(VECTORS["jwks"])

    app = Starlette(routes=[Route("/jwks.json", key_set)])
    async with serving(app) as url, httpx2.AsyncClient() as http:
        keys = KeySet(http, f"{url}/jwks.json")
        yield ForgeTokens(keys, VECTORS["app_ids"], now=lambda: NOW)


async def _refused(gate: ForgeTokens, authorization: str | list[str] | None) -> Refused:
    with pytest.raises(Refused) as refusal:
        await gate.verify(authorization)
    return refusal.value


def _event(**changes: Any) -> bytes:
    body = {name: value for name, value in {**EVENT, **changes}.items() if value is not ...}
    return json.dumps(body).encode()


def _faults(**changes: Any) -> set[str]:
    with pytest.raises(InvalidBody) as refusal:
        read_event(_event(**changes))
    return {field for field, _ in refusal.value.faults}


@pytest.mark.parametrize("case", VECTORS["tokens"], ids=lambda case: case["name"])
async def test_every_vector_gets_in_or_is_refused_for_its_reason(
    case: dict[str, Any], published: ForgeTokens
) -> None:
    authorization = f"Bearer {case['token']}"
    if case["refused"] is not None:
        refused = await _refused(published, authorization)
        assert refused.status == 401
        assert case["refused"] == (refused.reason or refused.refusal.slug)
        return
    said = await published.verify(authorization)

    site = None if said.site is None else (said.site.product, said.site.cloud_id)
    assert case["invocation"] == {
        "app_id": said.app_id,
        "installation_id": said.installation_id,
        "product": site and site[0],
        "cloud_id": site and site[1],
        "environment": said.environment,
        "module_key": said.module_key,
        "by_a_person": said.by_a_person,
        "licence_active": said.licence_active,
    }


@pytest.mark.skipif(not OFFICIAL.exists(), reason="the collected shapes are not here")
async def test_the_collected_shapes_of_token_and_event_are_read(
    keys: Keys, private_key: RSAPrivateKey
) -> None:
    collected = json.loads(OFFICIAL.read_text())["forge"]
    times = {"iat": NOW, "nbf": NOW, "exp": NOW + 25}
    token = sign(collected["fitClaims"] | times, private_key, key_id=KEY_ID)
    gate = ForgeTokens(keys, ["APP"], now=lambda: NOW)

    said = await gate.verify(f"Bearer {token}")
    event = read_event(json.dumps(collected["installedEvent"]).encode())

    check_event(said, event, modules=MODULES)
    assert said.site == event.site == ForgeSite("jira", "CLOUDID")


async def test_a_token_that_comes_again_gets_in_again(
    gate: ForgeTokens, private_key: RSAPrivateKey
) -> None:
    authorization = f"Bearer {sign(CLAIMS, private_key, key_id=KEY_ID)}"

    assert await gate.verify(authorization) == await gate.verify([authorization]) == INVOCATION


async def test_one_gate_serves_several_apps_and_says_which(
    keys: Keys, private_key: RSAPrivateKey
) -> None:
    gate = ForgeTokens(keys, [APP_ARI + "other", APP_ARI + APP], now=lambda: NOW)
    other = CLAIMS | {"aud": APP_ARI + "other", "app": CLAIMS["app"] | {"id": APP_ARI + "other"}}

    for claims, app_id in ((CLAIMS, APP), (other, "other")):
        token = sign(claims, private_key, key_id=KEY_ID)
        assert (await gate.verify(f"Bearer {token}")).app_id == app_id


@pytest.mark.parametrize("app_ids", [[], APP, ["a/b"], [APP, ""], ["ari:cloud:ecosystem::x/a"]])
def test_a_gate_without_an_app_is_not_built(app_ids: list[str], keys: Keys) -> None:
    with pytest.raises(ValueError, match="app"):
        ForgeTokens(keys, app_ids)


async def test_a_call_bears_exactly_one_token(
    gate: ForgeTokens, private_key: RSAPrivateKey
) -> None:
    token = sign(CLAIMS, private_key, key_id=KEY_ID)

    assert await gate.verify(["Basic x", f"bearer  {token} "]) == INVOCATION
    for authorization, reason in (
        (None, Reason.NO_TOKEN),
        ("", Reason.NO_TOKEN),
        (f"JWT {token}", Reason.NO_TOKEN),
        ([f"Bearer {token}", f"Bearer {token}"], Reason.TWO_TOKENS),
        (f"Bearer {token}, Bearer {token}", Reason.MALFORMED),
        ("Bearer", Reason.MALFORMED),
    ):
        assert (await _refused(gate, authorization)).reason is reason


async def test_no_key_is_asked_for_before_the_token_has_its_form(
    gate: ForgeTokens, keys: Keys, private_key: RSAPrivateKey
) -> None:
    large = CLAIMS | {"x": "x" * MAX_TOKEN_BYTES}
    for token in (
        sign(CLAIMS, b"secret", key_id=KEY_ID),
        sign(CLAIMS, private_key),
        sign(large, private_key, key_id=KEY_ID),
    ):
        await _refused(gate, f"Bearer {token}")

    assert keys.asked == []


async def test_a_key_that_cannot_be_had_now_asks_to_come_back(
    gate: ForgeTokens, keys: Keys, private_key: RSAPrivateKey
) -> None:
    keys.away = True

    refused = await _refused(gate, f"Bearer {sign(CLAIMS, private_key, key_id=KEY_ID)}")

    assert (refused.refusal, refused.status) == (Refusal.KEY_HOST_AWAY, 503)
    assert set(refused.headers("app", "Bearer")) == {"Retry-After"}


async def test_an_unknown_key_is_a_foreign_signer(
    gate: ForgeTokens, private_key: RSAPrivateKey
) -> None:
    refused = await _refused(gate, f"Bearer {sign(CLAIMS, private_key, key_id='made-up')}")

    assert (refused.refusal, refused.status) == (Refusal.UNKNOWN_KEY, 401)
    assert refused.headers("app", "Bearer") == {"WWW-Authenticate": 'Bearer realm="app"'}


async def test_a_call_and_a_refusal_show_neither_installation_nor_person(
    gate: ForgeTokens, private_key: RSAPrivateKey
) -> None:
    said = await gate.verify(
        f"Bearer {sign(CLAIMS | {'principal': PERSON}, private_key, key_id=KEY_ID)}"
    )
    bad = CLAIMS | {"principal": PERSON, "jti": [PERSON, INSTALLATION, CLOUD]}
    refused = await _refused(gate, f"Bearer {sign(bad, private_key, key_id=KEY_ID)}")

    for shown in (f"{said!r}", "".join(traceback.format_exception(refused))):
        for hidden in (INSTALLATION, CLOUD, PERSON):
            assert hidden not in shown
    assert PERSON not in str([getattr(said, name) for name in said.__slots__])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3)
    ),
    max_leaves=5,
)


@given(
    name=st.sampled_from(sorted(CLAIMS["app"])),
    within=st.sampled_from([None, "id", "type", "key", "contexts"]),
    value=json_values,
)
async def test_no_claim_of_forge_makes_the_gate_fail_in_another_way(
    private_key: RSAPrivateKey, name: str, within: str | None, value: Any
) -> None:
    gate = ForgeTokens(Keys(private_key.public_key()), [APP], now=lambda: NOW)
    claims = CLAIMS | {"app": CLAIMS["app"] | {name: value if within is None else {within: value}}}

    with suppress(Refused):
        await gate.verify(f"Bearer {sign(claims, private_key, key_id=KEY_ID)}")


def test_an_event_keeps_no_person() -> None:
    event = read_event(_event())

    assert event.model_dump() == {
        "event_type": ForgeEventType.INSTALLED,
        "installation_id": INSTALLATION,
        "app_id": APP,
        "app_version": "2.0.0",
        "environment_id": "3bb5deab-afcd-4140-9be4-f837b4b14b2c",
        "site": {"product": "jira", "cloud_id": CLOUD},
    }
    for hidden in (PERSON, INSTALLATION, CLOUD):
        assert hidden not in f"{event!r} {event}"


@pytest.mark.parametrize("event_type", list(ForgeEventType))
def test_the_three_events_are_read(event_type: ForgeEventType) -> None:
    assert read_event(_event(eventType=event_type)).event_type is event_type


def test_what_an_event_may_lack_is_absent() -> None:
    for absent in (..., None):
        event = read_event(_event(environment=absent, context=absent, app={"id": APP_ARI + APP}))

        assert (event.app_id, event.app_version) == (APP, None)
        assert (event.environment_id, event.site) == (None, None)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"eventType": ...}, "eventType"),
        ({"eventType": "avi:forge:updated:app"}, "eventType"),
        ({"eventType": "installed"}, "eventType"),
        ({"eventType": None}, "eventType"),
        ({"id": ...}, "id"),
        ({"id": None}, "id"),
        ({"id": ""}, "id"),
        ({"id": 7}, "id"),
        ({"id": "a/b"}, "id"),
        ({"id": "a\0b"}, "id"),
        ({"id": "a\n"}, "id"),
        ({"id": "x" * 65}, "id"),
        ({"id": APP_ARI + INSTALLATION}, "id"),
        ({"app": ...}, "app.id"),
        ({"app": "APP"}, "app.id"),
        ({"app": {"id": ["a"]}}, "app.id"),
        ({"app": {"id": APP, "version": "a\0"}}, "app.version"),
        ({"environment": {"id": 7}}, "environment.id"),
        ({"context": CLOUD}, "context"),
        ({"context": "ari:cloud:jira::site/"}, "context"),
        ({"context": "ari:cloud:jira::site/a/b"}, "context"),
        ({"context": f"ari:cloud:JIRA::site/{CLOUD}"}, "context"),
        ({"context": {"cloudId": CLOUD}}, "context"),
    ],
)
def test_a_field_of_the_wrong_shape_is_refused(changes: dict[str, Any], field: str) -> None:
    assert _faults(**changes) == {field}


@pytest.mark.parametrize("raw", [b"", b"null", b"[]", b"{", b"\xff", b"[" * 9999, b'{"a":"\0"}'])
def test_what_is_no_event_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidBody):
        read_event(raw)


def test_an_event_has_a_greatest_size() -> None:
    raw = _event().ljust(MAX_BODY_BYTES)

    assert read_event(raw)
    with pytest.raises(InvalidBody, match="too_large"):
        read_event(raw + b" ")


def test_a_refused_event_shows_nothing_of_itself() -> None:
    raw = _event(id=[PERSON], eventType=PERSON, context=INSTALLATION, **{CLOUD: CLOUD})
    with pytest.raises(InvalidBody) as refusal:
        read_event(raw)
    shown = "".join(traceback.format_exception(refusal.value)) + repr(refusal.value)

    for hidden in (PERSON, INSTALLATION, CLOUD):
        assert hidden not in shown
    assert refusal.value.__context__ is None


@given(value=json_values, raw=st.binary(max_size=40))
def test_no_body_makes_the_reader_fail_in_another_way(value: Any, raw: bytes) -> None:
    for body in (raw, json.dumps(value).encode(), _event(app=value, context=value)):
        with suppress(InvalidBody):
            read_event(body)


def test_an_event_is_the_tokens_own() -> None:
    full_id = read_event(_event(id=INSTALLATION_ARI + INSTALLATION, context=...))

    check_event(INVOCATION, read_event(_event()), modules=MODULES)
    check_event(INVOCATION, full_id, modules=MODULES)
    check_event(replace(INVOCATION, site=None), read_event(_event()), modules=MODULES)


@pytest.mark.parametrize(
    ("changes", "refusal", "status"),
    [
        ({"id": "another"}, Refusal.FOREIGN_INSTALLATION, 403),
        ({"context": "ari:cloud:jira::site/another"}, Refusal.FOREIGN_INSTALLATION, 403),
        ({"app": {"id": "another"}}, Refusal.FOREIGN_APP, 400),
    ],
)
def test_an_event_of_somebody_else_is_refused(
    changes: dict[str, Any], refusal: Refusal, status: int
) -> None:
    with pytest.raises(Refused) as refused:
        check_event(INVOCATION, read_event(_event(**changes)), modules=MODULES)

    assert (refused.value.refusal, refused.value.status) == (refusal, status)


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"module_key": "panel"}, Refusal.FOREIGN_MODULE),
        ({"module_key": None}, Refusal.FOREIGN_MODULE),
        ({"module_key": "panel", "by_a_person": True}, Refusal.FOREIGN_MODULE),
        ({"by_a_person": True}, Refusal.BY_A_PERSON),
    ],
)
def test_a_page_in_a_browser_cannot_uninstall_the_app(
    changes: dict[str, Any], refusal: Refusal
) -> None:
    uninstalled = read_event(_event(eventType=ForgeEventType.UNINSTALLED))

    with pytest.raises(Refused) as refused:
        check_event(replace(INVOCATION, **changes), uninstalled, modules=MODULES)

    assert (refused.value.refusal, refused.value.status) == (refusal, 403)


@given(st.uuids())
def test_an_installation_has_one_bare_id_however_it_is_named(installation: Any) -> None:
    bare = str(installation)

    assert installation_id_of(bare) == installation_id_of(INSTALLATION_ARI + bare) == bare


@pytest.mark.parametrize(
    "text",
    ["", INSTALLATION_ARI, INSTALLATION_ARI * 2 + "a", "a/b", "a b", "..", "a\n", APP_ARI + "a"],
)
def test_other_text_names_no_installation(text: str) -> None:
    assert installation_id_of(text) is None
