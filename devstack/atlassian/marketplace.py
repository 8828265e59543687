"""The Marketplace's licence report, with the faults that the real one has."""

import json
from base64 import b64encode
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import date
from secrets import compare_digest, token_hex
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

ACCOUNT = "reports@vendor.example"
TOKEN = "made-up-token-of-the-vendor"  # noqa: S105 - made up, as its words say
DEVELOPER_ID = "00000000-0000-4000-8000-00000000d0d0"
PAGE_ROWS = 50

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong next; the counts go down with each request that it befell."""

    throttled: int = 0
    retry_after: str = "1"
    broken: int = 0
    failed_exports: int = 0
    exports_refused: bool = False
    polls_in_progress: int = 1


@dataclass(slots=True)
class Export:
    """One export: the rows that it took when it began, and how often it is still unfinished."""

    rows: list[Row] = field(repr=False)
    polls_left: int
    fails: bool

    def status(self) -> str:
        """Say how far it is, and come one step nearer to the end."""
        if self.polls_left > 0:
            self.polls_left -= 1
            return "IN_PROGRESS"
        return "FAILED" if self.fails else "COMPLETED"


class Marketplace:
    """The licences of all apps, by licence. ``requests`` counts what was asked of the reports."""

    def __init__(self) -> None:
        self.faults = Faults()
        self.requests = 0
        self._rows: dict[str, Row] = {}
        self._exports: dict[str, Export] = {}

    def put(self, row: Row) -> None:
        """Add a licence, or change the one with the same number."""
        names = ("addonLicenseId", "licenseId", "appEntitlementId")
        number = next((row[name] for name in names if row.get(name)), None)
        self._rows[str(number or token_hex(8))] = row

    def rows(self, since: date | None) -> list[Row]:
        """Give the licences that changed on or after a day; a row without a day is always among them."""
        return [row for row in self._rows.values() if _changed(row, since)]

    def routes(self) -> list[Route]:
        """Give the report's own routes, and those by which it is filled and made to fail."""
        reports = "/rest/3/reporting/developer-space/{developer}/licenses"
        return [
            Route(f"{reports}/async/export", self.start, methods=["POST"]),
            Route(f"{reports}/async/export/{{export}}/status", self.status),
            Route(f"{reports}/async/export/{{export}}", self.download),
            Route(reports, self.page),
            Route("/marketplace/licences", self.change, methods=["POST"]),
            Route("/marketplace/faults", self.fail, methods=["POST"]),
        ]

    async def start(self, request: Request) -> Response:
        """Begin an export; ``accept`` must be json, as the default of the real one is CSV."""
        if (answer := self._stop(request)) is not None:
            return answer
        if self.faults.exports_refused:
            return Response(status_code=404)
        if request.query_params.get("accept") != "json":
            return Response(status_code=400)
        fails = self.faults.failed_exports > 0
        if fails:
            self.faults = replace(self.faults, failed_exports=self.faults.failed_exports - 1)
        export_id = token_hex(8)
        self._exports[export_id] = Export(
            self.rows(_since(request)), self.faults.polls_in_progress, fails
        )
        # The real links leave out what comes before the path, as these do.
        path = f"/reporting/developer-space/{DEVELOPER_ID}/licenses/async/export/{export_id}"
        links = {"status": {"href": f"{path}/status"}, "download": {"href": path}}
        return JSONResponse({"export": {"id": export_id}, "_links": links}, status_code=202)

    async def status(self, request: Request) -> Response:
        """Say how far an export is."""
        if (answer := self._stop(request)) is not None:
            return answer
        status = self._export(request).status()
        return JSONResponse({"export": {"id": request.path_params["export"], "status": status}})

    async def download(self, request: Request) -> Response:
        """Send what a finished export holds, as one JSON array; an unfinished one is not found."""
        if (answer := self._stop(request)) is not None:
            return answer
        export = self._export(request)
        if export.polls_left > 0:
            raise HTTPException(404)
        rows = [] if export.fails else export.rows
        return StreamingResponse(_array(rows), media_type="application/json")

    async def page(self, request: Request) -> Response:
        """Send a page of licences, of 50 rows at most, whatever was asked for."""
        if (answer := self._stop(request)) is not None:
            return answer
        limit = min(int(request.query_params.get("limit", "10")), PAGE_ROWS)
        offset = int(request.query_params.get("offset", "0"))
        rows = self.rows(_since(request))
        return JSONResponse({"_links": {}, "licenses": rows[offset : offset + limit]})

    async def change(self, request: Request) -> Response:
        """Add or change licences: one row or a list of rows, as the report would give them."""
        rows = await request.json()
        for row in rows if isinstance(rows, list) else [rows]:
            self.put(row)
        return JSONResponse({"licences": len(self._rows)})

    async def fail(self, request: Request) -> Response:
        """Say what goes wrong from now on; what is not named goes well."""
        self.faults = Faults(**await request.json())
        return Response(status_code=204)

    def _stop(self, request: Request) -> Response | None:
        """Give the answer to a request that gets no report: not ours, one too many, or bad luck."""
        self.requests += 1
        if not _is_vendor(request):
            return Response(status_code=401)
        if request.path_params["developer"] != DEVELOPER_ID:
            return Response(status_code=404)
        if self.faults.throttled > 0:
            self.faults = replace(self.faults, throttled=self.faults.throttled - 1)
            return Response(status_code=429, headers={"Retry-After": self.faults.retry_after})
        if self.faults.broken > 0:
            self.faults = replace(self.faults, broken=self.faults.broken - 1)
            return Response(status_code=503)
        return None

    def _export(self, request: Request) -> Export:
        export = self._exports.get(request.path_params["export"])
        if export is None:
            raise HTTPException(404)
        return export


def _is_vendor(request: Request) -> bool:
    expected = b"Basic " + b64encode(f"{ACCOUNT}:{TOKEN}".encode())
    return compare_digest(request.headers.get("Authorization", "").encode(), expected)


def _since(request: Request) -> date | None:
    text = request.query_params.get("lastUpdated")
    return None if text is None else date.fromisoformat(text[:10])


def _changed(row: Row, since: date | None) -> bool:
    updated = row.get("lastUpdated")
    return since is None or not updated or date.fromisoformat(updated) >= since


async def _array(rows: list[Row]) -> AsyncIterator[bytes]:
    yield b"["
    for start in range(0, len(rows), PAGE_ROWS):
        some = ",".join(json.dumps(row) for row in rows[start : start + PAGE_ROWS])
        yield (("," if start else "") + some).encode()
    yield b"]"
