"""Puts a service together and runs it: doors closed until its database, Kafka and ledger are there."""

import asyncio
import gc
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Generic, TypeVar

import structlog
from fastapi import APIRouter, FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from chassis import logs, shutdown, tracing
from chassis.broker import KafkaAccess
from chassis.census import FOLLOWED_VERSIONS, TAKEN_EVERY, Census, with_doubts
from chassis.clock import Clock, OffsetClock, SystemClock
from chassis.consumer import Consumer, main_group
from chassis.data_map import DataMap
from chassis.database import REFUSALS, TRANSIENT_ERRORS, Pool, open_pool_patiently
from chassis.dead_letters.redrives import Redrives
from chassis.dead_letters.routes import dead_letters_routers
from chassis.epochs import epoch_in
from chassis.erasure import Attested, EraserJob, Ready
from chassis.handlers import Handlers
from chassis.health import Health
from chassis.health import routes as probe_routes
from chassis.heartbeats import beat, state_models
from chassis.housekeeping import AuditKeeping, Housekeeping
from chassis.jobs import Job, JobRunner, notice_moved_time
from chassis.keys import BadKeysFile, KeyEncryptionKeys, TenantKeys
from chassis.ledger import LedgerBrokenError, OnEntry, ledger_handlers, wait_until_applied
from chassis.metrics import Metrics
from chassis.openapi import tell_the_truth
from chassis.problems import BodyLimit, HttpEdge, Problem, answer_with_problems
from chassis.relay import Relay
from chassis.settings import PREFIX, BadSettings, ServiceSettings
from chassis.shutdown import CANNOT_START, CannotStart, HttpServer, run_until_stopped
from chassis.signing import BadSigningKeys, TokenSigner
from chassis.staff.access import let_staff_in
from chassis.staff.door import Door
from chassis.staff.provider import Provider
from chassis.staff.records import records_router
from chassis.syslog import Syslog
from chassis.unit_of_work import Units
from chassis.versions import DatabaseTooNewError, behind
from contracts.classes import DataClass
from contracts.topics import ALL_TOPICS, PURGER_LEDGER, REPLAYS, Topic, subscriptions

log = structlog.get_logger(__name__)

C = TypeVar("C")

_ALWAYS_OPEN = frozenset({"/livez", "/readyz", "/metrics"})
_MOST_BODY_BYTES = 256 * 1024
_RELAY_IS_STUCK_AFTER_SECONDS = 60.0
_LETS_GO_FOR = timedelta(seconds=10)
_HEARTBEAT_EVERY = timedelta(hours=6)
# In which the Job that migrates may end beside us.
_MIGRATED_WITHIN_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Erases:
    """What a service erases when purger says so: its classes, each with the name of its step.

    The tenant's key and what the plumbing holds of the tenant go with ``key_class``.
    """

    steps: Mapping[DataClass, str]
    key_class: DataClass
    ready: Ready | None = None
    attested: Attested | None = None


@dataclass(frozen=True, slots=True)
class Resources:
    """What is open before a service's own context is made."""

    settings: ServiceSettings
    clock: Clock
    metrics: Metrics
    runtime: Pool
    worker: Pool
    cluster_id: str
    tenant_keys: TenantKeys | None = None

    @property
    def keys(self) -> TenantKeys:
        """The keys of this service's tenants; raises CannotStart where no file of keys is named."""
        if self.tenant_keys is None:
            raise CannotStart(
                "KEEPWORD_KEY_ENCRYPTION_KEYS_FILE: name the file with this service's"
                " key-encryption keys; `keepword up` makes one on a laptop"
            )
        return self.tenant_keys


@dataclass(frozen=True, slots=True)
class Running(Generic[C]):
    """A service whose doors are open; routes find it by `running`."""

    resources: Resources
    units: Units[C]
    context: C
    wake_job: Callable[[str], None]


