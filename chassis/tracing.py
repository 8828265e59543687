"""One trace per cause, from a webhook through records and transactions to the last answer.

A trace is continuous whether or not spans are exported: the ``traceparent`` of
the W3C (https://www.w3.org/TR/trace-context/) is made, stored with records and
taken up again in any case. Without an exporter that is all that happens, which
keeps the hot paths cheap.
"""

import asyncio
import random
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from fastapi.telemetry import TelemetryConfig
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    Tracer,
)
from starlette.types import Scope

__all__ = [
    "FASTAPI_TELEMETRY",
    "SpanKind",
    "Tracing",
    "configure",
    "continued",
    "current_traceparent",
    "route_name",
    "server_span",
    "shutdown",
    "trace_id",
]

# FastAPI's own telemetry reports paths, queries and hosts, and turns itself on by
# an environment variable: pass FastAPI(telemetry=FASTAPI_TELEMETRY).
FASTAPI_TELEMETRY: Final[TelemetryConfig] = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "auto_configure": False,
}

type_of_attribute = str | int | float | bool
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_UNSAMPLED = TraceFlags(TraceFlags.DEFAULT)
_LEGAL_METHODS = frozenset(
    {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}
)


@dataclass
class Tracing:
    """The process's tracing, as ``configure`` left it."""

    tracer: Tracer | None = None
    provider: TracerProvider | None = field(default=None, repr=False)


_process = Tracing()


def configure(
    service: str, otlp_endpoint: str | None, *, exporter: SpanExporter | None = None
) -> None:
    """Send this process's spans to an OTLP collector over HTTP, or nowhere.

    ``otlp_endpoint`` is the collector's base address; ``exporter`` (for tests)
    is used instead and sees each span as it ends. What was configured before is
    shut down. Sampling follows OTEL_TRACES_SAMPLER, by default everything.
    """
    _forget()
    if otlp_endpoint is None and exporter is None:
        return
    provider = TracerProvider(
        resource=Resource.create({"service.name": service}), shutdown_on_exit=False
    )
    if exporter is not None:
        provider.add_span_processor(SimpleSpanProcessor(exporter))
    elif otlp_endpoint is not None:
        endpoint = f"{otlp_endpoint.rstrip('/')}/v1/traces"
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    # The provider stays out of OpenTelemetry's global, which libraries would use
    # for spans of their own that carry addresses.
    _process.provider = provider
    _process.tracer = provider.get_tracer("keepword")


async def shutdown() -> None:
    """Send what is still held, without blocking the loop; afterwards nothing is exported."""
    provider, _process.provider, _process.tracer = _process.provider, None, None
    if provider is not None:
        await asyncio.to_thread(provider.shutdown)


def _forget() -> None:
    if _process.provider is not None:
        _process.provider.shutdown()
    _process.provider = _process.tracer = None


def current_traceparent() -> str | None:
    """The traceparent to store with what is done now; none outside of any span."""
    spoken_of = trace.get_current_span().get_span_context()
    if not spoken_of.is_valid:
        return None
    return f"00-{spoken_of.trace_id:032x}-{spoken_of.span_id:016x}-{spoken_of.trace_flags:02x}"


def trace_id() -> str | None:
    """The id of the trace that is open here, as 32 hexadecimal digits."""
    spoken_of = trace.get_current_span().get_span_context()
    return f"{spoken_of.trace_id:032x}" if spoken_of.is_valid else None


@contextmanager
def continued(
    traceparent: str | None,
    name: str,
    kind: SpanKind = SpanKind.INTERNAL,
    **attributes: type_of_attribute,
) -> Iterator[Span]:
    """Open a span that continues a stored trace, whatever trace is open here.

    Where there is no traceparent, or an unreadable one, a new trace begins. An
    exception passes through and leaves only its type in the span: messages of
    exceptions may hold people's data. Attributes must not hold any either.
    """
    parent = _parent_of(traceparent)
    if _process.tracer is None:
        with _propagated(parent) as span:
            yield span
        return
    with _recorded(_process.tracer, parent, name, kind, attributes) as span:
        yield span


@contextmanager
def server_span(scope: Scope) -> Iterator[Span]:
    """Open the span of one HTTP request, continuing the caller's traceparent.

    It is named and marked by the method and the route's name, never by the URL,
    whose path and query may hold keys and tokens.
    """
    with continued(_incoming(scope), "request", SpanKind.SERVER) as span:
        try:
            yield span
        finally:
            if span.is_recording():
                _name_by_route(span, scope)


def route_name(scope: Scope) -> str:
    """The template of the route that took a request, such as ``/connect/{addon_key}``.

    Known only once the application has been called; "unmatched" where no route was.
    """
    fastapi = scope.get("fastapi")
    # A router that is included under a prefix knows its whole path only here.
    included = fastapi.get("effective_route_context") if isinstance(fastapi, dict) else None
    for route in (included, scope.get("route")):
        template = getattr(route, "path_format", None)
        if isinstance(template, str):
            return template
    endpoint = scope.get("endpoint")
    return str(getattr(endpoint, "__name__", "unmatched"))


def _name_by_route(span: Span, scope: Scope) -> None:
    method = scope.get("method", "")
    method = method if method in _LEGAL_METHODS else "_OTHER"
    route = route_name(scope)
    span.update_name(f"{method} {route}")
    span.set_attribute("http.request.method", method)
    span.set_attribute("http.route", route)


def _incoming(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"traceparent":
            return str(value, "latin-1")
    return None


def _parent_of(traceparent: str | None) -> SpanContext | None:
    if traceparent is None:
        return None
    match = _TRACEPARENT.fullmatch(traceparent)
    # Version ff is forbidden; a later version than 00 may carry more behind the flags.
    if match is None or match[1] == "ff" or (match[1] == "00" and match[5]):
        return None
    parent = SpanContext(
        trace_id=int(match[2], 16),
        span_id=int(match[3], 16),
        is_remote=True,
        trace_flags=TraceFlags(int(match[4], 16)),
    )
    return parent if parent.is_valid else None


@contextmanager
def _propagated(parent: SpanContext | None) -> Iterator[Span]:
    """Be a step of the trace for those who come after, without a record of it."""
    span = NonRecordingSpan(
        SpanContext(
            trace_id=parent.trace_id if parent else _random_id(128),
            span_id=_random_id(64),
            is_remote=False,
            trace_flags=parent.trace_flags if parent else _UNSAMPLED,
        )
    )
    token = otel_context.attach(trace.set_span_in_context(span, Context()))
    try:
        yield span
    finally:
        otel_context.detach(token)


@contextmanager
def _recorded(
    tracer: Tracer,
    parent: SpanContext | None,
    name: str,
    kind: SpanKind,
    attributes: Mapping[str, type_of_attribute],
) -> Iterator[Span]:
    context = Context()
    if parent is not None:
        context = trace.set_span_in_context(NonRecordingSpan(parent), context)
    with tracer.start_as_current_span(
        name,
        context,
        kind,
        attributes,
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield span
        except Exception as failure:
            span.set_attribute("error.type", type(failure).__name__)
            span.set_status(StatusCode.ERROR)
            raise


def _random_id(bits: int) -> int:
    # Zero is not a valid id.
    return random.getrandbits(bits) or 1
