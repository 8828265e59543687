"""Probes are answered in time, name every check, and show no secrets."""

import asyncio
import time
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette

from chassis.health import Health, routes
from chassis.metrics import Metrics


async def ask(health: Health, path: str, metrics: Metrics | None = None) -> httpx2.Response:
    app = Starlette(routes=routes(health, metrics or Metrics()))
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://pod") as client:
        return await client.get(path)


def well() -> None:
    return None


async def well_too() -> None:
    await asyncio.sleep(0)


async def hangs() -> None:
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if asyncio.current_task() is None:
                return
            raise


def raises() -> None:
    raise ConnectionError("postgres://user:hunter2@db.internal/x")


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
async def test_a_process_without_failing_checks_answers_200(path: str) -> None:
    health = Health()
    health.add_liveness("loop", well)
    health.add_readiness("loop", well_too)
    answer = await ask(health, path)
    assert answer.status_code == 200
    assert answer.json() == {"state": "ok", "checks": {"loop": {"state": "ok"}}}


async def test_a_failing_check_is_named_with_its_reason() -> None:
    health = Health()
    health.add_readiness("database", well)
    health.add_readiness("broker", lambda: "not connected yet")
    answer = await ask(health, "/readyz")
    assert answer.status_code == 503
    assert answer.json() == {
        "state": "failing",
        "checks": {
            "database": {"state": "ok"},
            "broker": {"state": "failing", "reason": "not connected yet"},
        },
    }
    assert (await ask(health, "/livez")).status_code == 200


async def test_a_warning_is_shown_and_takes_no_work_away() -> None:
    health = Health()
    health.add_readiness("database", well)
    health.add_warning("sweep", lambda: "nobody sweeps")
    answer = await ask(health, "/readyz")
    assert (answer.status_code, answer.json()["state"]) == (200, "ok")
    assert answer.json()["checks"]["sweep"] == {"state": "warning", "reason": "nobody sweeps"}


async def test_a_warning_does_not_cover_what_fails() -> None:
    health = Health()
    health.add_readiness("database", lambda: "away")
    health.add_warning("sweep", lambda: "nobody sweeps")
    assert (await ask(health, "/readyz")).status_code == 503


async def test_an_empty_reason_is_a_failure_too() -> None:
    health = Health()
    health.add_liveness("loop", lambda: "")
    assert (await ask(health, "/livez")).status_code == 503


async def test_reasons_show_no_secrets() -> None:
    health = Health()
    health.add_readiness("raises", raises)
    health.add_readiness("tells", lambda: "postgres://user:hunter2@db.internal/x is away")
    answer = await ask(health, "/readyz")
    assert answer.json()["checks"]["raises"]["reason"] == "ConnectionError"
    assert "hunter2" not in answer.text


async def test_a_hanging_check_fails_in_time_and_hides_no_other() -> None:
    cancelled = asyncio.Event()

    async def ignores_cancellation() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            await asyncio.wait_for(released.wait(), 10)

    released = asyncio.Event()
    health = Health(patience_seconds=0.05)
    health.add_readiness("hangs", hangs)
    health.add_readiness("clings", ignores_cancellation)
    health.add_readiness("database", well)
    answer = await asyncio.wait_for(ask(health, "/readyz"), 5)
    checks = answer.json()["checks"]
    assert (
        checks["hangs"]
        == checks["clings"]
        == {
            "state": "failing",
            "reason": "no answer in time",
        }
    )
    assert checks["database"] == {"state": "ok"}
    await asyncio.wait_for(cancelled.wait(), 5)
    released.set()


async def test_checks_run_at_the_same_time() -> None:
    both = asyncio.Barrier(2)

    async def meets() -> None:
        await both.wait()

    health = Health()
    health.add_readiness("one", meets)
    health.add_readiness("other", meets)
    assert (await ask(health, "/readyz")).status_code == 200


def test_a_name_is_given_once() -> None:
    health = Health()
    health.add_liveness("loop", well)
    health.add_readiness("loop", well)
    with pytest.raises(ValueError, match="loop"):
        health.add_liveness("loop", well)
    with pytest.raises(ValueError, match="loop"):
        health.add_warning("loop", well)


async def test_figures_are_served_in_prometheus_format() -> None:
    metrics = Metrics()
    metrics.relay_sent_total.inc(7)
    answer = await ask(Health(), "/metrics", metrics)
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "keepword_relay_sent_total 7.0" in answer.text


async def test_a_fastapi_application_takes_the_routes() -> None:
    app: Any = FastAPI(routes=routes(Health(), Metrics()))
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://pod") as client:
        began_at = time.monotonic()
        assert (await client.get("/livez")).status_code == 200
        assert time.monotonic() - began_at < 1