@dataclass(slots=True)
class Service(Generic[C]):
    """The parts that make one service; `run` does the rest."""

    settings: ServiceSettings
    data_map: DataMap
    handlers: Handlers[C]
    topics: Sequence[Topic]
    context: Callable[[Resources], C]
    restate: Callable[[Units[C]], Awaitable[None]]
    routers: Sequence[APIRouter] = ()
    # Pages and routes for staff: there where they can sign on, and on a laptop.
    staff_routers: Sequence[APIRouter] = ()
    # Addresses whose requests may carry more than others, and how many bytes.
    larger_bodies: Mapping[str, int] = field(default_factory=dict)
    # Tried before all others, and not by way of FastAPI: for what is asked thousands of times a second.
    plain_routes: Sequence[Route] = ()
    # Part of an OpenAPI document: what plain Starlette routes among them have to say.
    openapi: Mapping[str, Any] = field(default_factory=dict)
    # Headers of every answer at a path, also where the route is never reached.
    headers_of: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    # The origin of pages served elsewhere, whose scripts may call this service by their sessions,
    # and below which addresses.
    pages_origin: str | None = None
    pages_paths: Sequence[str] = ("",)
    jobs: Callable[[Running[C]], Sequence[Job]] = lambda _: ()
    erases: Erases | None = None
    on_ledger_entry: OnEntry[C] | None = None
    # After a restore, before anything else: make up for what this database lost. A start that is
    # cut off does it again.
    take_over: Callable[[Running[C], KafkaAccess], Awaitable[None]] | None = None
    # Purger keeps the ledger, so it waits for none, and says how long it is when it starts.
    waits_for_ledger: bool = True
    on_start: Callable[[Running[C]], Awaitable[None]] | None = None
    # Doors that are not HTTP, open from the start to the stop.
    other_doors: Callable[[Running[C]], AbstractAsyncContextManager[object]] | None = None
    # SQL that gives tenant_id, epoch, n: at which version this service knows each tenant.
    census_versions: str = FOLLOWED_VERSIONS
    pool_size: int = 10
    # The folder with its migrations, where that is not in its package.
    migrations: Path | None = None
    metrics: Metrics = field(default_factory=Metrics)
    health: Health = field(default_factory=Health)

    async def run(self, *, stop: asyncio.Event | None = None) -> None:
        """Run until a signal or ``stop``; raises what made the start impossible."""
        settings = self.settings
        logs.configure(settings.service, settings.log_level)
        tracing.configure(settings.service, settings.otlp_endpoint)
        core = _Core(self)
        app = build_app(self, core.doors)
        core.app = app
        http = HttpServer(
            edge_of(self, app, core.doors),
            host=settings.http_host,
            port=settings.http_port,
            # On a laptop nobody but the stack itself keeps connections, and it need not wait.
            lets_go_for=timedelta() if settings.development else _LETS_GO_FOR,
        )
        log.info("http listens", port=http.port)
        try:
            await run_until_stopped([core, http], stop=stop)
        finally:
            await tracing.shutdown()


def run_main(build: Callable[[], Service[Any]]) -> int:
    """Build a service and run it until it is stopped; return the process's exit status.

    0 after a clean stop, 1 when it failed, 2 for settings that cannot work, each of which is named
    on the standard error, and for anything else around it that it cannot start with.
    """
    try:
        service = build()
    except BadSettings as refused:
        for complaint in refused.complaints:
            sys.stderr.write(f"{complaint}\n")
        return CANNOT_START
    return shutdown.main(service.run)


def running(request: Request) -> Running[Any]:
    """Return the running service, in a route; doors are closed before there is one."""
    found: Running[Any] = request.app.state.running
    return found


