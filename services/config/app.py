"""Puts config together from its settings."""

from chassis.metrics import Metrics
from chassis.service import Erases, Resources, Running, Service, run_main
from chassis.sessions import Sessions
from chassis.tokens import PublishedKeys
from chassis.unit_of_work import Units
from contracts.classes import DataClass
from contracts.topics import INSTALLER_TENANTS, PURGER_CENSUSES, PURGER_COMMANDS, PURGER_PURGES
from services.config.context import AUDIENCE, STEP, Context
from services.config.data_map import DATA_MAP
from services.config.domain.kinds import KINDS
from services.config.handlers import handlers
from services.config.jobs import Forgetting, WatchingGrants, usage_job
from services.config.moves import Moves, note_ledger_entry, ready_to_erase
from services.config.routes import erasure_requests, exports, imports, openapi, usage
from services.config.routes.errors import ENVELOPES, OPENAPI, READABLE, ErrorDoor
from services.config.routes.export_links import ExportLinkDoor
from services.config.routes.faults import staff_routers
from services.config.routes.grants import grant_routers
from services.config.routes.history import HistoryRoutes
from services.config.routes.screens import screens_routers, transfer
from services.config.routes.statistics import statistics_router
from services.config.routes.things import ThingRoutes
from services.config.settings import ConfigSettings
from services.config.store import errors as error_store


def build(settings: ConfigSettings) -> Service[Context]:
    """Build the service; nothing is opened before it runs."""
    metrics = Metrics()
    errors = ErrorDoor(settings, metrics.registry)
    watching = WatchingGrants(metrics.registry)
    export_keys = (
        PublishedKeys(settings.export_jwks_url, settings.egress.client)
        if settings.export_jwks_url
        else None
    )

    def context(resources: Resources) -> Context:
        return Context(
            keys=resources.keys,
            sessions=Sessions(
                PublishedKeys(settings.session_jwks_url, settings.egress.client),
                settings.session_issuer,
                AUDIENCE,
            ),
            limits=settings.limits,
            export_keys=export_keys,
            data_location=settings.data_location,
        )

    return Service(
        settings=settings,
        data_map=DATA_MAP,
        handlers=handlers,
        topics=(INSTALLER_TENANTS, PURGER_COMMANDS, PURGER_PURGES, PURGER_CENSUSES),
        context=context,
        restate=_restate,
        routers=(
            *(ThingRoutes(kind).router() for kind in KINDS),
            *(HistoryRoutes(kind).router() for kind in KINDS),
            exports.router,
            ExportLinkDoor(metrics.registry).router(),
            imports.router,
            erasure_requests.router,
            usage.router,
            errors.router(),
            *screens_routers(),
        ),
        staff_routers=(*staff_routers(), statistics_router(), *grant_routers()),
        larger_bodies={**imports.LARGER_BODIES, **transfer.LARGER_BODIES},
        plain_routes=errors.plain_routes(),
        openapi={**openapi.describe(), **OPENAPI},
        headers_of={ENVELOPES: READABLE},
        pages_origin=settings.pages_origin,
        jobs=lambda this: (
            *Moves(this.units, this.resources.worker).jobs(),
            *Forgetting(this.units.clock, this.resources.worker).jobs(),
            usage_job(this.units.clock, this.resources.worker),
            watching.job(this),
            *errors.jobs(this),
        ),
        on_start=_make_weeks,
        erases=Erases(
            steps={DataClass.CONTENT: STEP, DataClass.ERRORS: STEP},
            key_class=DataClass.CONTENT,
            ready=ready_to_erase,
        ),
        on_ledger_entry=note_ledger_entry,
        metrics=metrics,
    )


async def _make_weeks(this: Running[Context]) -> None:
    """Have a place for the reports of this week before the first one comes."""
    today = this.units.clock.now().date()
    await error_store.make_weeks(this.resources.worker, today=today)


async def _restate(_: Units[Context]) -> None:
    """Config tells nobody any state."""


def main() -> int:
    """Run config until it is stopped; return the process's exit status."""
    return run_main(lambda: build(ConfigSettings.load()))
