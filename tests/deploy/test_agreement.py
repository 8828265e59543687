"""Chart and code say the same of topics, permissions, groups, settings, routes and ways out."""

import asyncio
import json
from collections.abc import Iterator
from fnmatch import fnmatch
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from chassis.consumer import main_group
from chassis.service import Service, build_app
from chassis.settings import PREFIX
from contracts.topics import ALL_TOPICS, SERVICES, acls
from deploy.doors import DOORS, FOR_STAFF, NOT_PUBLIC
from deploy.files import settings_of, write_files
from devstack.key_files import ensure_signing_key
from tests.support.chart import VALUES, Manifest, of_kind, pods, rendered, selects

ROOT = Path(__file__).parents[2]

services = pytest.mark.parametrize("service", SERVICES)


def test_the_chart_holds_what_follows_from_the_code(tmp_path: Path) -> None:
    """`python -m deploy` writes it anew."""
    write_files(tmp_path)
    made = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert len(made) == 6
    for path in made:
        assert (ROOT / path).read_text("utf-8") == (tmp_path / path).read_text("utf-8"), path


def test_every_topic_is_made_as_the_contracts_say() -> None:
    made = {
        each["metadata"]["name"]: each["spec"]
        for each in of_kind(rendered("everything"), "KafkaTopic")
    }
    assert set(made) == {topic.name for topic in ALL_TOPICS}
    for topic in ALL_TOPICS:
        spec = made[topic.name]
        assert spec["partitions"] == topic.partitions
        assert spec["config"] == {**topic.config, "min.insync.replicas": "2"}


def test_every_user_may_do_what_the_contracts_say_and_no_more() -> None:
    allowed = {
        (
            f"User:{user['metadata']['name']}",
            rule["resource"]["type"].upper(),
            rule["resource"]["name"],
            operation.upper(),
            {"literal": "LITERAL", "prefix": "PREFIXED"}[rule["resource"]["patternType"]],
        )
        for user in of_kind(rendered("everything"), "KafkaUser")
        for rule in user["spec"]["authorization"]["acls"]
        for operation in rule["operations"]
    }
    assert allowed == {
        (each.principal, each.resource, each.name, each.operation, each.pattern) for each in acls()
    }


@services
def test_a_service_is_scaled_by_the_lag_of_what_it_hears(
    service: str, built: dict[str, Service[Any]]
) -> None:
    sets = (f"{service}.autoscaling.kind=keda", f"{service}.autoscaling.maxReplicas=6")
    [scaled] = [
        each
        for each in of_kind(rendered("everything", sets=sets), "ScaledObject")
        if each["metadata"]["name"].endswith(f"-{service}")
    ]
    triggers = [each["metadata"] for each in scaled["spec"]["triggers"]]
    heard = built[service].topics
    assert {each["topic"] for each in triggers} == {topic.name for topic in heard}
    assert {each["consumerGroup"] for each in triggers} == {main_group(service)}
    assert scaled["spec"]["maxReplicaCount"] <= max(topic.partitions for topic in heard)
    group = main_group(service)
    readable = [
        each.name
        for each in acls()
        if each.principal == f"User:{service}" and each.resource == "GROUP"
    ]
    assert any(group.startswith(prefix) for prefix in readable)