def build_app(service: Service[Any], doors: asyncio.Event) -> FastAPI:
    """Return the HTTP edge of a service: its own routes, probes and figures, problems for errors."""
    settings = service.settings
    app = FastAPI(
        title=f"Keepword {settings.service}",
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json" if settings.development else None,
        telemetry=tracing.FASTAPI_TELEMETRY,
    )
    answer_with_problems(app)
    tell_the_truth(app, service.openapi)
    for router in service.routers:
        app.include_router(router)
    if settings.staff or settings.development:
        provider = Provider(settings.staff) if settings.staff else None
        door = Door(
            settings.service, settings.public_url, provider, services=settings.staff_services
        )
        everywhere = (*dead_letters_routers(settings.service), records_router(settings.service))
        let_staff_in(app, door, (*service.staff_routers, *everywhere))
    service.health.add_readiness(
        "doors", lambda: None if doors.is_set() else "starting: waiting for database, kafka, ledger"
    )
    app.router.routes[:0] = service.plain_routes
    app.router.routes.extend(probe_routes(service.health, service.metrics))
    return app


def edge_of(service: Service[Any], app: ASGIApp, doors: asyncio.Event) -> ASGIApp:
    """Return what stands before all routes of a service: limits, closed doors, who may read answers."""
    inner = PlainRoutes(app, service.plain_routes) if service.plain_routes else app
    edge: ASGIApp = Doors(
        BodyLimit(inner, most_bytes=_MOST_BODY_BYTES, larger=service.larger_bodies), doors
    )
    if service.pages_origin is not None:
        # Outside of all that refuses, so that a page can read why.
        edge = CalledByPages(edge, service.pages_origin, service.pages_paths)
    return HttpEdge(edge, service.metrics, headers_of=service.headers_of)


