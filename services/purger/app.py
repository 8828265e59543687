"""Puts purger together from its settings."""

from collections.abc import Sequence
from datetime import timedelta

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
from services.purger.context import Context
from services.purger.data_map import DATA_MAP
from services.purger.figures import HoldFigures
from services.purger.handlers import handlers
from services.purger.jobs import Sweeps, count_held_job, restart, restate
from services.purger.ledger_key import LedgerKey
from services.purger.privacy_routes import router as privacy_router
from services.purger.reconciliation import ReconciliationFigures, reconciliation_jobs
from services.purger.routes import development_router, router
from services.purger.settings import PurgerSettings
from services.purger.takeover import take_over


def build(settings: PurgerSettings) -> Service[Context]:
    """Return purger, ready to run; raises ``BadLedgerKey`` where the ledger cannot be signed."""
    ledger_key = LedgerKey.load(settings.ledger_key_file)

    def context(_: Resources) -> Context:
        return Context(
            retention=settings.retention,
            ledger_key=ledger_key,
            silence=timedelta(seconds=settings.ask_again_seconds),
        )

    def jobs(this: Running[Context]) -> Sequence[Job]:
        sweeps = Sweeps(this.units, this.resources.cluster_id)
        registry = this.resources.metrics.registry
        return (
            *sweeps.jobs(sweep_every=timedelta(seconds=settings.sweep_seconds)),
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
        routers=(router, development_router, privacy_router) if settings.development else (router,),
        jobs=jobs,
        waits_for_ledger=False,
        take_over=take_over,
        on_start=on_start,
    )


def main() -> int:
    """Run purger until it is stopped; return the process's exit status."""
    return run_main(lambda: build(PurgerSettings.load()))
