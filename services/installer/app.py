"""Composes the installer from its settings."""

import time

import httpx2

from chassis.service import Erases, Resources, Service, run_main
from chassis.settings import PREFIX, BadSettings
from connect.install_keys import InstallKeys
from connect.signed_install import SignedInstalls
from contracts.classes import DataClass
from contracts.topics import PURGER_COMMANDS
from services.installer.data_map import DATA_MAP
from services.installer.door import Door
from services.installer.handlers import follow_ledger, handlers, restate
from services.installer.routes.development import development_router
from services.installer.routes.lifecycle import AppDoor, lifecycle_router
from services.installer.routes.sessions import sessions_router
from services.installer.sessions import BadSessionKey, SessionSigner
from services.installer.settings import App, InstallerSettings

ERASES = Erases(steps={DataClass.INSTALLATION: "erase-installer"}, key_class=DataClass.INSTALLATION)


def build(settings: InstallerSettings) -> Service[Door]:
    """Put the service together; raises ``BadSettings`` for a session key that cannot be used."""
    signer = _signer(settings)
    keys = InstallKeys(_client_of_key_host(), settings.install_keys_url)
    apps = {app.key: _app_door(settings, app, keys) for app in settings.apps}
    routers = [lifecycle_router(apps, settings.site_hosts), sessions_router(signer)]
    if settings.development:
        routers.append(development_router(signer))
    return Service(
        settings=settings,
        data_map=DATA_MAP,
        handlers=handlers,
        topics=(PURGER_COMMANDS,),
        context=_context,
        restate=restate,
        routers=routers,
        erases=ERASES,
        on_ledger_entry=follow_ledger,
    )


def main() -> int:
    """Run the installer until it is stopped; return the process's exit status."""
    return run_main(lambda: build(InstallerSettings.load()))


def _context(resources: Resources) -> Door:
    return Door(keys=resources.keys)


def _app_door(settings: InstallerSettings, app: App, keys: InstallKeys) -> AppDoor:
    # Tokens are Atlassian's, so their times are of the real world, whatever business time is.
    gate = SignedInstalls(keys, app.key, [settings.base_url_of(app)], now=time.time)
    return AppDoor(gate, settings.descriptor_of(app).to_json())


def _client_of_key_host() -> httpx2.AsyncClient:
    # Each key is fetched once, so no connection is kept, and none is left to be closed.
    return httpx2.AsyncClient(limits=httpx2.Limits(max_keepalive_connections=0))


def _signer(settings: InstallerSettings) -> SessionSigner:
    try:
        return SessionSigner.load(settings.session_key_file)
    except BadSessionKey as bad:
        raise BadSettings([f"{PREFIX}SESSION_KEY_FILE: {bad}"]) from None