class CalledByPages:
    """ASGI middleware that lets the scripts of one origin read answers below some addresses."""

    def __init__(self, app: ASGIApp, origin: str, paths: Sequence[str]) -> None:
        self._app = app
        self._paths = paths
        self._readable = CORSMiddleware(
            app,
            allow_origins=[origin],
            allow_methods=["DELETE", "GET", "POST", "PUT"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "If-Match"],
            expose_headers=["ETag", "Location", "Retry-After"],
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, readable from elsewhere or not."""
        is_readable = scope["type"] == "http" and any(
            f"{scope['path']}/".startswith(f"{path}/") for path in self._paths
        )
        await (self._readable if is_readable else self._app)(scope, receive, send)


class PlainRoutes:
    """ASGI middleware that serves routes of which nothing is for FastAPI to do, without its layers.

    The application has them too, and answers whatever is no full match.
    """

    def __init__(self, app: ASGIApp, routes: Sequence[Route]) -> None:
        self._app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request by the first route that fits; its problem is its answer."""
        for route in self._routes if scope["type"] == "http" else ():
            match, found = route.matches(scope)
            if match is not Match.FULL:
                continue
            scope.update(found, app=self._app)
            try:
                await route.handle(scope, receive, send)
            except Problem as problem:
                await problem.response()(scope, receive, send)
            return
        await self._app(scope, receive, send)


class Doors:
    """ASGI middleware that answers 503 until the service may be given work."""

    def __init__(self, app: ASGIApp, doors: asyncio.Event) -> None:
        self._app = app
        self._doors = doors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in when the doors are open; probes always."""
        if scope["type"] != "http" or self._doors.is_set() or scope["path"] in _ALWAYS_OPEN:
            await self._app(scope, receive, send)
            return
        problem = Problem(
            503, detail="This service is starting. Try again.", headers={"retry-after": "2"}
        )
        await problem.response()(scope, receive, send)


class _Core(Generic[C]):
    """Everything but HTTP: pools, ledger, relay, consumers, jobs, opened and closed in order."""

    name = "core"

    def __init__(self, service: Service[C]) -> None:
        self._service = service
        self._settings = service.settings
        self._kafka = KafkaAccess.of(service.settings)
        self.doors = asyncio.Event()
        self.app: FastAPI | None = None
        self._asked_to_stop = asyncio.Event()
        self._relay: Relay | None = None
        self._ledger_is_broken = False

    def _stop_for_the_ledger(self) -> None:
        """Serve nobody any more: who is to be erased next cannot be known."""
        self._ledger_is_broken = True
        self.doors.clear()
        self._asked_to_stop.set()

    async def stop(self) -> None:
        """Close the doors and let `run` come to its end."""
        self.doors.clear()
        self._asked_to_stop.set()

    async def run(self) -> None:
        """Open everything in order, wait to be stopped, close it in the opposite order."""
        async with AsyncExitStack() as stack:
            starting = asyncio.create_task(self._start(stack))
            waiting = asyncio.create_task(self._asked_to_stop.wait())
            try:
                await asyncio.wait({starting, waiting}, return_when=asyncio.FIRST_COMPLETED)
                if not starting.done():
                    starting.cancel()
                with suppress(asyncio.CancelledError):
                    await starting
                await waiting
                if self._ledger_is_broken:
                    raise LedgerBrokenError("an entry cannot be applied, the log says which")
            finally:
                starting.cancel()
                waiting.cancel()

    async def _start(self, stack: AsyncExitStack) -> None:
        service, settings = self._service, self._settings
        clock = _clock_of(settings)
        tenant_keys = _keys_of(settings)
        runtime = await self._pool(stack, "runtime", settings.database_url, service.pool_size)
        worker = await self._pool(stack, "worker", settings.worker_database_url, 5)
        eraser = await self._pool(stack, "eraser", settings.eraser_database_url, 2)
        self._watch_database(runtime)
        await self._wait_for_migrations(runtime)
        async with worker.acquire() as connection:
            await connection.execute(
                "SELECT outbox_make_partitions($1::date, 8)", clock.wall().date()
            )
            await connection.execute(
                "SELECT audit_make_partitions($1::date, 2)", clock.wall().date()
            )
        cluster_id = await self._kafka.wait()
        await self._kafka.wait_for_topics(self._topics())
        async with worker.acquire() as connection:
            epoch = await epoch_in(connection, cluster_id, wall=clock.wall())
        resources = Resources(
            settings=settings,
            clock=clock,
            metrics=service.metrics,
            runtime=runtime,
            worker=worker,
            cluster_id=cluster_id,
            tenant_keys=tenant_keys,
        )
        context = service.context(resources)
        units = Units(settings.service, runtime, clock, context, self._wake_relay, service.metrics)
        wakes: dict[str, Callable[[], None]] = {}
        this = Running(resources, units, context, lambda name: wakes[name]())

        if service.take_over is not None and epoch.is_behind:
            await service.take_over(this, self._kafka)
        if service.waits_for_ledger:
            await self._apply_ledger(stack, units, cluster_id)
        await self._start_relay(stack, units)
        if service.on_start is not None:
            await service.on_start(this)
        census = Census(units, eraser, service.data_map, service.census_versions)
        consumer = await self._start_consumer(stack, units, cluster_id, census)
        self._start_jobs(stack, this, eraser, census, consumer=consumer, wakes=wakes)
        if service.other_doors is not None:
            await stack.enter_async_context(service.other_doors(this))
        assert self.app is not None
        self.app.state.running = this
        # What is alive now stays: the collector need not look at it again with each pass.
        gc.collect()
        gc.freeze()
        self.doors.set()
        log.info("doors open")

    async def _pool(self, stack: AsyncExitStack, role: str, url: Any, size: int) -> Pool:
        try:
            pool = await open_pool_patiently(
                url.get_secret_value(), name=f"{self._settings.service} {role}", max_size=size
            )
        except REFUSALS as refused:
            variable = f"{PREFIX}{'' if role == 'runtime' else f'{role.upper()}_'}DATABASE_URL"
            raise CannotStart(
                f"{variable}: the server refuses its role, its password or the name of the database"
                f" ({type(refused).__name__}); correct the Secret and start again"
            ) from None
        stack.push_async_callback(_close, pool)
        return pool

    async def _wait_for_migrations(self, pool: Pool) -> None:
        """Return when the database has the shape that this code needs, or raise CannotStart."""
        name = self._service.data_map.service
        command = f"`keepword migrate {name}`"
        deadline = asyncio.get_running_loop().time() + _MIGRATED_WITHIN_SECONDS
        while True:
            try:
                async with pool.acquire() as connection:
                    missing = await behind(connection, name, own=self._service.migrations)
            except DatabaseTooNewError as newer:
                raise CannotStart(
                    f"the database is of a newer release that this one cannot follow: {newer};"
                    " start the newer release again"
                ) from None
            if not missing:
                return
            if asyncio.get_running_loop().time() > deadline:
                raise CannotStart(
                    f"the database is older than this release: run {command}, or see why the"
                    " migration's Job has not"
                )
            log.warning("database older than this release, waiting for its migration", run=command)
            await asyncio.sleep(2)

    def _topics(self) -> set[str]:
        """Name the topics without which this service cannot do its part."""
        service = self._settings.service
        written = {topic.name for topic in ALL_TOPICS if topic.owner == service}
        return written | {topic.name for topic in subscriptions(service)}

    def _watch_database(self, pool: Pool) -> None:
        async def answers() -> str | None:
            try:
                await pool.fetchval("SELECT 1")
            except TRANSIENT_ERRORS as error:
                return f"database does not answer: {type(error).__name__}"
            return None

        self._service.health.add_readiness("database", answers)

    def _wake_relay(self) -> None:
        if self._relay is not None:
            self._relay.wake()

    async def _apply_ledger(self, stack: AsyncExitStack, units: Units[C], cluster_id: str) -> None:
        service = self._service
        steps = service.erases.steps if service.erases else {}
        consumer = Consumer(
            name=f"{self._settings.service}.ledger.v1",
            topics=[PURGER_LEDGER],
            handlers=ledger_handlers(self._settings.service, steps, service.on_ledger_entry),
            units=units,
            metrics=service.metrics,
            cluster_id=cluster_id,
            passes_failures_by=False,
            on_halt=self._stop_for_the_ledger,
        )
        await self._run_consumer(stack, consumer, "ledger")
        number = await wait_until_applied(
            units.pool, self._kafka, consumer=consumer.name, cluster_id=cluster_id
        )
        log.info("ledger applied", number=number)

    async def _start_consumer(
        self, stack: AsyncExitStack, units: Units[C], cluster_id: str, census: Census[C]
    ) -> Consumer[C] | None:
        service = self._service
        if not service.topics:
            return None
        consumer = Consumer(
            name=main_group(self._settings.service),
            topics=(*service.topics, REPLAYS[self._settings.service]),
            handlers=with_doubts(service.handlers, census),
            units=units,
            metrics=service.metrics,
            cluster_id=cluster_id,
        )
        await self._run_consumer(stack, consumer, "consumer")
        return consumer

    async def _run_consumer(self, stack: AsyncExitStack, consumer: Consumer[C], name: str) -> None:
        broker = self._kafka.consuming_broker()
        consumer.subscribe(broker)
        # FastStream leaves no consumer behind when it cannot start, and `wait` saw Kafka answer.
        await broker.start()
        stack.push_async_callback(broker.stop)
        stack.callback(consumer.release)
        checks = self._service.health
        checks.add_liveness(name, lambda: None if consumer.alive() else "its task has ended")
        checks.add_readiness(
            f"{name} assigned",
            lambda: None if consumer.assigned() else "its group has not given it a share yet",
        )
        checks.add_readiness(
            f"{name} running", lambda: "halted, see the log" if consumer.halted else None
        )

    async def _start_relay(self, stack: AsyncExitStack, units: Units[C]) -> None:
        settings = self._settings

        async def restate() -> None:
            await self._service.restate(units)

        relay = Relay(
            database_url=settings.worker_database_url.get_secret_value(),
            kafka=self._kafka,
            clock=units.clock,
            metrics=self._service.metrics,
            restate=restate,
        )
        self._relay = relay
        task = asyncio.create_task(relay.run(), name="relay")

        async def finish() -> None:
            relay.stop()
            with suppress(TimeoutError):
                await asyncio.wait_for(task, timeout=5)

        stack.push_async_callback(finish)
        metrics = self._service.metrics
        # All replicas have it at once, and each still takes work into its own database.
        self._service.health.add_warning(
            "relay",
            lambda: (
                f"oldest unsent message waits for {relay_age:.0f} s"
                if (relay_age := metrics.outbox_oldest_seconds._value.get())  # noqa: SLF001 - the gauge is the only place that knows it
                > _RELAY_IS_STUCK_AFTER_SECONDS
                else None
            ),
        )

    def _start_jobs(
        self,
        stack: AsyncExitStack,
        this: Running[C],
        eraser: Pool,
        census: Census[C],
        *,
        consumer: Consumer[C] | None,
        wakes: dict[str, Callable[[], None]],
    ) -> None:
        service = self._service
        housekeeping = Housekeeping(
            this.units.clock,
            this.resources.worker,
            service.metrics,
            this.resources.tenant_keys,
            this.resources.settings.certificates,
            _audit_keeping(this.resources.settings),
        )
        jobs = [*service.jobs(this), *housekeeping.jobs()]
        if consumer is not None:
            jobs.append(Redrives(this.units, {consumer.name: consumer.redrive}).job())
        if state_models(this.units.service):
            jobs.append(Job("heartbeat", _HEARTBEAT_EVERY, lambda: beat(this.units)))
        if census.classes:
            jobs.append(Job("take census", TAKEN_EVERY, census.take))
        if service.erases is not None:
            eraser_job = EraserJob(
                units=this.units,
                worker=this.resources.worker,
                eraser=eraser,
                data_map=service.data_map,
                key_class=service.erases.key_class,
                ready=service.erases.ready,
                attested=service.erases.attested,
            )
            jobs.append(Job("erase", timedelta(seconds=1), eraser_job.run))
        if isinstance(this.units.clock, OffsetClock):
            jobs.append(notice_moved_time(this.units.clock, tuple(jobs), wakes))
        runner = JobRunner(jobs, service.metrics)
        for job in jobs:
            wakes[job.name] = lambda name=job.name: runner.wake(name)  # type: ignore[misc]
        runner.start()
        stack.push_async_callback(runner.stop)


async def _close(pool: Pool) -> None:
    try:
        await asyncio.wait_for(pool.close(), timeout=5)
    except TimeoutError:
        pool.terminate()


def _audit_keeping(settings: ServiceSettings) -> AuditKeeping:
    key, syslog = settings.audit_key_file, settings.audit_syslog
    try:
        signer = TokenSigner.load(key) if key else None
    except BadSigningKeys as bad:
        raise CannotStart(f"{PREFIX}AUDIT_KEY_FILE: {bad}") from None
    return AuditKeeping(
        settings.service,
        settings.audit_file,
        signer,
        Syslog(settings.service, syslog) if syslog else None,
    )


def _clock_of(settings: ServiceSettings) -> Clock:
    if settings.clock_offset_file is not None:
        return OffsetClock(settings.clock_offset_file)
    return SystemClock()


def _keys_of(settings: ServiceSettings) -> TenantKeys | None:
    path = settings.key_encryption_keys_file
    try:
        return TenantKeys(settings.service, KeyEncryptionKeys.load(path)) if path else None
    except BadKeysFile as bad:
        raise CannotStart(f"{PREFIX}KEY_ENCRYPTION_KEYS_FILE: {bad}") from None
