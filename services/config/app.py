"""Puts config together from its settings."""

from chassis.service import Erases, Resources, Service, run_main
from chassis.sessions import InstallerKeys, Sessions
from chassis.unit_of_work import Units
from contracts.classes import DataClass
from contracts.topics import INSTALLER_TENANTS, PURGER_CENSUSES, PURGER_COMMANDS, PURGER_PURGES
from services.config.context import AUDIENCE, STEP, Context
from services.config.data_map import DATA_MAP
from services.config.domain.kinds import KINDS
from services.config.handlers import handlers
from services.config.jobs import Forgetting
from services.config.moves import Moves, note_ledger_entry, ready_to_erase
from services.config.routes import erasure_requests, exports, imports, openapi
from services.config.routes.history import HistoryRoutes
from services.config.routes.things import ThingRoutes
from services.config.settings import ConfigSettings


def build(settings: ConfigSettings) -> Service[Context]:
    """Build the service; nothing is opened before it runs."""

    def context(resources: Resources) -> Context:
        return Context(
            keys=resources.keys,
            sessions=Sessions(
                InstallerKeys(settings.session_jwks_url), settings.session_issuer, AUDIENCE
            ),
            limits=settings.limits,
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
            imports.router,
            erasure_requests.router,
        ),
        larger_bodies=imports.LARGER_BODIES,
        openapi=openapi.describe(),
        jobs=lambda this: (
            *Moves(this.units, this.resources.worker).jobs(),
            *Forgetting(this.units.clock, this.resources.worker).jobs(),
        ),
        erases=Erases(
            steps={DataClass.CONTENT: STEP, DataClass.ERRORS: STEP},
            key_class=DataClass.CONTENT,
            ready=ready_to_erase,
        ),
        on_ledger_entry=note_ledger_entry,
    )


async def _restate(_: Units[Context]) -> None:
    """Config tells nobody any state."""


def main() -> int:
    """Run config until it is stopped; return the process's exit status."""
    return run_main(lambda: build(ConfigSettings.load()))
