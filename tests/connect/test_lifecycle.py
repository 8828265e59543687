"""Lifecycle bodies: what is kept of them, what is refused, and what is never shown."""

import json
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connect.hosts import AllowedHosts
from connect.lifecycle import (
    MAX_BODY_BYTES,
    Disabled,
    Enabled,
    Installed,
    InvalidBody,
    LifecycleBody,
    Uninstalled,
    read_body,
)

OFFICIAL = Path(__file__).parents[2].parent / "shared" / "vectors" / "lifecycle-payloads.json"
MODELS: dict[str, type[LifecycleBody]] = {
    "installed": Installed,
    "uninstalled": Uninstalled,
    "enabled": Enabled,
    "disabled": Disabled,
}
REFUSED_SHAPES = {
    "legacy installed": {"baseUrl"},  # plain http
    "ACE test installed (minimal)": {"baseUrl", "key", "productType"},
}

INSTALLED: dict[str, Any] = {
    "key": "com.example.app",
    "clientKey": "customer-7",
    "sharedSecret": "a-secret-key-not-to-be-lost",
    "publicKey": "MIGf",
    "serverVersion": "100",
    "baseUrl": "https://acme.atlassian.net",
    "displayUrl": "https://issues.example.com",
    "productType": "jira",
    "description": "Atlassian Jira at https://acme.atlassian.net",
    "serviceEntitlementNumber": "SEN-123",
    "oauthClientId": "eyJob3N0S2V5IjoiLi4uIn0",
    "accountId": "5be24ad8b1653240376955d2",
    "entitlementId": "e",
    "eventType": "installed",
    "installationId": "ari:cloud:ecosystem::installation/1",
    "newField": {"deep": [1]},
}


def _installed(**changes: Any) -> Installed:
    body = {name: value for name, value in {**INSTALLED, **changes}.items() if value is not ...}
    return read_body(Installed, json.dumps(body).encode())


def _faults(**changes: Any) -> set[str]:
    with pytest.raises(InvalidBody) as refusal:
        _installed(**changes)
    return {field for field, _ in refusal.value.faults}


def test_only_the_fields_of_the_published_list_are_kept() -> None:
    body = _installed()

    assert body.model_dump(exclude={"shared_secret"}) == {
        "key": "com.example.app",
        "client_key": "customer-7",
        "product_type": "jira",
        "base_url": "https://acme.atlassian.net",
        "service_entitlement_number": "SEN-123",
        "oauth_client_id": "eyJob3N0S2V5IjoiLi4uIn0",
        "installation_id": "ari:cloud:ecosystem::installation/1",
        "entitlement_id": "e",
        "entitlement_number": None,
        "event_type": "installed",
    }
    assert body.shared_secret.get_secret_value() == "a-secret-key-not-to-be-lost"


@pytest.mark.skipif(not OFFICIAL.exists(), reason="the collected bodies are not here")
def test_every_collected_body_is_read_or_refused_for_a_known_reason() -> None:
    for case in json.loads(OFFICIAL.read_text())["payloads"]:
        model, raw = MODELS[case["body"]["eventType"]], json.dumps(case["body"]).encode()
        if case["name"] in REFUSED_SHAPES:
            with pytest.raises(InvalidBody) as refusal:
                read_body(model, raw)
            assert {field for field, _ in refusal.value.faults} == REFUSED_SHAPES[case["name"]]
        else:
            assert read_body(model, raw).client_key == case["body"]["clientKey"]


@pytest.mark.parametrize("field", ["key", "clientKey", "productType", "baseUrl", "eventType"])
@pytest.mark.parametrize("value", [..., None, 7, "", ["a"], {"a": 1}, "a\0b"])
def test_a_field_that_must_be_there_is_text_without_control_characters(
    field: str, value: object
) -> None:
    assert _faults(**{field: value}) == {field}


