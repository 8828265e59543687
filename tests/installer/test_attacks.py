"""What is thrown at the doors: each attack gets its 4xx, changes nothing and is counted."""

import hmac
import io
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from chassis import tracing
from connect import jwt
from connect.forge import ForgeEventType
from connect.jwt import Algorithm
from connect.lifecycle import EventType
from connect.qsh import query_string_hash
from devstack.atlassian import ForgeInstallation, Site
from tests.installer.conftest import APP, OTHER_APP, PUBLIC_URL, Installer

INSTALLED, UNINSTALLED, ENABLED, DISABLED = (event.value for event in EventType)
FORGE = "forge-lifecycle"
BY_ATLASSIAN = (INSTALLED, UNINSTALLED)
BY_SECRET = (ENABLED, DISABLED)
CONNECT = (*BY_ATLASSIAN, *BY_SECRET)
RS256 = (*BY_ATLASSIAN, FORGE)
ALL = (*CONNECT, FORGE)

VICTIM = Site.named("acme")
ATTACKER = Site.named("globex")
VICTIM_ON_FORGE = ForgeInstallation.of(Site.named("initech"), APP)
ATTACKER_ON_FORGE = ForgeInstallation.of(ATTACKER, APP)
OWN_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
NOW = int(time.time())

Key: TypeAlias = rsa.RSAPrivateKey | bytes


@dataclass(frozen=True)
class Call:
    """A call that would be believed; attacks are made by changing it."""

    route: str
    path: str
    scheme: str
    claims: Mapping[str, Any]
    content: bytes
    key: Key
    key_id: str | None
    public_pem: bytes
    more_headers: tuple[tuple[str, str], ...] = ()
    query: str = ""
    token: str | None = None

    def signed(self) -> str:
        return self.token or jwt.sign(self.claims, self.key, key_id=self.key_id)

    def with_token(self, token: str) -> "Call":
        return replace(self, token=token)

    def with_claims(self, **changed: Any) -> "Call":
        claims = dict(self.claims) | changed
        return replace(self, claims={k: v for k, v in claims.items() if v is not ...})

    def with_body(self, **changed: Any) -> "Call":
        body = json.loads(self.content) | changed
        content = json.dumps({k: v for k, v in body.items() if v is not ...})
        return replace(self, content=content.encode())

    def headers(self) -> list[tuple[str, str]]:
        token = self.signed()
        own = [("Authorization", f"{self.scheme} {token}")] if token else []
        return [*own, *self.more_headers]


