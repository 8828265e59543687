"""Puts purger together from its settings."""

from collections.abc import Sequence
from datetime import timedelta

from chassis.health import Health
from chassis.jobs import Job
from chassis.service import Resources, Running, Service, run_main
from contracts.topics import (
    CONFIG_CENSUSES,
    CONFIG_ERASURES,
    CONFIG_REQUESTS,
    INSTALLER_CENSUSES,
    INSTALLER_ERASURES,
    INSTALLER_TENANTS,
    NOTIFIER_CENSUSES,
    NOTIFIER_ERASURES,
)
from services.purger.chain import ChainWatch
from services.purger.context import Context
from services.purger.data_map import DATA_MAP
from services.purger.figures import HoldFigures, LedgerFigures, PurgeFigures
from services.purger.handlers import handlers
from services.purger.jobs import Sweeps, count_held_job, restart, restate
from services.purger.ledger_key import LedgerKeyFile
from services.purger.reconciliation import ReconciliationFigures, reconciliation_jobs
from services.purger.reminders import reminders_job
from services.purger.routes import brake
from services.purger.routes.board import board_router
from services.purger.routes.pages import Pages
from services.purger.routes.privacy import router as privacy_router
from services.purger.routes.receipts import receipts_router
from services.purger.settings import PurgerSettings
from services.purger.takeover import take_over
from services.purger.watch import Watch


def build(settings: PurgerSettings) -> Service[Context]:
    """Return purger, ready to run; raises ``BadLedgerKey`` where the ledger cannot be signed."""
    ledger_key = LedgerKeyFile(settings.ledger_key_file)
    health = Health()
    pages = Pages()
    public = (receipts_router(pages, public_url=settings.public_url), pages.router())

    def context(_: Resources) -> Context:
        return Context(
            retention=settings.retention,
            ledger_key=ledger_key.current,
            silence=timedelta(seconds=settings.ask_again_seconds),
        )

    def jobs(this: Running[Context]) -> Sequence[Job]:
        sweeps = Sweeps(this.units, this.resources.cluster_id)
        registry = this.resources.metrics.registry
        watch = Watch(this.units, PurgeFigures(registry))
        health.add_warning("sweep", watch.nobody_sweeps)
        chain = ChainWatch(this.units, LedgerFigures(registry), settings.checkpoint_file)
        return (
            *sweeps.jobs(sweep_every=timedelta(seconds=settings.sweep_seconds)),
            *watch.jobs(),
            reminders_job(this.units),
            *chain.jobs(),
            *reconciliation_jobs(this.units, ReconciliationFigures(registry)),
            count_held_job(this.units, HoldFigures(registry)),
        )

    async def on_start(this: Running[Context]) -> None:
        await restart(this.units, this.resources.cluster_id)

    return Service(
        settings=settings,
        data_map=DATA_MAP,
        handlers=handlers,
        topics=(
            INSTALLER_TENANTS,
            INSTALLER_ERASURES,
            CONFIG_ERASURES,
            NOTIFIER_ERASURES,
            INSTALLER_CENSUSES,
            CONFIG_CENSUSES,
            NOTIFIER_CENSUSES,
            CONFIG_REQUESTS,
        ),
        context=context,
        restate=restate,
        routers=public,
        staff_routers=(brake.router, privacy_router, board_router(pages)),
        jobs=jobs,
        waits_for_ledger=False,
        take_over=take_over,
        on_start=on_start,
        health=health,
    )


def main() -> int:
    """Run purger until it is stopped; return the process's exit status."""
    return run_main(lambda: build(PurgerSettings.load()))
