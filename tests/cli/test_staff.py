"""What the page of access says is what happens: each route, each role, and nobody."""

import re
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import httpx2
from fastapi import FastAPI

from chassis.staff.access import staff_routes
from chassis.staff.door import Door
from chassis.staff.people import Role
from chassis.staff.provider import Client, Provider
from cli import staff
from tests.support.provider import ISSUER, SECRET, StrictProvider

ROW = re.compile(r"^\| ([A-Z]+) \| `([^`]+)` \|[^|]*\|(.*)\|$")
GROUPS = {role: f"kw-{role}" for role in Role}
NOBODY = "nobody"
AWAY = "the service behind does not run"


def documented() -> dict[tuple[str, str, str], frozenset[Role]]:
    """Read the page of access: service, method and path with their roles."""
    found, service = {}, ""
    for line in staff.PAGE.read_text("utf-8").splitlines():
        if line.startswith("## "):
            service = line.removeprefix("## ")
        if row := ROW.match(line):
            marks = [cell.strip() for cell in row[3].split("|")]
            roles = {role for role, mark in zip(Role, marks, strict=True) if mark == "yes"}
            found[service, row[1], row[2]] = frozenset(roles)
    return found


def test_the_page_says_what_is_declared() -> None:
    assert staff.PAGE.read_text("utf-8") == staff.present_page()


class Away:
    """What lies behind the doors: to have come this far is all that is asked."""

    def __getattr__(self, _: str) -> Any:
        raise RuntimeError(AWAY)


def behind_a_provider(app: FastAPI, service: str, provider: StrictProvider, secret: Path) -> None:
    transport = httpx2.ASGITransport(app=provider.app())
    client = Client(
        issuer=ISSUER,
        client_id=provider.client_id,
        secret_file=secret,
        command_id="keepword",
        groups=GROUPS,
        groups_claim="groups",
        second_factors=frozenset({"mfa"}),
        http=lambda: httpx2.AsyncClient(transport=transport),
    )
    app.state.door = Door(service, "https://here", Provider(client))
    clock = SimpleNamespace(wall=lambda: datetime.now(UTC), now=lambda: datetime.now(UTC))
    units = SimpleNamespace(clock=clock, pool=Away())
    app.state.running = SimpleNamespace(units=units, resources=Away(), context=Away())


async def test_every_route_lets_in_the_roles_of_the_page_and_nobody_else(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    expected, met = documented(), {}
    for service, built in staff.services_of(tmp_path).items():
        provider = StrictProvider()
        app = staff.app_of(built)
        behind_a_provider(app, service, provider, secret)
        tokens: dict[Role | str, dict[str, str]] = {NOBODY: {}, "without a group": {}}
        for role in Role:
            claims = provider.claims(aud="keepword", groups=[GROUPS[role]])
            tokens[role] = {"authorization": f"Bearer {provider.sign(claims)}"}
        ungrouped = provider.sign(provider.claims(aud="keepword", groups=[]))
        tokens["without a group"] = {"authorization": f"Bearer {ungrouped}"}
        transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="https://here") as client:
            for route in staff_routes(app.routes):
                path = re.sub(r"\{[^}]+\}", str(UUID(int=1)), route.path)
                got = {
                    who: (await client.request(route.method, path, headers=token)).status_code
                    for who, token in tokens.items()
                }
                assert got.pop(NOBODY) == 401, route
                assert got.pop("without a group") == 403, route
                assert 401 not in got.values(), route
                let_in = frozenset(Role(who) for who, status in got.items() if status != 403)
                met[service, route.method, route.path] = let_in
    assert met == expected