@pytest.mark.parametrize(
    "changes",
    [
        {"key": "a/b"},
        {"key": "a b"},
        {"key": "a\n"},
        {"key": "a" * 81},
        {"clientKey": "a" * 256},
        {"clientKey": "a\nb"},
        {"productType": "Jira Software"},
        {"baseUrl": "https://evil.example"},
        {"baseUrl": "https://acme.atlassian.net.evil.example"},
        {"sharedSecret": ...},
        {"sharedSecret": None},
        {"sharedSecret": ""},
        {"sharedSecret": "x" * 401},
        {"sharedSecret": "é" * 201},
        {"sharedSecret": "x\0"},
        {"sharedSecret": 7},
        {"serviceEntitlementNumber": "x" * 256},
        {"serviceEntitlementNumber": "x\0"},
        {"serviceEntitlementNumber": 7},
        {"oauthClientId": "x" * 2049},
        {"installationId": "x\0"},
        {"eventType": "uninstalled"},
        {"eventType": "INSTALLED"},
    ],
)
def test_a_field_of_the_wrong_shape_is_refused(changes: dict[str, Any]) -> None:
    assert _faults(**changes) == set(changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"clientKey": "client-domain.atlassian.net"},
        {"clientKey": "Kundin Nr. 7"},
        {"clientKey": "a" * 255},
        {"sharedSecret": "ATCO" + "x" * 396},
        {"sharedSecret": "é" * 200},
        {"productType": "confluence", "baseUrl": "https://acme.atlassian.net/wiki"},
        {"key": "a.B-c_9"},
    ],
)
def test_what_atlassian_may_send_is_accepted(changes: dict[str, Any]) -> None:
    _installed(**changes)


@pytest.mark.parametrize("value", [..., None, ""])
@pytest.mark.parametrize("field", ["serviceEntitlementNumber", "oauthClientId", "installationId"])
def test_an_optional_field_may_be_absent_null_or_empty(field: str, value: object) -> None:
    body = _installed(**{field: value})

    assert {"serviceEntitlementNumber": body.service_entitlement_number}.get(field) is None
    assert {"oauthClientId": body.oauth_client_id}.get(field) is None
    assert {"installationId": body.installation_id}.get(field) is None


@pytest.mark.parametrize("event", ["uninstalled", "enabled", "disabled"])
def test_the_other_events_need_no_secret_and_keep_none(event: str) -> None:
    raw = json.dumps({**INSTALLED, "eventType": event}).encode()

    body = read_body(MODELS[event], raw)

    assert "shared_secret" not in body.model_dump()
    for other in MODELS.keys() - {event}:
        with pytest.raises(InvalidBody):
            read_body(MODELS[other], raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b'"installed"',
        b"{",
        b"\xff",
        b"[" * 9999,
    ],
)
def test_what_is_no_json_object_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidBody):
        read_body(Installed, raw)


def test_a_body_has_a_greatest_size() -> None:
    raw = json.dumps(INSTALLED).encode().ljust(MAX_BODY_BYTES)

    assert read_body(Installed, raw)
    with pytest.raises(InvalidBody, match="too_large"):
        read_body(Installed, raw + b" ")


def test_other_hosts_are_accepted_where_they_are_allowed() -> None:
    hosts = AllowedHosts(http=frozenset({"localhost:2990"}))
    raw = json.dumps({**INSTALLED, "baseUrl": "http://localhost:2990/jira/"}).encode()

    assert read_body(Installed, raw, hosts).base_url == "http://localhost:2990/jira"
    with pytest.raises(InvalidBody):
        read_body(Installed, raw)


def test_a_body_that_was_read_shows_neither_secret_nor_customer() -> None:
    shown = f"{_installed()!r} {_installed()}"

    for hidden in ("a-secret-key", "customer-7", "acme", "SEN-123", "eyJob3N0", "5be24"):
        assert hidden not in shown


@pytest.mark.parametrize(
    "raw",
    [
        b'{"sharedSecret":"a-secret-key", "clientKey":"customer-7"}',
        b'{"sharedSecret":"a-secret-key", "clientKey":"customer-7"',
        b'{"sharedSecret":["a-secret-key"], "customer-7": "customer-7"}',
        b"a-secret-key customer-7",
    ],
)
def test_a_refused_body_shows_nothing_of_itself(raw: bytes) -> None:
    with pytest.raises(InvalidBody) as refusal:
        read_body(Installed, raw)
    shown = "".join(traceback.format_exception(refusal.value)) + repr(refusal.value)

    assert "a-secret-key" not in shown
    assert "customer-7" not in shown
    assert refusal.value.__context__ is None
    assert refusal.value.__cause__ is None


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists) | st.binary())
def test_no_body_makes_the_reader_fail_in_another_way(value: Any) -> None:
    raw = value if isinstance(value, bytes) else json.dumps({**INSTALLED, "key": value}).encode()

    with suppress(InvalidBody):
        assert read_body(Installed, raw).key == value


@pytest.mark.parametrize(
    "more",
    [
        ', "clientKey": "another"',
        ', "unknown": 1, "unknown": 1',
        ', "unknown": [{"a": 1, "a": 2}]',
    ],
)
def test_what_two_readers_could_read_differently_is_refused(more: str) -> None:
    raw = json.dumps(INSTALLED)[:-1] + more + "}"
    with pytest.raises(InvalidBody) as refusal:
        read_body(Installed, raw.encode())
    assert refusal.value.faults == (("body", "ambiguous"),)
