"""Config as a process: refuses bad settings, waits for Kafka with its door closed, stops."""

import asyncio
import socket
from pathlib import Path

import httpx2
import pytest
from pydantic import ValidationError

from chassis.egress import Egress
from contracts.classes import DataClass
from devstack.postgres import Roles
from services.config.app import build, main
from services.config.moves import note_ledger_entry, ready_to_erase
from tests.config.builders import EXPORT_JWKS_URL, keys_file, settings_for
from tests.support.sessions import JWKS_URL


def test_bad_settings_are_named_and_end_with_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KEEPWORD_SESSION_JWKS_URL", "installer/jwks")
    assert main() == 2
    complained = capsys.readouterr().err
    assert "KEEPWORD_DATABASE_URL: is not set" in complained
    assert "KEEPWORD_SESSION_JWKS_URL: give the full address" in complained


def test_it_asks_those_whose_tokens_it_believes(config_roles: Roles, tmp_path: Path) -> None:
    keks = keys_file(tmp_path)
    settings = settings_for(config_roles, keks, export_jwks_url=EXPORT_JWKS_URL)
    assert settings.egress == Egress.to(JWKS_URL, EXPORT_JWKS_URL)
    with pytest.raises(ValidationError, match="cannot be read"):
        settings_for(config_roles, keks, session_jwks_url="http://[")


def test_content_and_errors_are_one_step(config_roles: Roles, tmp_path: Path) -> None:
    service = build(settings_for(config_roles, keys_file(tmp_path)))
    assert service.erases is not None
    assert service.erases.steps == {
        DataClass.CONTENT: "erase-config",
        DataClass.ERRORS: "erase-config",
    }


def test_erasures_wait_for_moves_whoever_orders_them(config_roles: Roles, tmp_path: Path) -> None:
    service = build(settings_for(config_roles, keys_file(tmp_path)))
    assert service.erases is not None
    assert service.erases.ready is ready_to_erase
    assert service.on_ledger_entry is note_ledger_entry


async def test_it_waits_for_kafka_with_its_door_closed_and_stops_when_asked(
    config_roles: Roles, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    service = build(settings_for(config_roles, keys_file(tmp_path), http_port=port))
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
        door = await client.get("/api/v1/datasources")
        ready = await client.get("/readyz")
    stop.set()
    await running
    assert alive.status_code == 200
    assert (door.status_code, door.headers["retry-after"]) == (503, "2")
    assert ready.status_code == 503
