"""Composes the installer from its settings."""

import time
from collections.abc import Sequence
from datetime import timedelta

from chassis.egress import Client
from chassis.jobs import Job
from chassis.service import Erases, Resources, Running, Service, run_main
from chassis.settings import PREFIX, BadSettings
from chassis.signing import BadSigningKeys
from connect.forge import ForgeTokens
from connect.install_keys import InstallKeys
from connect.key_sets import KeySet
from connect.marketplace import ReportSource
from connect.product import ProductClient
from connect.signed_install import SignedInstalls
from contracts.classes import DataClass
from contracts.topics import CONFIG_ACCESSES, PURGER_CENSUSES, PURGER_COMMANDS
from services.installer.clients import Sites
from services.installer.data_map import DATA_MAP
from services.installer.door import Door
from services.installer.figures import DoorFigures
from services.installer.handlers import follow_ledger, handlers, restate
from services.installer.jobs.access import AccessFigures, AccessJobs
from services.installer.jobs.licences import LicenceFigures, LicenceJobs
from services.installer.jobs.secrets import secret_jobs
from services.installer.routes.development import development_router
from services.installer.routes.forge import ForgeDoor, forge_router
from services.installer.routes.licences import licences_router
from services.installer.routes.lifecycle import AppDoor, lifecycle_router
from services.installer.routes.openapi import describe
from services.installer.routes.pages import pages_router
from services.installer.routes.sessions import sessions_router
from services.installer.routes.tenants import staff_tenants_router
from services.installer.sessions import SessionSigner
from services.installer.settings import App, InstallerSettings
from services.installer.store import tenants as store
from services.installer.takeover import take_over

ERASES = Erases(steps={DataClass.INSTALLATION: "erase-installer"}, key_class=DataClass.INSTALLATION)


def build(settings: InstallerSettings) -> Service[Door]:
    """Put the service together; raises ``BadSettings`` for a session key that cannot be used."""
    signer = _signer(settings)
    keys = InstallKeys(_client_of_key_host(settings), settings.install_keys_url)
    apps = {app.key: _app_door(settings, app, keys) for app in settings.apps}
    routers = [
        lifecycle_router(apps, settings.site_hosts),
        forge_router(_forge_doors(settings), any_environment=settings.development),
        pages_router(settings, signer),
        sessions_router(apps.keys(), signer),
    ]
    if settings.development:
        routers.append(development_router(signer))
    return Service(
        settings=settings,
        data_map=DATA_MAP,
        handlers=handlers,
        topics=(PURGER_COMMANDS, PURGER_CENSUSES, CONFIG_ACCESSES),
        context=_context,
        restate=restate,
        routers=routers,
        staff_routers=(staff_tenants_router(list(apps)), licences_router),
        openapi=describe(settings),
        jobs=lambda this: _jobs(settings, this),
        erases=ERASES,
        on_ledger_entry=follow_ledger,
        census_versions=store.KNOWN_VERSIONS,
        take_over=take_over,
    )


def main() -> int:
    """Run the installer until it is stopped; return the process's exit status."""
    return run_main(lambda: build(InstallerSettings.load()))


def _context(resources: Resources) -> Door:
    return Door(keys=resources.keys, figures=DoorFigures(resources.metrics.registry))


def _jobs(settings: InstallerSettings, this: Running[Door]) -> Sequence[Job]:
    product = ProductClient(
        # Each of many sites is asked once a day, so no connection is kept and none left to be closed.
        settings.egress.client(at_once=settings.sites_at_once, keeps_connections=False)
    )
    access = AccessJobs(
        units=this.units,
        sites=Sites(product, per_second=settings.sites_per_second),
        figures=AccessFigures(this.resources.metrics.registry),
        at_once=settings.sites_at_once,
        lease=timedelta(seconds=settings.sites_lease_seconds),
    )
    licences = LicenceJobs(
        units=this.units,
        addon_keys=frozenset(app.key for app in settings.apps),
        source=_report_source(settings),
        figures=LicenceFigures(this.resources.metrics.registry),
        report_every=timedelta(seconds=settings.licence_report_seconds),
    )
    return (*access.jobs(), *licences.jobs(), *secret_jobs(this.units))


def _report_source(settings: InstallerSettings) -> ReportSource | None:
    developer_id, account = settings.marketplace_developer_id, settings.marketplace_account
    token_file = settings.marketplace_token_file
    if developer_id is None or account is None or token_file is None:
        return None
    return ReportSource(
        settings.marketplace_url, developer_id, account, token_file, settings.egress.client
    )


def _app_door(settings: InstallerSettings, app: App, keys: InstallKeys) -> AppDoor:
    # Tokens are Atlassian's, so their times are of the real world, whatever business time is.
    gate = SignedInstalls(keys, app.key, [settings.base_url_of(app)], now=time.time)
    return AppDoor(
        gate, settings.descriptor_of(app).to_json(), on_forge=app.forge_app_id is not None
    )


def _forge_doors(settings: InstallerSettings) -> dict[str, ForgeDoor]:
    keys = KeySet(_client_of_key_host(settings), settings.forge_keys_url)
    return {
        app.key: ForgeDoor(
            ForgeTokens(keys, [app.forge_app_id], now=time.time), app.forge_lifecycle_modules
        )
        for app in settings.apps
        if app.forge_app_id is not None
    }


def _client_of_key_host(settings: InstallerSettings) -> Client:
    # Each key is fetched once, so no connection is kept, and none is left to be closed.
    return settings.egress.client(keeps_connections=False)


def _signer(settings: InstallerSettings) -> SessionSigner:
    try:
        return SessionSigner.load(settings.session_key_file)
    except BadSigningKeys as bad:
        raise BadSettings([f"{PREFIX}SESSION_KEY_FILE: {bad}"]) from None
