"""Notifier as a process: refuses bad settings, waits for Kafka with its door closed, stops."""

import asyncio
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from pydantic import ValidationError

from chassis.egress import Egress
from chassis.metrics import Metrics
from contracts.classes import DataClass
from devstack.postgres import Roles
from devstack.processes import free_port
from services.notifier.app import build, main
from tests.notifier.builders import CONTACTS_PATH, settings_for
from tests.support.sessions import JWKS_URL


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MAIL_FROM", "Vendor <privacy@vendor.example>"),
        ("MAIL_FROM", "privacy"),
        ("SMTP_PORT", "0"),
        ("BOUNCE_DOMAIN", "bounces"),
        ("VENDOR_NAME", "a\nb"),
        ("PURGER_PUBLIC_URL", "purger"),
        ("TICKETS", "perhaps"),
        ("TICKETS_URL", "http://desk.example"),
        ("TICKETS_PROJECT", "help desk"),
        ("TICKETS_LICENCE_FIELD", "Licence"),
        ("TICKETS_ERASE", "nothing"),
    ],
)
def test_bad_settings_are_named_and_end_with_status_2(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    value: str,
) -> None:
    monkeypatch.setenv(f"KEEPWORD_{name}", value)
    assert main() == 2
    complained = capsys.readouterr().err
    assert "KEEPWORD_SMTP_HOST: is not set" in complained
    assert f"KEEPWORD_{name}: " in complained
    assert f"KEEPWORD_{name}: is not set" not in complained


def test_tickets_and_contacts_are_steps_of_their_own(notifier_roles: Roles, tmp_path: Path) -> None:
    service = build(settings_for(notifier_roles, tmp_path))
    assert service.erases is not None
    assert service.erases.steps == {
        DataClass.TICKETS: "erase-notifier",
        DataClass.CONTACTS: "erase-contacts",
    }
    assert service.erases.key_class is DataClass.CONTACTS
    assert service.erases.ready is not None
    assert service.erases.attested is not None
    assert service.on_ledger_entry is not None


def test_bounces_have_a_port_and_a_domain_or_neither(notifier_roles: Roles, tmp_path: Path) -> None:
    for given in ({"bounce_port": 0}, {"bounce_domain": "bounces.vendor.example"}):
        with pytest.raises(ValidationError, match="set both, or none"):
            settings_for(notifier_roles, tmp_path, **given)


def test_it_asks_the_installer_and_whom_it_has_an_account_with(
    notifier_roles: Roles, tmp_path: Path
) -> None:
    assert settings_for(notifier_roles, tmp_path).egress == Egress.to(JWKS_URL)
    desk = {
        "tickets_url": "https://vendor.atlassian.net",
        "tickets_project": "HELP",
        "tickets_licence_field": "customfield_10001",
        "tickets_account": "ada@vendor.example",
        "tickets_token_file": tmp_path / "token",
    }
    assert settings_for(notifier_roles, tmp_path, **desk).egress == Egress.to(
        JWKS_URL, "https://vendor.atlassian.net"
    )


async def test_the_port_for_bounces_is_open_where_settings_name_one(
    notifier_roles: Roles, tmp_path: Path
) -> None:
    port = free_port()
    this: Any = SimpleNamespace(
        units=None, context=SimpleNamespace(keys=SimpleNamespace(blind_index=None))
    )
    named = {"bounce_port": port, "bounce_domain": "bounces.vendor.example"}
    for settings, wanted in (
        (settings_for(notifier_roles, tmp_path), False),
        (settings_for(notifier_roles, tmp_path, **named), True),
    ):
        doors = build(settings).other_doors
        assert doors is not None
        async with doors(this):
            with socket.socket() as probe:
                assert (probe.connect_ex(("127.0.0.1", port)) == 0) is wanted


@pytest.mark.parametrize("tickets", ["service-desk", "none"])
def test_without_access_no_job_looks_for_tickets_and_a_person_is_asked_where_a_desk_is(
    notifier_roles: Roles, tmp_path: Path, tickets: str
) -> None:
    service = build(settings_for(notifier_roles, tmp_path, tickets=tickets))
    resources = SimpleNamespace(worker=None, metrics=Metrics())
    nothing: Any = SimpleNamespace(keys=None, units=None, resources=resources)
    assert service.context(nothing).has_desk is (tickets == "service-desk")
    names = {job.name for job in service.jobs(nothing)}
    assert "tidy ticket erasures" in names
    assert "erase tickets" not in names


def test_a_desk_is_named_whole_or_not_at_all(notifier_roles: Roles, tmp_path: Path) -> None:
    desk = {
        "tickets_url": "https://desk.example",
        "tickets_project": "HELP",
        "tickets_licence_field": "customfield_10050",
        "tickets_account": "tickets@vendor.example",
        "tickets_token_file": tmp_path / "token",
    }
    assert "tickets@vendor.example" not in repr(settings_for(notifier_roles, tmp_path, **desk))
    for missing in desk:
        rest = {name: value for name, value in desk.items() if name != missing}
        with pytest.raises(ValidationError, match="set all five"):
            settings_for(notifier_roles, tmp_path, **rest)
    with pytest.raises(ValidationError, match="KEEPWORD_TICKETS: there is no desk"):
        settings_for(notifier_roles, tmp_path, tickets="none", **desk)


async def test_it_waits_for_kafka_with_its_door_closed_and_stops_when_asked(
    notifier_roles: Roles, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    service = build(settings_for(notifier_roles, tmp_path, http_port=port))
    stop = asyncio.Event()
    running = asyncio.create_task(service.run(stop=stop))
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        async with asyncio.timeout(10):
            while True:
                try:
                    alive = await client.get("/livez")
                    break
                except httpx2.TransportError:
                    await asyncio.sleep(0)
        door = await client.post(CONTACTS_PATH, json={})
    stop.set()
    await running
    assert alive.status_code == 200
    assert (door.status_code, door.headers["retry-after"]) == (503, "2")
