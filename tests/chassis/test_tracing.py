"""A trace goes on through stored records, with an exporter or without, and tells no secrets."""

import re
import timeit
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from fastapi import APIRouter, FastAPI
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route

from chassis import tracing

STORED = f"00-{'a' * 32}-{'b' * 16}-01"


@pytest.fixture
def exported() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    tracing.configure("purger", None, exporter=exporter)
    yield exporter
    tracing.configure("purger", None)


async def ask(app: Any, path: str) -> httpx2.Response:
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://edge") as client:
        return await client.get(path, headers={"traceparent": STORED})


def only(exporter: InMemorySpanExporter) -> ReadableSpan:
    (span,) = exporter.get_finished_spans()
    return span


def test_outside_of_any_span_there_is_no_traceparent() -> None:
    assert tracing.current_traceparent() is None
    assert tracing.trace_id() is None


def test_a_trace_goes_on_without_an_exporter() -> None:
    with tracing.continued(STORED, "handle") as span:
        stored_with_the_row = tracing.current_traceparent()
        assert not span.is_recording()
    assert stored_with_the_row is not None
    assert re.fullmatch(rf"00-{'a' * 32}-[0-9a-f]{{16}}-01", stored_with_the_row)
    assert stored_with_the_row != STORED
    with tracing.continued(stored_with_the_row, "relay"):
        assert tracing.trace_id() == "a" * 32
    assert tracing.current_traceparent() is None


def test_without_a_stored_trace_a_new_one_begins() -> None:
    seen = set()
    for _ in range(3):
        with tracing.continued(None, "handle"):
            seen.add(tracing.trace_id())
    assert len(seen) == 3
    assert None not in seen


@pytest.mark.parametrize(
    "unreadable",
    [
        "",
        "x",
        STORED.upper(),
        f"ff-{'a' * 32}-{'b' * 16}-01",
        f"00-{'0' * 32}-{'b' * 16}-01",
        f"00-{'a' * 32}-{'0' * 16}-01",
        f"{STORED}-more",
        f"{STORED}\n",
    ],
)
def test_an_unreadable_traceparent_begins_a_new_trace(unreadable: str) -> None:
    with tracing.continued(unreadable, "handle"):
        assert tracing.trace_id() not in {None, "a" * 32, "0" * 32}


def test_a_later_version_of_the_header_is_read_as_far_as_we_know_it() -> None:
    with tracing.continued(f"01-{'a' * 32}-{'b' * 16}-01-more", "handle"):
        assert tracing.trace_id() == "a" * 32


def test_the_stored_trace_counts_and_not_the_one_that_is_open() -> None:
    with (
        tracing.continued(None, "poll"),
        tracing.continued(STORED, "handle"),
    ):
        assert tracing.trace_id() == "a" * 32


def test_an_exported_span_continues_the_stored_one(exported: InMemorySpanExporter) -> None:
    with tracing.continued(STORED, "handle", SpanKind.CONSUMER, handler="replan_purges"):
        passed_on = tracing.current_traceparent()
    span = only(exported)
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == "b" * 16
    assert passed_on == f"00-{'a' * 32}-{span.context.span_id:016x}-01"
    assert (span.name, span.kind) == ("handle", SpanKind.CONSUMER)
    assert dict(span.attributes or {}) == {"handler": "replan_purges"}
    assert span.resource.attributes["service.name"] == "purger"


def test_a_failed_span_names_the_kind_of_error_alone(exported: InMemorySpanExporter) -> None:
    with pytest.raises(LookupError), tracing.continued(None, "handle"):
        raise LookupError("hunter2")
    span = only(exported)
    assert span.status.status_code is StatusCode.ERROR
    assert dict(span.attributes or {}) == {"error.type": "LookupError"}
    assert "hunter2" not in span.to_json()


async def page(request: Request) -> Response:
    return PlainTextResponse(tracing.current_traceparent() or "")


def traced_app() -> Any:
    router = APIRouter(prefix="/connect/{addon_key}")

    @router.get("/page/{name}")
    async def included(addon_key: str, name: str) -> str:
        return tracing.current_traceparent() or ""

    app = FastAPI(
        routes=[Route("/plain", page), Mount("/m/{key}", routes=[Route("/in/{x}", page)])],
        telemetry=tracing.FASTAPI_TELEMETRY,
    )
    app.include_router(router, prefix="/v1")

    async def traced(scope: Any, receive: Any, send: Any) -> None:
        with tracing.server_span(scope):
            await app(scope, receive, send)

    return traced


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/v1/connect/key/page/a", "/v1/connect/{addon_key}/page/{name}"),
        ("/m/hunter2/in/hunter2", "/in/{x}"),
        ("/plain", "page"),
        ("/nowhere/hunter2", "unmatched"),
    ],
)
async def test_a_request_is_one_span_named_by_its_route(
    exported: InMemorySpanExporter, path: str, route: str
) -> None:
    answer = await ask(traced_app(), f"{path}?jwt=hunter2")
    span = only(exported)
    assert span.kind is SpanKind.SERVER
    assert span.name == f"GET {route}"
    assert f"{span.context.trace_id:032x}" == "a" * 32
    assert "hunter2" not in span.to_json()
    assert answer.status_code == 404 or "a" * 32 in answer.text


async def test_a_request_takes_up_the_callers_trace_without_an_exporter() -> None:
    answer = await ask(traced_app(), "/plain")
    assert answer.text.startswith(f"00-{'a' * 32}-")


async def test_after_the_shutdown_nothing_is_exported(exported: InMemorySpanExporter) -> None:
    await tracing.shutdown()
    with tracing.continued(None, "handle") as span:
        assert not span.is_recording()
    assert exported.get_finished_spans() == ()


def test_without_an_exporter_a_span_costs_a_fraction_of_a_recorded_one(
    exported: InMemorySpanExporter,
) -> None:
    def one() -> None:
        with tracing.continued(STORED, "handle", SpanKind.CONSUMER, handler="replan_purges"):
            pass

    recorded = min(timeit.repeat(one, number=500, repeat=5))
    tracing.configure("purger", None)
    propagated = min(timeit.repeat(one, number=500, repeat=5))
    assert propagated < recorded / 2
