"""The doors of error reports: a token for a page, and the envelopes that Sentry's SDK sends by it."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from fastapi import APIRouter
from prometheus_client import CollectorRegistry, Counter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from chassis.jobs import Job
from chassis.metrics import NAMESPACE
from chassis.openapi import not_now, problem_response
from chassis.problems import Problem
from chassis.service import Running, running
from services.config import error_tokens as tokens
from services.config.bundles import Bundles
from services.config.context import Context
from services.config.domain import error_envelopes as envelope
from services.config.domain.access import Access
from services.config.domain.error_reports import Report, agent_of, id_of, report_of
from services.config.error_intake import Intake, Verdict, access_to_errors
from services.config.error_quotas import Buckets, DailySalt, network_of
from services.config.routes.access import Config, Tenant
from services.config.routes.openapi import Operation, json_answer
from services.config.settings import ConfigSettings
from services.config.store import errors as store

TOKENS: Final = "/api/v1/error-tokens"
ENVELOPES: Final = "/errors/envelopes"

_SCRIPT: Final = "reporter.js"

READABLE: Final = {
    "access-control-allow-origin": "*",
    "access-control-expose-headers": "X-Sentry-Rate-Limits, Retry-After",
}
"""On every answer of the door: any page may read it, since a token and no cookie opens it."""

# Asks the SDK to send nothing for a day of what is not taken anyway.
_NOT_TAKEN: Final = {
    "x-sentry-rate-limits": (
        "86400:session;transaction;span;profile;replay;attachment;feedback;monitor;log_item:key:not-taken"
    )
}

_REFUSED: Final = {
    Verdict.GOING: (410, "What this tenant kept here is being erased, or is erased."),
    Verdict.CLOSED: (403, "No reports are kept of this tenant."),
    Verdict.AWAY: (503, "The report cannot be stored now. Try again."),
    Verdict.FAILED: (500, None),
}


_ISSUED: Final = Operation(
    201,
    {
        "201": json_answer(
            "A token for the public key of the SDK's DSN.",
            {
                "type": "object",
                "required": ["token", "expires_in_seconds"],
                "properties": {
                    "token": {"type": "string"},
                    "expires_in_seconds": {"type": "integer"},
                },
            },
            {"token": "0193574b6bd07c3a9a5500000000000a.6a1d3e0c", "expires_in_seconds": 86400},
        )
    },
)


class ErrorFigures:
    """Counts envelopes by what became of them; nothing names a tenant."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.envelopes_total = Counter(
            "error_envelopes",
            "Envelopes of browsers' error reports, by what became of each.",
            ("outcome",),
            namespace=NAMESPACE,
            registry=registry,
        )


