"""Which member of staff may do what: `docs/access.md`, made of the routes themselves."""

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from fastapi import FastAPI

from chassis.service import Service, build_app
from chassis.staff.access import StaffRoute, staff_routes
from chassis.staff.people import Role
from devstack.key_files import ensure_signing_key
from services.config.app import build as build_config
from services.config.settings import ConfigSettings
from services.installer.app import build as build_installer
from services.installer.settings import App, InstallerSettings
from services.notifier.app import build as build_notifier
from services.notifier.settings import NotifierSettings
from services.purger.app import build as build_purger
from services.purger.settings import PurgerSettings

PAGE: Final = Path(__file__).parents[1] / "docs" / "access.md"

_HEAD: Final = """# Which of our staff may do what

Made of the code by `python -m cli.staff`; a test calls each of these with every role and without one. A route of staff's
names its roles beside it, with `@allowed`. One that names none cannot be registered, and whatever is not below `/staff`
is not for staff. How they sign on: [0050](decisions/0050-staff-sign-on.md). Doors for Kafka, the databases, probes and
figures need no person, and show none of this.

| role | is there for |
|---|---|
| support | answers one customer's question |
| developer | mends what is broken |
| privacy | holds, early erasures, the privacy policy |
| marketing | news of products |
| operator | keeps the services running |
"""
_NOWHERE: Final = "postgresql://role:password@127.0.0.1:1/none"


def services_of(folder: Path) -> Mapping[str, Service[Any]]:
    """Build the four services, with settings that lead nowhere and keys in ``folder``."""
    key = ensure_signing_key(folder / "key.pem")
    shared: dict[str, Any] = {
        "database_url": _NOWHERE,
        "worker_database_url": _NOWHERE,
        "eraser_database_url": _NOWHERE,
        "kafka_bootstrap_servers": "127.0.0.1:1",
        "http_port": 0,
        "public_url": "https://keepword.example.com",
        # Not of a provider: what is open in production is what is open here.
        "development": True,
    }
    built: tuple[Service[Any], ...] = (
        build_installer(
            InstallerSettings(
                **shared, apps=(App(key="com.example.app", name="Example"),), session_key_file=key
            )
        ),
        build_config(ConfigSettings(**shared, session_jwks_url="https://keepword.example.com")),
        build_purger(PurgerSettings(**shared, ledger_key_file=key)),
        build_notifier(
            NotifierSettings(
                **shared,
                smtp_host="127.0.0.1",
                smtp_port=1,
                mail_from="privacy@example.com",
                purger_public_url="https://keepword.example.com",
                session_jwks_url="https://keepword.example.com",
                tickets="none",
            )
        ),
    )
    return {service.settings.service: service for service in built}


def app_of(service: Service[Any]) -> FastAPI:
    """Return the HTTP edge of a service that does not run."""
    return build_app(service, asyncio.Event())


def page_of(routes: Mapping[str, list[StaffRoute]]) -> str:
    """Write down, service by service, what each role may do."""
    return "\n".join([_HEAD, *_tables(routes)])


def _tables(routes: Mapping[str, list[StaffRoute]]) -> Iterator[str]:
    head = " | ".join(Role)
    for service, found in routes.items():
        yield f"## {service}\n\n| | | what it does | {head} |\n|---|---|---|{'---|' * len(Role)}"
        for each in sorted(found, key=lambda route: (route.path, route.method)):
            marks = " | ".join("yes" if role in each.roles else "" for role in Role)
            yield f"| {each.method} | `{each.path}` | {each.does} | {marks} |"
        yield ""


def present_page() -> str:
    """Say what `docs/access.md` has to hold."""
    with TemporaryDirectory() as folder:
        return page_of(
            {
                name: list(staff_routes(app_of(service).routes))
                for name, service in services_of(Path(folder)).items()
            }
        )


if __name__ == "__main__":
    PAGE.write_text(present_page(), encoding="utf-8")
