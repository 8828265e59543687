"""Errors are problem answers that repeat nothing, and the edge keeps its promises."""

import re
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any, Literal
from uuid import UUID

import httpx2
import pytest
from fastapi import FastAPI, HTTPException, Request
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core._pydantic_core import list_all_errors
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from structlog.testing import capture_logs

from chassis import tracing
from chassis.metrics import Metrics
from chassis.problems import (
    REPEATING_ERRORS,
    BodyLimit,
    HttpEdge,
    Problem,
    answer_with_problems,
)

MOST_BYTES = 100
# What messages may be made of: the model's own words, never the input's.
OF_THE_MODEL = {
    "class",
    "class_name",
    "decimal_places",
    "discriminator",
    "encoding",
    "expected",
    "expected_plural",
    "expected_schemes",
    "expected_version",
    "field_type",
    "ge",
    "gt",
    "le",
    "lt",
    "max_digits",
    "max_length",
    "method_name",
    "min_length",
    "multiple_of",
    "pattern",
    "whole_digits",
    # A number of things, not the things.
    "actual_length",
}


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")

    tenant_id: UUID
    count: int = Field(ge=0)
    pet: Annotated[Cat | Dog, Field(discriminator="kind")] = Dog(kind="dog")


def make_app() -> FastAPI:  # noqa: C901 - a list of routes
    app = FastAPI(telemetry=tracing.FASTAPI_TELEMETRY)
    answer_with_problems(app)

    @app.post("/bodies")
    async def bodies(body: Body) -> int:
        return body.count

    @app.post("/raw")
    async def raw(request: Request) -> int:
        return len(await request.body())

    @app.post("/stubborn")
    async def stubborn(request: Request) -> Response:
        try:
            await request.body()
        except Exception:  # noqa: BLE001 - an application that swallows everything
            return PlainTextResponse("fine")
        return PlainTextResponse("whole")

    @app.get("/tenants/{tenant_id}")
    async def tenants(tenant_id: str) -> Response:
        return PlainTextResponse(tenant_id)

    @app.get("/cached")
    async def cached() -> Response:
        return PlainTextResponse("x", headers={"Cache-Control": "max-age=60"})

    @app.get("/problem")
    async def problem() -> None:
        raise Problem(
            409,
            "The tenant is being erased",
            "Install the app again.",
            type="https://keepword.example/problems/purging",
            headers={"Retry-After": "5"},
            extensions={"purge_id": "p", "status": 200},
        )

    @app.get("/gone")
    async def gone() -> None:
        raise HTTPException(410, "This page has moved")

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("hunter2")

    @app.get("/half")
    async def half() -> Response:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"begun"
            raise RuntimeError("hunter2")

        return StreamingResponse(chunks())

    @app.get("/left")
    async def left() -> None:
        raise ClientDisconnect

    return app