class ErrorDoor:
    """Takes reports from browsers: stored means that it is on the disk when it is answered."""

    def __init__(self, settings: ConfigSettings, registry: CollectorRegistry) -> None:
        self._address_header = settings.client_address_header
        self._of_address = Buckets(settings.error_reports_per_address)
        self._of_tenant = Buckets(settings.error_reports_per_tenant)
        self._salt = DailySalt()
        self._intake = Intake()
        self._figures = ErrorFigures(registry)
        self._taken = self._figures.envelopes_total.labels("200")
        # Sentry's SDK, told to keep persons out of what a page reports.
        self._script = Bundles(_SCRIPT)

    def router(self) -> APIRouter:
        """Return the routes."""
        router = APIRouter()
        router.add_api_route(
            TOKENS, issue_token, methods=["POST"], response_model=None, **_ISSUED.arguments()
        )
        router.add_api_route(
            f"/errors/{_SCRIPT}", self._script.show, methods=["GET"], include_in_schema=False
        )
        return router

    def plain_routes(self) -> Sequence[Route]:
        """Return the route of envelopes, of which nothing is for FastAPI to read."""
        return (Route(ENVELOPES, self.receive, methods=["POST"]),)

    def jobs(self, this: Running[Context]) -> Sequence[Job]:
        """Return the job that keeps what is promised about time."""

        async def tidy() -> None:
            self._salt.renew(wall=this.units.clock.wall())
            now = this.units.clock.now()
            await store.make_weeks(this.resources.worker, today=now.date())
            await store.forget_old(this.resources.worker, now=now)

        return (Job("tidy error reports", timedelta(hours=1), tidy),)

    async def receive(self, request: Request) -> Response:
        """Answer an envelope: 200 with its id, or why its event is not stored."""
        try:
            answer = await self._receive(request)
        except Problem as refused:
            self._figures.envelopes_total.labels(str(refused.status)).inc()
            raise
        self._taken.inc()
        return answer

    async def _receive(self, request: Request) -> Response:
        config: Running[Context] = running(request)
        if request.headers.get("content-encoding", "identity") != "identity":
            raise Problem(415, detail="Envelopes are taken as they are, not compressed.")
        wall = config.units.clock.wall()
        address = self._salt.hashed("address", self._network_of(request), wall=wall)
        _require(self._of_address.take(address))
        body = await request.body()
        try:
            header, items = envelope.split(body)
            tenant_id = tokens.tenant_of(
                config.context.keys, tokens.token_in(header.get("dsn")), wall=wall
            )
            if tenant_id is None:
                raise Problem(403, detail="The DSN has no ingest token, or one that is over.")
            _require(self._of_tenant.take(tenant_id))
            event = envelope.event_in(items)
        except envelope.TooLarge:
            raise Problem(413, detail="The envelope, or a header in it, is too large.") from None
        except envelope.BadEnvelope as bad:
            raise Problem(400, detail=f"This is not an envelope: {bad}.") from None
        event_id = id_of(header.get("event_id"))
        if event is None:
            return _answer(event_id)
        report = self._report_of(request, config, event, event_id)
        verdict = await self._intake.take(config.units, tenant_id, report)
        if verdict is not Verdict.STORED:
            status, detail = _REFUSED[verdict]
            headers = {"retry-after": "5"} if verdict is Verdict.AWAY else None
            raise Problem(status, detail=detail, headers=headers)
        return _answer(report.event_id)

    def _report_of(
        self,
        request: Request,
        config: Running[Context],
        event: Mapping[str, Any],
        event_id: UUID | None,
    ) -> Report:
        clock = config.units.clock
        return report_of(
            event,
            event_id=event_id,
            agent=agent_of(request.headers.get("user-agent", "")),
            received_at=clock.now(),
            anonymise=lambda told: self._salt.hashed("tracking", told, wall=clock.wall()),
        )

    def _network_of(self, request: Request) -> str:
        """Say from where a request comes, which is hashed at once and stored nowhere."""
        if self._address_header is not None:
            # What the nearest proxy added stands last; the rest is the caller's own word.
            given = request.headers.getlist(self._address_header)
            return network_of(given[-1].rpartition(",")[2]) if given else ""
        return network_of(request.client.host) if request.client else ""


async def issue_token(config: Config, tenant_id: Tenant) -> Response:
    """Give a page of this tenant a token by which it may report errors for a day."""
    async with config.units.begin() as uow:
        await uow.lock_tenants([tenant_id])
        erased = (await uow.erased_classes([tenant_id])).get(tenant_id, frozenset())
        known = await store.reporters(uow.connection, [tenant_id])
        access = access_to_errors(known.get(tenant_id), erased)
    if access is Access.UNKNOWN:
        raise Problem(
            503,
            detail="This tenant has not been heard of yet. Try again.",
            headers={"retry-after": "1"},
        )
    if access is not Access.OPEN:
        status, detail = _REFUSED[Verdict.GOING if access is Access.GOING else Verdict.CLOSED]
        raise Problem(status, detail=detail)
    told = {
        "token": tokens.issue(config.context.keys, tenant_id, wall=config.units.clock.wall()),
        "expires_in_seconds": int(tokens.LIFETIME.total_seconds()),
    }
    return JSONResponse(told, status_code=201)


def _require(wait_seconds: int) -> None:
    if wait_seconds:
        raise Problem(
            429,
            detail="That is more than is taken from one place in so short a time.",
            headers={
                "retry-after": str(wait_seconds),
                "x-sentry-rate-limits": f"{wait_seconds}:error:key:quota",
            },
        )


def _answer(event_id: UUID | None) -> Response:
    told = f'{{"id":"{event_id.hex if event_id else ""}"}}'
    return Response(told, media_type="application/json", headers=_NOT_TAKEN)


OPENAPI: Final = {
    "paths": {
        ENVELOPES: {
            "post": {
                "security": [],
                "summary": "Take an envelope of Sentry's SDK, and keep the error in it.",
                "description": "The ingest token is the public key of the DSN in the envelope's header.",
                "requestBody": {
                    "required": True,
                    "content": {"text/plain": {"schema": {"type": "string"}}},
                },
                "responses": {
                    "200": {
                        "description": "It is stored, or there was no error in it.",
                        "content": {
                            "application/json": {
                                "schema": {
                                    "type": "object",
                                    "required": ["id"],
                                    "properties": {"id": {"type": "string"}},
                                }
                            }
                        },
                    },
                    "400": problem_response("It is not an envelope."),
                    "403": problem_response("There is no token that is good."),
                    "410": problem_response("The tenant is being erased, or is erased."),
                    "413": problem_response("It is too large."),
                    "415": problem_response("It is compressed."),
                    "429": not_now("More came from one place than is taken."),
                    "503": not_now(),
                },
            }
        }
    }
}
"""What the document says of the door that FastAPI does not describe."""