def encoded(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def put_together(
    call: Call, *, header: bytes | Mapping[str, Any] | None = None, payload: bytes | None = None
) -> Call:
    """A token of other making under the right key."""
    algorithm = "HS256" if isinstance(call.key, bytes) else "RS256"
    told = header or {"alg": algorithm, "kid": call.key_id}
    head = told if isinstance(told, bytes) else as_json(told)
    body = payload if payload is not None else as_json(call.claims)
    signing_input = f"{encoded(head)}.{encoded(body)}"
    signature = _signature(signing_input.encode(), call.key)
    return call.with_token(f"{signing_input}.{encoded(signature)}")


def _signature(signing_input: bytes, key: Key) -> bytes:
    if isinstance(key, bytes):
        return hmac.digest(key, signing_input, "sha256")
    return key.sign(signing_input, PKCS1v15(), SHA256())


def unsigned(call: Call) -> Call:
    header = encoded(as_json({"alg": "none", "kid": call.key_id}))
    return call.with_token(f"{header}.{encoded(as_json(call.claims))}.")


def confused(call: Call) -> Call:
    """Signed by what everybody has: the public key as a secret, or a key of one's own."""
    if isinstance(call.key, bytes):
        return replace(call, key=OWN_KEY, key_id=call.key_id)
    return replace(call, key=call.public_pem)


def confused_and_mislabelled(call: Call) -> Call:
    header = {"alg": "RS256", "kid": call.key_id}
    signing_input = f"{encoded(as_json(header))}.{encoded(as_json(call.claims))}"
    signature = _signature(signing_input.encode(), call.public_pem)
    return call.with_token(f"{signing_input}.{encoded(signature)}")


def tampered(call: Call) -> Call:
    header, _, signature = call.signed().split(".")
    claims = dict(call.claims) | {"sub": "admin"}
    return call.with_token(f"{header}.{encoded(as_json(claims))}.{signature}")


def of_another_key(call: Call) -> Call:
    key: Key = b"ATCOguessed" if isinstance(call.key, bytes) else OWN_KEY
    return replace(call, key=key)


def twice(call: Call) -> Call:
    return replace(call, more_headers=(("Authorization", f"{call.scheme} {call.signed()}"),))


def in_the_query_too(call: Call) -> Call:
    return replace(call, query=f"jwt={call.signed()}")


def duplicate_claim(call: Call) -> Call:
    payload = as_json(call.claims)[:-1] + b', "iss": "another"}'
    return put_together(call, payload=payload)


def duplicate_algorithm(call: Call) -> Call:
    algorithm = "HS256" if isinstance(call.key, bytes) else "RS256"
    header = f'{{"alg": "none", "alg": "{algorithm}", "kid": "{call.key_id}"}}'
    return put_together(call, header=header.encode())


def raw_body(make: Callable[[bytes], bytes]) -> Callable[[Call], Call]:
    return lambda call: replace(call, content=make(call.content))


def body(**changed: Any) -> Callable[[Call], Call]:
    return lambda call: call.with_body(**changed)


def claims(**changed: Any) -> Callable[[Call], Call]:
    return lambda call: call.with_claims(**changed)


def key_id(value: Any) -> Callable[[Call], Call]:
    return lambda call: put_together(call, header={"alg": "RS256", "kid": value})


@dataclass(frozen=True)
class Attack:
    """What is done to a call, on which routes, and how it is refused."""

    make: Callable[[Call], Call] = field(repr=False)
    status: int
    reason: str
    routes: tuple[str, ...] = ALL


def token(make: Callable[[Call], Call], reason: str, routes: Iterable[str] = ALL) -> Attack:
    return Attack(make, 401, reason, tuple(routes))


def bad_body(make: Callable[[Call], Call], routes: Iterable[str] = ALL) -> Attack:
    return Attack(make, 400, "invalid-body", tuple(routes))


ATTACKS: dict[str, Attack] = {
    # Signatures and keys.
    "no token": token(
        lambda call: replace(call, scheme="Basic"), "no-token", (*BY_ATLASSIAN, ENABLED, FORGE)
    ),
    "no signature": token(unsigned, "another-algorithm"),
    "an algorithm mixed up": token(confused, "another-algorithm"),
    "an algorithm mixed up under the right label": token(
        confused_and_mislabelled, "signature", RS256
    ),
    "another algorithm": token(
        lambda call: put_together(call, header={"alg": "RS512", "kid": call.key_id}),
        "another-algorithm",
    ),
    "a critical header": token(
        lambda call: put_together(
            call,
            header={
                "alg": "HS256" if isinstance(call.key, bytes) else "RS256",
                "kid": call.key_id,
                "crit": ["b64"],
            },
        ),
        "critical-header",
    ),
    "another key": token(of_another_key, "signature"),
    "changed claims": token(tampered, "signature"),
    "a key nobody has": token(key_id("00000000-0000-4000-8000-000000000000"), "unknown-key", RS256),
    "a key id with a path": token(key_id("../../etc/passwd"), "unknown-key", RS256),
    "a key id with an address": token(key_id("https://evil.example/key?x="), "unknown-key", RS256),
    "no key id": token(key_id(None), "no-key-id-of-a-known-shape", RS256),
    "a number for a key id": token(key_id(7), "no-key-id-of-a-known-shape", RS256),
    # Claims.
    "another audience": token(claims(aud=["https://evil.example"]), "another-audience", RS256),
    "another app's audience": token(
        claims(aud=[f"{PUBLIC_URL}/connect/{OTHER_APP}"]), "another-audience", RS256
    ),
    "no audience": token(claims(aud=...), "another-audience", RS256),
    "two audiences on Forge": token(
        lambda call: call.with_claims(aud=[call.claims["aud"], "another"]),
        "another-audience",
        (FORGE,),
    ),
    "another issuer": token(claims(iss="https://evil.example"), "another-issuer", (FORGE,)),
    "an issuer nobody knows": token(claims(iss="nobody"), "signature", BY_SECRET),
    "expired": token(claims(iat=NOW - 600, exp=NOW - 60), "expired"),
    "not yet valid": token(claims(nbf=NOW + 900), "not-yet-valid"),
    "issued in the future": token(claims(iat=NOW + 900, exp=NOW + 1000), "issued-in-the-future"),
    "endless": token(claims(exp=NOW + 10**8), "lifetime"),
    "no end": token(claims(exp=...), "missing-claim"),
    "no beginning": token(claims(iat=...), "missing-claim"),
    "no issuer": token(claims(iss=...), "missing-claim", RS256),
    "no issuer to find a secret by": token(claims(iss=...), "signature", BY_SECRET),
    "no id of the call": token(claims(jti=...), "missing-claim", (FORGE,)),
    "no first moment": token(claims(nbf=...), "missing-claim", (FORGE,)),
    "true for an end": token(claims(exp=True), "claim-of-the-wrong-shape"),
    "a NUL in the issuer": token(claims(iss="a\x00b"), "claim-of-the-wrong-shape", BY_ATLASSIAN),
    "a NUL in the issuer of a secret": token(claims(iss="a\x00b"), "signature", BY_SECRET),
    "another request's hash": token(
        claims(qsh=query_string_hash("POST", "/lifecycle/other", "")), "another-request", CONNECT
    ),
    "no hash": token(claims(qsh=...), "another-request", CONNECT),
    "a context token": token(claims(qsh="context-qsh"), "another-request", CONNECT),
    "a query that nobody signed": token(
        lambda call: replace(call, query="user_key=admin"), "another-request", CONNECT
    ),
    # The token's form.
    "two tokens": token(twice, "more-than-one-token"),
    "a token in the query too": token(in_the_query_too, "more-than-one-token", CONNECT),
    "an oversized token": token(lambda call: call.with_claims(padding="p" * 9000), "too-large"),
    "a claim twice": token(duplicate_claim, "malformed"),
    "an algorithm twice": token(duplicate_algorithm, "malformed"),
    "deep claims": token(
        lambda call: put_together(call, payload=b'{"a":' + b"[" * 5000), "malformed"
    ),
    "claims that are no object": token(lambda call: put_together(call, payload=b"[]"), "malformed"),
    "claims that are not UTF-8": token(
        lambda call: put_together(call, payload=b'{"iss": "\xff\xfe"}'), "malformed"
    ),
    "nonsense": token(lambda call: call.with_token("a.b"), "malformed"),
    # Whose call it is.
    "another site's body": Attack(
        body(clientKey=ATTACKER.client_key), 403, "foreign-client-key", CONNECT
    ),
    "another app's body": Attack(body(key=OTHER_APP), 400, "foreign-app", CONNECT),
    "another installation's body": Attack(
        body(id=ATTACKER_ON_FORGE.installation_id), 403, "foreign-installation", (FORGE,)
    ),
    "another site's context": Attack(
        body(context=f"ari:cloud:jira::site/{ATTACKER_ON_FORGE.cloud_id}"),
        403,
        "foreign-installation",
        (FORGE,),
    ),
    "another Forge app's body": Attack(body(app={"id": "another"}), 400, "foreign-app", (FORGE,)),
    "a person's call": Attack(claims(principal="5be2"), 403, "by-a-person", (FORGE,)),
    # Bodies.
    "no body": bad_body(raw_body(lambda _: b"")),
    "half a body": bad_body(raw_body(lambda content: content[:-7])),
    "a list": bad_body(raw_body(lambda _: b"[]")),
    "a deep body": bad_body(raw_body(lambda _: b"[" * 30_000)),
    "a deep field": bad_body(
        raw_body(lambda content: content[:-1] + b', "x": ' + b"[" * 9_000 + b"]" * 9_000 + b"}")
    ),
    "a name twice": bad_body(
        raw_body(lambda content: content[:-1] + b', "clientKey": "a", "clientKey": "b"}')
    ),
    "a name twice further down": bad_body(
        raw_body(lambda content: content[:-1] + b', "x": {"y": 1, "y": 2}}')
    ),
    "a body that is not UTF-8": bad_body(
        raw_body(lambda content: content[:-1] + b', "x": "\xff\xfe"}')
    ),
    "half a surrogate pair": bad_body(
        raw_body(lambda content: content.replace(b'"eventType": "', b'"eventType": "\\ud800'))
    ),
    "another event": bad_body(body(eventType="something")),
    "a NUL in the name": bad_body(body(clientKey="a\x00b"), CONNECT),
    "a NUL in the installation": bad_body(body(id="a\x00b"), (FORGE,)),
    "no name": bad_body(body(clientKey=...), CONNECT),
    "no installation": bad_body(body(id=...), (FORGE,)),
    "a host that is not Atlassian's": bad_body(
        body(baseUrl="https://acme.atlassian.net.evil.example"), CONNECT
    ),
    "an address that hides its host": bad_body(
        body(baseUrl="https://acme.atlassian.net@evil.example"), CONNECT
    ),
    "a secret of 401 bytes": bad_body(body(sharedSecret="s" * 401), (INSTALLED,)),
    "no secret": bad_body(body(sharedSecret=...), (INSTALLED,)),
    "a NUL in the secret": bad_body(body(sharedSecret="ATCO\x00"), (INSTALLED,)),
    "too large a body": Attack(raw_body(lambda content: content + b" " * 65_536), 413, "too-large"),
}


def a_call(installer: Installer, route: str) -> Call:
    """What the victim itself would send."""
    atlassian = installer.atlassian
    if route == FORGE:
        stand_in = jwt.parse(atlassian.forge.token(VICTIM_ON_FORGE), Algorithm.RS256)
        return Call(
            route=route,
            path=f"/forge/{APP}/lifecycle",
            scheme="Bearer",
            claims=stand_in.payload,
            content=VICTIM_ON_FORGE.event_body(ForgeEventType.UNINSTALLED),
            key=atlassian.forge.private_key,
            key_id=atlassian.forge.key_id,
            public_pem=pem_of(atlassian.forge.private_key),
        )
    hook = installer.hook(VICTIM, EventType(route))
    by_secret = route in BY_SECRET
    algorithm = Algorithm.HS256 if by_secret else Algorithm.RS256
    token_text = dict(hook.headers)["Authorization"].removeprefix("JWT ")
    return Call(
        route=route,
        path=f"/connect/{APP}{hook.path}",
        scheme="JWT",
        claims=jwt.parse(token_text, algorithm).payload,
        content=hook.content,
        key=VICTIM.shared_secret.encode() if by_secret else atlassian.private_key,
        key_id=None if by_secret else atlassian.key_id,
        public_pem=pem_of(atlassian.private_key),
    )


def pem_of(key: rsa.RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


async def send(installer: Installer, call: Call) -> httpx2.Response:
    query = f"?{call.query}" if call.query else ""
    return await installer.http.post(
        f"{installer.url}{call.path}{query}", content=call.content, headers=call.headers()
    )


async def fingerprint(installer: Installer) -> dict[str, tuple[int, str]]:
    """How many rows each table has, and a hash of them all."""
    owner = installer.database.owner
    tables = await owner.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    found = {}
    for (table,) in tables:
        row = await owner.fetchrow(
            "SELECT count(*), md5(coalesce(string_agg(md5(t::text), '' ORDER BY md5(t::text)), ''))"
            f' FROM "{table}" AS t'
        )
        assert row is not None
        found[table] = (row[0], row[1])
    return found


@pytest.fixture
async def besieged(installer: Installer) -> Installer:
    """An installer with tenants to lose, whose Atlassian has shown its keys."""
    for site in (VICTIM, ATTACKER):
        assert (await installer.install(site)).status_code == 204
    for installation in (VICTIM_ON_FORGE, ATTACKER_ON_FORGE):
        answer = await installer.http.post(
            f"{installer.url}/forge/{APP}/lifecycle",
            content=installation.event_body(ForgeEventType.INSTALLED),
            headers={"Authorization": f"Bearer {installer.atlassian.forge.token(installation)}"},
        )
        assert answer.status_code == 204
    return installer


@pytest.mark.parametrize("name", ATTACKS)
async def test_an_attack_is_refused_changes_nothing_and_is_counted(
    besieged: Installer, name: str
) -> None:
    attack = ATTACKS[name]
    before = await fingerprint(besieged)
    assert before["tenants"][0] == 4
    asked = besieged.atlassian.key_requests.copy()
    for route in attack.routes:
        answer = await send(besieged, attack.make(a_call(besieged, route)))
        assert (answer.status_code, route) == (attack.status, route)
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == attack.status
        if attack.status == 401:
            assert APP in answer.headers["www-authenticate"]
        counted = besieged.figure("calls_refused_total", route=route, reason=attack.reason)
        assert (counted, route) == (1, route)
    assert await fingerprint(besieged) == before
    # A key id of another shape than Atlassian's is put into no URL.
    if name != "a key nobody has":
        assert besieged.atlassian.key_requests == asked


@pytest.mark.parametrize("route", ALL)
async def test_what_the_attacks_are_made_from_is_believed(besieged: Installer, route: str) -> None:
    before = await fingerprint(besieged)
    assert (await send(besieged, a_call(besieged, route))).status_code == 204
    assert await fingerprint(besieged) != before


@pytest.mark.parametrize("to", CONNECT)
@pytest.mark.parametrize("stolen_from", CONNECT)
async def test_a_token_of_one_route_opens_no_other(
    besieged: Installer, stolen_from: str, to: str
) -> None:
    before = await fingerprint(besieged)
    stolen = a_call(besieged, stolen_from).signed()
    answer = await send(besieged, a_call(besieged, to).with_token(stolen))
    if stolen_from == to:
        assert answer.status_code == 204
        return
    assert answer.status_code == 401
    assert await fingerprint(besieged) == before


async def test_a_token_of_connects_is_none_of_forges_and_the_other_way_round(
    besieged: Installer,
) -> None:
    before = await fingerprint(besieged)
    connect, forge = a_call(besieged, INSTALLED), a_call(besieged, FORGE)
    for call, other in ((connect, forge), (forge, connect)):
        answer = await send(besieged, call.with_token(other.signed()))
        assert answer.status_code == 401
    assert await fingerprint(besieged) == before


async def test_the_body_of_an_install_is_not_signed_so_a_replay_may_bring_another(
    besieged: Installer,
) -> None:
    """Connect's protocol cannot refuse this: only TLS keeps such a token from being seen.

    What it can: the body of another site (403, above), another route, and any
    use after the token's few minutes.
    """
    call = a_call(besieged, INSTALLED)
    replayed = call.with_token(call.signed()).with_body(oauthClientId="another")
    assert (await send(besieged, replayed)).status_code == 204
    (tenant_id,) = await besieged.database.tenants(VICTIM.client_key)
    assert (await besieged.database.stored(tenant_id))["oauth_client_id"] == "another"


@pytest.mark.parametrize(
    "changed",
    [
        {"sharedSecret": "s" * 400},
        {"sharedSecret": "é" * 200},
        {"unknown": {"anything": ["at", "all"]}},
        {"accountId": "5be24ad8b1653240376955d2", "publicKey": "MIGf"},
    ],
)
async def test_what_is_unusual_and_right_is_accepted(
    besieged: Installer, changed: dict[str, Any]
) -> None:
    call = a_call(besieged, INSTALLED).with_body(**changed)
    assert (await send(besieged, call)).status_code == 204
    (tenant_id,) = await besieged.database.tenants(VICTIM.client_key)
    expected = changed.get("sharedSecret", VICTIM.shared_secret)
    assert await besieged.database.secret(tenant_id) == expected


async def test_a_client_key_may_be_a_host_name(installer: Installer) -> None:
    site = replace(VICTIM, client_key="client-domain.atlassian.net")
    assert (await installer.install(site)).status_code == 204
    assert (await installer.send(installer.hook(site, EventType.ENABLED))).status_code == 204
    assert (await installer.uninstall(site)).status_code == 204
    (tenant_id,) = await installer.database.tenants(site.client_key)
    assert await installer.database.status(tenant_id) == "uninstalled"


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    tracing.configure("installer", None, exporter=exporter)
    yield exporter
    tracing.configure("installer", None)


async def test_nothing_of_all_this_is_shown_anywhere(
    besieged: Installer, log: io.StringIO, spans: InMemorySpanExporter
) -> None:
    calls = [
        attack.make(a_call(besieged, route))
        for attack in ATTACKS.values()
        for route in attack.routes
    ]
    calls += [a_call(besieged, route) for route in ALL]
    answers = [await send(besieged, call) for call in calls]
    figures = await besieged.http.get(f"{besieged.url}/metrics")
    rows = await besieged.database.owner.fetch("SELECT headers, payload FROM outbox")
    shown = {
        "logs": log.getvalue(),
        "figures": figures.text,
        "answers": "".join(f"{answer.headers}{answer.text}" for answer in answers),
        "bus": "".join(f"{row['headers']}{row['payload'].decode()}" for row in rows),
        "spans": "".join(span.to_json() for span in spans.get_finished_spans()),
    }
    assert "tenant left" in shown["logs"]
    assert "keepword_calls_refused_total" in shown["figures"]
    assert shown["spans"].count("http.route") == len(answers) + 1
    private = (
        *(part for site in (VICTIM, ATTACKER) for part in _private(site)),
        *(
            part
            for each in (VICTIM_ON_FORGE, ATTACKER_ON_FORGE)
            for part in (each.installation_id, each.cloud_id)
        ),
        "evil",
        "eyJ",
        "ATCO",
        "passwd",
    )
    for where, text in shown.items():
        for part in private:
            assert part not in text, where


def _private(site: Site) -> tuple[str, ...]:
    return site.client_key, site.shared_secret, site.name, site.base_url