class Edge:
    def __init__(self) -> None:
        self.metrics = Metrics()
        self.app = HttpEdge(BodyLimit(make_app(), most_bytes=MOST_BYTES), self.metrics)

    async def ask(self, method: str, path: str, **options: Any) -> httpx2.Response:
        transport = httpx2.ASGITransport(self.app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://edge") as client:
            return await client.request(method, path, **options)

    def counted(self, route: str, method: str, status: int) -> float | None:
        return self.metrics.registry.get_sample_value(
            "keepword_http_requests_total",
            {"route": route, "method": method, "status": str(status)},
        )


@pytest.fixture
def edge() -> Edge:
    return Edge()


def assert_problem(answer: httpx2.Response, status: int, title: str) -> dict[str, Any]:
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    told: dict[str, Any] = answer.json()
    assert (told["status"], told["title"]) == (status, title)
    return told


async def test_a_problem_tells_its_members_and_keeps_the_standard_ones(edge: Edge) -> None:
    answer = await edge.ask("GET", "/problem")
    assert answer.json() == {
        "type": "https://keepword.example/problems/purging",
        "title": "The tenant is being erased",
        "status": 409,
        "detail": "Install the app again.",
        "purge_id": "p",
    }
    assert answer.headers["retry-after"] == "5"
    assert answer.headers["content-type"] == "application/problem+json"


async def test_headers_of_a_path_are_on_every_answer_there_whoever_gives_it(edge: Edge) -> None:
    headers = {"access-control-allow-origin": "*"}
    limit = BodyLimit(make_app(), most_bytes=MOST_BYTES)
    edge.app = HttpEdge(limit, edge.metrics, headers_of={"/bodies": headers, "/gone": headers})
    answers = [
        await edge.ask("POST", "/bodies", content=b"x" * (MOST_BYTES + 1)),
        await edge.ask("POST", "/bodies", content=b"x"),
        await edge.ask("GET", "/bodies"),
        await edge.ask("GET", "/gone"),
    ]
    assert [answer.status_code for answer in answers] == [413, 400, 405, 410]
    assert {answer.headers["access-control-allow-origin"] for answer in answers} == {"*"}
    other = await edge.ask("GET", "/problem")
    assert "access-control-allow-origin" not in other.headers


async def test_unknown_paths_and_methods_are_problems(edge: Edge) -> None:
    told = assert_problem(await edge.ask("GET", "/nowhere"), 404, "Not Found")
    assert told == {"type": "about:blank", "title": "Not Found", "status": 404}
    answer = await edge.ask("DELETE", "/problem")
    assert_problem(answer, 405, "Method Not Allowed")
    assert answer.headers["allow"] == "GET"


async def test_what_a_route_says_of_an_error_is_the_detail(edge: Edge) -> None:
    told = assert_problem(await edge.ask("GET", "/gone"), 410, "Gone")
    assert told["detail"] == "This page has moved"


async def test_an_invalid_request_learns_where_but_does_not_see_its_input_again(
    edge: Edge,
) -> None:
    answer = await edge.ask(
        "POST",
        "/bodies",
        json={"tenant_id": "hunter2", "count": -1, "pet": {"kind": "hunter2"}, "hunter2": 1},
    )
    told = assert_problem(answer, 400, "The request is not valid")
    assert {error["field"]: error["message"] for error in told["errors"]} == {
        "body.tenant_id": "is not valid: uuid_parsing",
        "body.count": "Input should be greater than or equal to 0",
        "body.pet": "is not valid: union_tag_invalid",
        "body": "Extra inputs are not permitted",
    }
    assert "hunter2" not in answer.text


async def test_a_body_that_is_no_json_is_not_repeated(edge: Edge) -> None:
    answer = await edge.ask(
        "POST", "/bodies", content=b"hunter2", headers={"content-type": "application/json"}
    )
    assert_problem(answer, 400, "The request is not valid")
    assert "hunter2" not in answer.text


def test_every_message_that_may_repeat_input_is_known() -> None:
    for error in list_all_errors():
        template = error["message_template_python"]
        foreign = set(re.findall(r"\{(\w+)\}", template)) - OF_THE_MODEL
        assert not foreign or error["type"] in REPEATING_ERRORS, (error["type"], template)


async def test_an_unhandled_error_is_logged_once_and_tells_nothing(edge: Edge) -> None:
    with capture_logs() as logged:
        answer = await edge.ask("GET", "/broken")
    told = assert_problem(answer, 500, "Internal Server Error")
    assert "detail" not in told
    assert "hunter2" not in answer.text
    assert [(line["event"], line["route"]) for line in logged] == [("request failed", "/broken")]
    assert edge.counted("/broken", "GET", 500) == 1


async def test_an_application_without_our_handlers_is_answered_for() -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("hunter2")

    edge = Edge()
    edge.app = HttpEdge(broken, edge.metrics)
    with capture_logs() as logged:
        assert_problem(await edge.ask("GET", "/x"), 500, "Internal Server Error")
    assert len(logged) == 1
    assert edge.counted("unmatched", "GET", 500) == 1


async def test_half_an_answer_is_cut_off_and_logged_once(edge: Edge) -> None:
    with capture_logs() as logged, pytest.raises(RuntimeError):
        await edge.ask("GET", "/half")
    assert [line["route"] for line in logged] == ["/half"]


async def test_a_caller_who_went_away_is_no_error(edge: Edge) -> None:
    with capture_logs() as logged:
        await edge.ask("GET", "/left")
    assert logged == []


async def chunks(count: int, size: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"x" * size


@pytest.mark.parametrize("path", ["/raw", "/bodies", "/stubborn"])
async def test_a_body_too_large_is_refused_by_its_length_and_by_count(
    edge: Edge, path: str
) -> None:
    with capture_logs() as logged:
        for content in (b"x" * (MOST_BYTES + 1), chunks(11, 10)):
            answer = await edge.ask(
                "POST", path, content=content, headers={"content-type": "application/json"}
            )
            assert_problem(answer, 413, "Content Too Large")
            assert answer.headers["connection"] == "close"
    assert logged == []


async def test_a_body_of_just_the_limit_is_taken(edge: Edge) -> None:
    for content in (b"x" * MOST_BYTES, chunks(10, 10)):
        answer = await edge.ask("POST", "/raw", content=content)
        assert (answer.status_code, answer.text) == (200, str(MOST_BYTES))


async def test_a_content_length_that_lies_does_not_help(edge: Edge) -> None:
    answer = await edge.ask(
        "POST", "/raw", content=chunks(11, 10), headers={"content-length": "10"}
    )
    assert_problem(answer, 413, "Content Too Large")


async def test_an_answer_that_has_begun_is_cut_off_at_the_limit(edge: Edge) -> None:
    async def answers_first(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while (await receive()).get("more_body"):
            await send({"type": "http.response.body", "body": b"x", "more_body": True})

    edge.app = HttpEdge(BodyLimit(answers_first, most_bytes=MOST_BYTES), edge.metrics)
    with capture_logs(), pytest.raises(StarletteHTTPException):
        await edge.ask("POST", "/early", content=chunks(11, 10))


async def test_every_answer_has_safe_headers(edge: Edge) -> None:
    for path in ("/tenants/a", "/nowhere", "/problem", "/broken"):
        with capture_logs():
            answer = await edge.ask("GET", path)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers.get_list("cache-control") == ["no-store"]
    refused = await edge.ask("POST", "/raw", content=b"x" * 101)
    assert refused.headers["cache-control"] == "no-store"


async def test_a_route_may_say_how_long_its_answer_keeps(edge: Edge) -> None:
    answer = await edge.ask("GET", "/cached")
    assert answer.headers.get_list("cache-control") == ["max-age=60"]


async def test_requests_are_counted_by_route_and_not_by_path(edge: Edge) -> None:
    for tenant in ("hunter2", "hunter3"):
        await edge.ask("GET", f"/tenants/{tenant}")
    await edge.ask("GET", "/hunter2")
    assert edge.counted("/tenants/{tenant_id}", "GET", 200) == 2
    assert edge.counted("unmatched", "GET", 404) == 1
    assert b"hunter" not in edge.metrics.exposition()


@pytest.fixture
def exported() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    tracing.configure("purger", None, exporter=exporter)
    yield exporter
    tracing.configure("purger", None)


async def test_a_request_is_one_span_with_its_status(
    edge: Edge, exported: InMemorySpanExporter
) -> None:
    await edge.ask("GET", "/tenants/hunter2?jwt=hunter2")
    (span,) = exported.get_finished_spans()
    assert span.name == "GET /tenants/{tenant_id}"
    assert dict(span.attributes or {}) == {
        "http.request.method": "GET",
        "http.route": "/tenants/{tenant_id}",
        "http.response.status_code": 200,
    }


async def test_other_kinds_of_connection_pass_untouched(edge: Edge) -> None:
    seen = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    both = HttpEdge(BodyLimit(inner, most_bytes=1), edge.metrics)
    await both({"type": "lifespan"}, None, None)  # type: ignore[arg-type]
    assert seen == ["lifespan"]