@pytest.mark.parametrize("way", VALUES)
@services
def test_a_service_starts_with_what_the_chart_gives_it(
    way: str, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in _environment(way, service).items():
        monkeypatch.setenv(name, value)
    settings = settings_of(service).load()
    assert settings.http_host == "0.0.0.0"
    assert settings.http_port == 8080
    assert not settings.development


@pytest.mark.parametrize("way", VALUES)
@services
def test_a_service_is_given_nothing_that_it_does_not_read(way: str, service: str) -> None:
    known = {f"{PREFIX}{name.upper()}" for name in settings_of(service).model_fields}
    assert set(_environment(way, service)) <= known


@services
def test_the_pages_of_staff_lead_to_all_services_that_are_on(service: str) -> None:
    told = json.loads(_environment("prod", service)[f"{PREFIX}STAFF_SERVICES"])
    assert told == {each: f"https://{each}.apps.example.com" for each in SERVICES}


@services
def test_strangers_are_led_to_every_public_route_and_to_no_other(
    service: str, built: dict[str, Service[Any]]
) -> None:
    [ingress] = [
        each
        for each in of_kind(rendered("prod"), "Ingress")
        if each["metadata"]["name"].endswith(f"-{service}")
    ]
    [rule] = ingress["spec"]["rules"]
    led_to = [each["path"] for each in rule["http"]["paths"]]
    assert led_to == list(DOORS[service].public)
    routes = set(_paths(build_app(built[service], asyncio.Event()).routes))
    closed = {path for path in routes if _is_below(path, NOT_PUBLIC)}
    assert {"/livez", "/readyz", "/metrics"} <= closed
    assert {path for path in routes - closed if not _is_below(path, led_to)} == set()
    assert [path for path in closed if _is_below(path, led_to)] == []
    # A door behind which nothing is was forgotten when the route went.
    assert [door for door in led_to if not any(_is_below(path, [door]) for path in routes)] == []


@services
def test_staff_have_a_way_of_their_own_that_has_to_be_asked_for(service: str) -> None:
    def paths(way: str, suffix: str) -> list[str]:
        return [
            path["path"]
            for each in of_kind(rendered(way), "Ingress")
            if each["metadata"]["name"].endswith(f"-{service}{suffix}")
            for path in each["spec"]["rules"][0]["http"]["paths"]
        ]

    assert paths("everything", "-staff") == list(FOR_STAFF)
    assert paths("prod", "-staff") == []
    assert not set(paths("everything", "")) & set(FOR_STAFF)


def test_the_gateway_leads_where_the_ingress_does() -> None:
    found = rendered("everything")
    by_ingress = {
        each["metadata"]["name"]: [
            (each["spec"]["rules"][0]["host"], path["path"])
            for path in each["spec"]["rules"][0]["http"]["paths"]
        ]
        for each in of_kind(found, "Ingress")
    }
    by_gateway = {
        each["metadata"]["name"]: [
            (each["spec"]["hostnames"][0], match["path"]["value"])
            for match in each["spec"]["rules"][0]["matches"]
        ]
        for each in of_kind(found, "HTTPRoute")
    }
    assert by_ingress == by_gateway


@pytest.mark.parametrize("way", VALUES)
def test_every_pod_has_one_policy_with_the_ways_out_that_it_needs(way: str) -> None:
    found = rendered(way)
    for name, pod in pods(found):
        [policy] = [
            each
            for each in of_kind(found, "NetworkPolicy")
            if selects(each["spec"]["podSelector"], pod["metadata"]["labels"])
        ]
        assert set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"}
        ports = {
            port["port"] for rule in policy["spec"]["egress"] for port in rule.get("ports", [])
        }
        assert _ports_needed(name, pod) <= ports, name
        if not name.startswith("Deployment/"):
            assert policy["spec"].get("ingress", []) == []


def _policy(way: str, service: str) -> Manifest:
    [policy] = [
        each
        for each in of_kind(rendered(way), "NetworkPolicy")
        if each["metadata"]["name"] == f"keepword-{service}"
    ]
    return policy


def _ways_out(way: str, service: str) -> list[Manifest]:
    return [
        peer["ipBlock"]
        for rule in _policy(way, service)["spec"]["egress"]
        for peer in rule.get("to", [])
        if "ipBlock" in peer
    ]


def test_the_world_is_reached_from_those_alone_that_call_it() -> None:
    for service, doors in DOORS.items():
        policy, blocks = _policy("prod", service), _ways_out("prod", service)
        assert bool(blocks) == bool(doors.https)
        assert all("10.0.0.0/8" in block["except"] for block in blocks)
        told = policy["metadata"].get("annotations", {}).get("keepword/https-hosts", "")
        assert told.split() == list(doors.https)


@pytest.mark.parametrize("way", VALUES)
@services
def test_a_service_is_let_out_to_everybody_on_its_own_list(
    way: str, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = _environment(way, service)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    egress, doors = settings_of(service).load().egress, DOORS[service]
    within = {origin for origin in egress.origins if origin.port == 8080}
    assert {origin.host.removeprefix("keepword-") for origin in within} <= set(doors.calls)
    assert ("installer" in doors.calls) == any("installer" in each.host for each in within)
    outside = {origin.host for origin in egress.origins - within}
    outside |= {f"*.{domain}" for domain in egress.domains}
    if issuer := environment.get(f"{PREFIX}STAFF_ISSUER"):
        # The vendor's provider of identities is wherever the vendor says.
        parts = urlsplit(issuer)
        outside.remove(str(parts.hostname))
        opened = {
            port["port"]
            for rule in _policy(way, service)["spec"]["egress"]
            for port in rule["ports"]
        }
        assert (parts.port or 443) in opened
    assert {
        host for host in outside if not any(fnmatch(host, door) for door in doors.https)
    } == set()


def _ports_needed(name: str, pod: Manifest) -> set[int]:
    if name.startswith("Pod/"):
        return {53, 8080}
    if name.startswith("Job/"):
        return {53, 5432}
    given = {
        each["name"]: each.get("value") for each in pod["spec"]["containers"][0].get("env", [])
    }
    needed = {53, 5432}
    for server in given[f"{PREFIX}KAFKA_BOOTSTRAP_SERVERS"].split(","):
        needed.add(int(server.rpartition(":")[2]))
    if smtp := given.get(f"{PREFIX}SMTP_PORT"):
        needed.add(int(smtp))
    if f"{PREFIX}OTLP_ENDPOINT" in given:
        needed.add(4318)
    if issuer := given.get(f"{PREFIX}STAFF_ISSUER"):
        needed.add(urlsplit(issuer).port or 443)
    if f"{PREFIX}SESSION_JWKS_URL" in given:
        needed.add(8080)
    if name.rpartition("-")[2] in {"installer", "notifier"}:
        needed.add(443)
    return needed


def _environment(way: str, service: str) -> dict[str, str]:
    """What a service's container would find, with the image's own variables and made-up secrets."""
    [deployment] = [
        each
        for each in of_kind(rendered(way), "Deployment")
        if each["metadata"]["name"] == f"keepword-{service}"
    ]
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    found = {f"{PREFIX}HTTP_HOST": "0.0.0.0", f"{PREFIX}HTTP_PORT": "8080"}
    for each in container["env"]:
        assert each["name"] not in found
        if "valueFrom" in each:
            key = each["valueFrom"]["secretKeyRef"]["key"]
            is_url = key.endswith("database-url")
            found[each["name"]] = "postgresql://role:word@db:5432/name" if is_url else "word"
        else:
            found[each["name"]] = each["value"]
    return found


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    ensure_signing_key(folder / "session.pem")
    ensure_signing_key(folder / "ledger.pem")
    pem = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    keys = [{"selector": "e1", "private_key": pem.decode()}]
    (folder / "dkim.json").write_text(json.dumps({"domain": "apps.example.com", "keys": keys}))
    return folder


@pytest.fixture(scope="module")
def built(files: Path) -> Iterator[dict[str, Service[Any]]]:
    """Every service as production builds it, with the keys that it reads while it is built."""
    with pytest.MonkeyPatch.context() as patched:
        found = {}
        for service in SERVICES:
            given = _environment("dev", service)
            given[f"{PREFIX}SESSION_KEY_FILE"] = str(files / "session.pem")
            given[f"{PREFIX}LEDGER_KEY_FILE"] = str(files / "ledger.pem")
            given[f"{PREFIX}DKIM_FILE"] = str(files / "dkim.json")
            for name, value in given.items():
                patched.setenv(name, value)
            app = import_module(f"services.{service}.app")
            found[service] = app.build(settings_of(service).load())
            for name in given:
                patched.delenv(name)
        yield found


def _paths(routes: Any) -> Iterator[str]:
    for route in routes:
        # FastAPI keeps the routes of a router that was included to itself.
        within = getattr(route, "effective_route_contexts", None)
        if within is not None:
            yield from _paths(within())
            continue
        path = getattr(route, "path", "") or getattr(
            getattr(route, "starlette_route", None) or getattr(route, "original_route", None),
            "path",
            "",
        )
        assert path, f"{route} has no path"
        yield path


def _is_below(path: str, doors: Any) -> bool:
    return any(path == door or path.startswith(f"{door}/") for door in doors)
