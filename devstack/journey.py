"""A customer's way through Keepword, driven and watched from outside: install to receipt."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from importlib import import_module
from typing import Any, Final, TypeVar
from uuid import UUID

import httpx2

from chassis.data_map import DataMap
from chassis.database import Connection, connect
from contracts.classes import TENANT_CLASSES, DataClass
from contracts.ledger import LedgerEntry
from contracts.purges import Phase, Plan
from devstack.atlassian import Site
from devstack.atlassian.service_desk import PATH as SERVICE_DESK
from devstack.postgres import Roles
from devstack.stack import APP_KEY, LocalStack
from services.purger.store import brake as store_of_brake
from services.purger.store import states

T = TypeVar("T")

# A refused question is asked again after a minute.
PATIENCE_SECONDS: Final = 90.0
LOOK_EVERY_SECONDS: Final = 0.1
PURGED_PHASES: Final = (Phase.REQUESTED, Phase.ERASING, Phase.ERASED, Phase.CLOSED)
_RECEIPT = re.compile(r"/receipts/([A-Za-z0-9_-]{16,128})")


class TookTooLongError(Exception):
    """What was waited for did not happen in time."""


class RefusedError(Exception):
    """A service answered what a journey cannot go on with."""


@dataclass(frozen=True, slots=True)
class Brake:
    """Whether purges are held back, and who wants them let through."""

    engaged: bool
    reason: str | None
    released_by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReceiptMail:
    """A receipt as it came to a contact."""

    message_id: str
    subject: str
    code: str
    text: str


@dataclass(slots=True)
class Journey:
    """One site's tenant, from its install on.

    Customers' and Atlassian's acts go over HTTP, as in life; what has come of
    them is read from the databases by the roles that read all and write nothing.
    """

    stack: LocalStack
    http: httpx2.AsyncClient
    site: str
    patience_seconds: float = PATIENCE_SECONDS
    _tenant_id: UUID | None = field(default=None)
    # Where an import has given the site another one than it began with.
    _client_key: str | None = field(default=None)

    @property
    def tenant_id(self) -> UUID:
        """The tenant that the last install made or found."""
        if self._tenant_id is None:
            raise RuntimeError(f"{self.site} has not been installed")
        return self._tenant_id

    @property
    def client_key(self) -> str:
        """Atlassian's name of the site."""
        return self._client_key or Site.named(self.site).client_key

    @property
    def base_url(self) -> str:
        """Where the site stands, which is on the stand-in."""
        return Site.named(self.site, sites_at=self.stack.endpoints.atlassian).base_url

    async def install(self, *, licence: str | None = None) -> UUID:
        """Let the site install the app, perhaps paid for by a licence, and return its tenant."""
        await self._call_app("install", {} if licence is None else {"sen": licence})
        self._tenant_id = await self.until(self._installed_tenant, "a tenant is known")
        return self._tenant_id

    async def uninstall(self) -> None:
        """Let the site remove the app."""
        await self._call_app("uninstall")

    async def import_data(self) -> "Journey":
        """Let the site's data be replaced by an import; return who it is then, without the app."""
        answer = await self._ask("POST", "atlassian", f"/sites/{self.site}/import")
        return replace(self, _client_key=answer.json()["client_key"], _tenant_id=None)

    async def add_contact(self, name: str, address: str) -> None:
        """Give the tenant a person, as soon as notifier knows the tenant."""
        await self._ask(
            "POST",
            "notifier",
            "/development/contacts",
            not_yet={httpx2.codes.NOT_FOUND},
            json={"tenant_id": str(self.tenant_id), "name": name, "address": address},
        )

    async def open_session(self) -> Mapping[str, str]:
        """Return the header by which the tenant's browser shows who it is."""
        answer = await self._ask(
            "POST",
            "installer",
            "/development/session-tokens",
            json={"tenant_id": str(self.tenant_id)},
        )
        return {"Authorization": f"Bearer {answer.json()['token']}"}

    async def add_datasource(self, name: str, *, url: str, username: str, credentials: str) -> None:
        """Let the customer enter a datasource, as soon as config knows the tenant."""
        body = {"name": name, "kind": "rest", "url": url}
        await self._ask(
            "POST",
            "config",
            "/api/v1/datasources",
            # It is there already where only the answer was lost.
            enough={httpx2.codes.CONFLICT},
            json={**body, "username": username, "credentials": credentials},
            headers=await self.open_session(),
        )

    async def report_error(self, text: str) -> None:
        """Let a page of the app report an error that names the text wherever an error can."""
        given = await self._ask(
            "POST", "config", "/api/v1/error-tokens", headers=await self.open_session()
        )
        frame = {"function": text, "filename": f"https://app.example/{text}.js"}
        thrown = {"type": text, "value": text, "stacktrace": {"frames": [frame]}}
        lines: tuple[Mapping[str, Any], ...] = (
            {"dsn": f"https://{given.json()['token']}@config.example/1"},
            {"type": "event"},
            {"exception": {"values": [thrown]}, "release": text, "user": {"id": text}},
        )
        body = b"\n".join(json.dumps(line).encode() for line in lines)
        await self._ask("POST", "config", "/errors/envelopes", content=body)

    async def datasources(self) -> list[dict[str, Any]]:
        """List what the customer sees of its datasources."""
        answer = await self._ask(
            "GET", "config", "/api/v1/datasources", headers=await self.open_session()
        )
        items: list[dict[str, Any]] = answer.json()["items"]
        return items

    async def plans(self) -> tuple[Plan, ...]:
        """List the tenant's purges, in whatever phase."""
        async with _reading(self.stack.databases["purger"]) as connection:
            found = await states.plans_of(connection, [self.tenant_id])
        return found[self.tenant_id][1]

    async def wait_for_plan(self) -> Plan:
        """Return the tenant's plan, once it has one that stands."""

        async def planned() -> Plan | None:
            standing = [plan for plan in await self.plans() if plan.phase is Phase.PLANNED]
            return standing[0] if standing else None

        return await self.until(planned, "a purge is planned")

    async def wait_for_phase(self, phase: Phase, *also: Phase) -> Plan:
        """Return the tenant's purge once it is in one of these phases, or beyond the first."""
        reached = {phase, *also, *_from(phase)}

        async def there() -> Plan | None:
            return next((plan for plan in await self.plans() if plan.phase in reached), None)

        return await self.until(there, f"the purge is {phase}")

    async def brake(self) -> Brake:
        """Say whether purges are held back."""
        return _brake_of(await self._ask("GET", "purger", "/staff/brake"))

    async def wait_for_brake(self) -> Brake:
        """Return the brake once it holds and purger has seen what time it is.

        Before that a release would last until its next look at the clock.
        """
        asked_at = self.stack.now()

        async def engaged() -> Brake | None:
            last = await self._last_sweep()
            brake = await self.brake()
            return brake if brake.engaged and last is not None and last >= asked_at else None

        return await self.until(engaged, "the brake holds")

    async def release_brake(self, *names: str) -> Brake:
        """Let these people, one after another, let held purges through."""
        brake = await self.brake()
        for name in names:
            answer = await self._ask(
                "POST",
                "purger",
                "/staff/brake/releases",
                # It holds no more where only the answer was lost.
                enough={httpx2.codes.CONFLICT},
                json={"name": name},
            )
            brake = _brake_of(answer) if answer.is_success else await self.brake()
        return brake

    async def move_to(self, to: datetime) -> None:
        """Move everybody's business time on."""
        await self.stack.move_clock(to, patience_seconds=self.patience_seconds)

    async def receipt_mails(self, address: str) -> list[ReceiptMail]:
        """List the receipts that have come to this address, the first one first."""
        answer = await self._ask("GET", "mail", "/messages.json")
        to_them = [mail for mail in answer.json() if mail["recipients"] == [address]]
        return [receipt for mail in to_them if (receipt := _receipt_mail(mail)) is not None]

    async def wait_for_receipt_mail(self, address: str) -> ReceiptMail:
        """Return the first receipt that came to this address."""

        async def came() -> ReceiptMail | None:
            mails = await self.receipt_mails(address)
            return mails[0] if mails else None

        return await self.until(came, "the receipt is mailed")

    async def receipt(self, code: str) -> list[LedgerEntry]:
        """Fetch a receipt's entries, as anyone can who has its code."""
        answer = await self._ask("GET", "purger", f"/receipts/{code}")
        return [LedgerEntry.model_validate(entry) for entry in answer.json()["entries"]]

    async def rows(self) -> dict[str, int]:
        """Count what every database holds of the tenant and an erasure has to take, by table.

        What says that it was erased is not among it; see the data maps.
        """
        found: dict[str, int] = {}
        for service, roles in self.stack.databases.items():
            async with _reading(roles) as connection:
                counts = await _rows_of(connection, data_map_of(service), self.tenant_id)
            found |= {f"{service}.{table}": count for table, count in counts.items()}
        return found

    async def belongings(self) -> dict[str, int]:
        """Count what is the tenant's own, by table: as a receipt counts it, without our notes."""
        own = {
            f"{service}.{table.name}"
            for service in self.stack.databases
            for table in data_map_of(service).tables
            if table.counted and table.data_class in TENANT_CLASSES
        }
        return {table: count for table, count in (await self.rows()).items() if table in own}

    async def wait_until_gone(self) -> None:
        """Return when no database holds anything of the tenant any more."""

        async def gone() -> bool | None:
            return None if await self.rows() else True

        await self.until(gone, "everything is gone")

    async def traces_of(self, *texts: str) -> list[str]:
        """List the tables and logs in which one of these texts can be read, tenant or not.

        Also where it stands as bytes, as the payloads of messages do.
        """
        found: list[str] = []
        for service, roles in self.stack.databases.items():
            async with _reading(roles) as connection:
                tables = await _tables_with(connection, data_map_of(service), texts)
            found += [f"{service}.{table}" for table in tables]
            log = self.stack.log_of(service).read_text("utf-8", errors="replace")
            found += [f"{service}'s log" for text in texts if text in log]
        return sorted(set(found))

    async def until(self, happened: Callable[[], Awaitable[T | None]], what: str) -> T:
        """Return what ``happened`` answers as soon as that is not None.

        Raises:
            TookTooLongError: it was None for all the time that one waits.
        """
        deadline = time.monotonic() + self.patience_seconds
        while (answer := await happened()) is None:
            if time.monotonic() > deadline:
                waited = f"{self.patience_seconds:.0f} s"
                raise TookTooLongError(f"{self.site}: after {waited} it is not yet so that {what}")
            await asyncio.sleep(LOOK_EVERY_SECONDS)
        return answer

    async def _ask(
        self,
        method: str,
        whom: str,
        path: str,
        *,
        not_yet: Collection[int] = (),
        enough: Collection[int] = (),
        **request: Any,
    ) -> httpx2.Response:
        """Return an answer that is good, or ``enough``; ask again while it is none, or ``not_yet``.

        Raises:
            RefusedError: the answer is another one.
        """

        async def answered() -> httpx2.Response | None:
            try:
                answer = await self.http.request(
                    method, f"{self.stack.endpoints.of(whom)}{path}", **request
                )
            except httpx2.TransportError:
                return None
            if answer.status_code in {httpx2.codes.SERVICE_UNAVAILABLE, *not_yet}:
                return None
            if answer.is_success or answer.status_code in enough:
                return answer
            raise RefusedError(f"{whom} answers {answer.status_code} to {path}: {answer.text}")

        return await self.until(answered, f"{whom} answers {method} {path}")

    async def _last_sweep(self) -> datetime | None:
        async with _reading(self.stack.databases["purger"]) as connection:
            last = (await store_of_brake.read_brake(connection)).last
        return None if last is None else last.business_at

    async def open_ticket(self, licence: str, person: str) -> str:
        """Let a person of the customer's write to the vendor's service desk."""
        answer = await self._ask(
            "POST",
            "atlassian",
            f"{SERVICE_DESK}/tickets",
            params={"licence": licence, "person": person},
        )
        return str(answer.json()["ticket"])

    async def tickets_naming(self, text: str) -> list[str]:
        """List the tickets at the vendor's service desk in which a text can be read."""
        answer = await self._ask("GET", "atlassian", f"{SERVICE_DESK}/tickets")
        return [ticket["id"] for ticket in answer.json() if text in str(ticket)]

    async def move_desk(self, state: str) -> None:
        """Send the vendor's service desk ``away``, or bring it ``back``."""
        await self._ask("POST", "atlassian", f"{SERVICE_DESK}/{state}")

    async def _call_app(self, verb: str, more: Mapping[str, str] | None = None) -> None:
        """Let the stand-in call, again while the installer is away: so does Atlassian."""

        async def called() -> bool | None:
            answer = await self._ask(
                "POST",
                "atlassian",
                f"/sites/{self.site}/{verb}",
                # The stand-in says so when the installer does not answer it.
                not_yet={httpx2.codes.BAD_GATEWAY},
                params={"app": APP_KEY, **(more or {})},
            )
            status = answer.json()["status"]
            if status == httpx2.codes.SERVICE_UNAVAILABLE:
                return None
            if not httpx2.codes.is_success(status):
                raise RefusedError(f"the installer answers {status} to {verb}")
            return True

        await self.until(called, f"the installer takes the {verb}")

    async def _installed_tenant(self) -> UUID | None:
        answer = await self._ask(
            "POST",
            "installer",
            "/staff/tenants/lookup",
            json={"addon_key": APP_KEY, "client_key": self.client_key},
        )
        installed = [each for each in answer.json()["tenants"] if each["status"] == "installed"]
        return UUID(installed[0]["tenant_id"]) if installed else None


def _from(phase: Phase) -> tuple[Phase, ...]:
    return PURGED_PHASES[PURGED_PHASES.index(phase) :] if phase in PURGED_PHASES else ()


def _brake_of(answer: httpx2.Response) -> Brake:
    told = answer.json()
    names = tuple(signature["name"] for signature in told["releases"])
    return Brake(engaged=told["engaged"], reason=told["reason"], released_by=names)


def _receipt_mail(mail: Mapping[str, Any]) -> ReceiptMail | None:
    """None for a message that is about something else."""
    code = _RECEIPT.search(mail["text"])
    if code is None:
        return None
    headers = {name.lower(): value for name, value in mail["headers"]}
    return ReceiptMail(headers["message-id"], mail["subject"], code.group(1), mail["text"])


def data_map_of(service: str) -> DataMap:
    """Return what a service has declared that it stores."""
    data_map: DataMap = import_module(f"services.{service}.data_map").DATA_MAP
    return data_map


@asynccontextmanager
async def _reading(roles: Roles) -> AsyncIterator[Connection]:
    """Connect as the role that sees every row and changes none."""
    connection = await connect(roles.backup_url, name="journey")
    try:
        yield connection
    finally:
        await connection.close()


async def _rows_of(connection: Connection, data_map: DataMap, tenant_id: UUID) -> dict[str, int]:
    """Count a tenant's rows by table where there are any."""
    counts: dict[str, int] = {}
    for table in data_map.all_tables:
        proof = table.data_class is DataClass.ERASURE_PROOF
        if table.tenant_column is None or proof:
            continue
        counts[table.name] = await connection.fetchval(
            f"""
            SELECT count(*) FROM "{table.name}"
             WHERE {table.tenant_column} = $1 AND {table.erase_where or "true"}
            """,  # noqa: S608 - names and conditions come from the data map
            tenant_id,
        )
    return {name: count for name, count in counts.items() if count}


async def _tables_with(
    connection: Connection, data_map: DataMap, texts: Collection[str]
) -> list[str]:
    patterns = [f"%{form}%" for text in texts for form in (text, text.encode().hex())]
    return [
        table.name
        for table in data_map.all_tables
        if await connection.fetchval(
            f'SELECT EXISTS (SELECT 1 FROM "{table.name}" AS r WHERE r::text LIKE ANY($1))',  # noqa: S608 - names come from the data map
            patterns,
        )
    ]
