"""A tenant of which nobody is known sees in its app what changes, and that is evidence."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from contracts.tenants import ClassState
from devstack.mail import MailSink
from devstack.postgres import Roles
from services.notifier.domain.people import Tenant
from services.notifier.domain.policies import Coverage
from services.notifier.store import evidence
from tests.connect.serving import serving
from tests.notifier.builders import NOW, Notifier, notifier_of
from tests.notifier.policy_texts import SECOND, SUMMARY, publish_in_force
from tests.support.sessions import Installer

PAGES = "https://apps.vendor.example"
NOTICE, SEEN = "/policy/notice", "/policy/notice/seen"


class Browser:
    """A customer's browser, with the installer that gives it sessions."""

    def __init__(self, notifier: Notifier, installer: Installer) -> None:
        self.notifier = notifier
        self.installer = installer

    async def looks(self, tenant_id: UUID, token: str | None = None) -> httpx2.Response:
        async with self.notifier.client() as client:
            return await client.get(NOTICE, headers=self._session(tenant_id, token))

    async def saw(self, tenant_id: UUID, told: Any) -> httpx2.Response:
        body = {"content": told} if isinstance(told, bytes) else {"json": {"revision": told}}
        async with self.notifier.client() as client:
            return await client.post(SEEN, headers=self._session(tenant_id, None), **body)

    def _session(self, tenant_id: UUID, token: str | None) -> dict[str, str]:
        given = self.installer.token(tenant_id) if token is None else token
        return {"authorization": f"Bearer {given}"} if given else {}

    async def covered(self, number: int = 1) -> Coverage:
        async with self.notifier.runtime.acquire() as connection:
            return await evidence.coverage(connection, number)

    async def sights(self) -> list[tuple[UUID, int, Any]]:
        rows = await self.notifier.runtime.fetch("SELECT * FROM policy_sights ORDER BY number")
        return [(row["tenant_id"], row["number"], row["seen_at"]) for row in rows]


@pytest.fixture
async def browsing(
    notifier: Notifier, notifier_roles: Roles, tmp_path: Path, sink: MailSink
) -> AsyncIterator[Browser]:
    installer = Installer.new()

    async def jwks(_: Request) -> JSONResponse:
        return JSONResponse(installer.jwks())

    # The fixture's own notifier has emptied the database; this one knows the installer's keys.
    async with (
        serving(Starlette(routes=[Route("/jwks.json", jwks)])) as url,
        notifier_of(
            notifier_roles,
            tmp_path,
            sink,
            session_jwks_url=f"{url}/jwks.json",
            installer_public_url=f"{PAGES}/behind/a/path",
        ) as opened,
    ):
        yield Browser(opened, installer)


async def test_a_tenant_without_contacts_sees_what_is_new_once_and_that_is_evidence(
    browsing: Browser,
) -> None:
    tenant_id, other = await browsing.notifier.tenant(), await browsing.notifier.tenant()
    assert (await browsing.looks(tenant_id)).status_code == 204
    await publish_in_force(browsing.notifier)

    notice = await browsing.looks(tenant_id)
    assert notice.status_code == 200
    assert notice.headers["cache-control"] == "no-store"
    assert notice.json() == {
        "revision": 1,
        "effective_on": f"{NOW:%Y-%m-%d}",
        "summary": {language.value: said for language, said in SUMMARY.items()},
        "url": "http://127.0.0.1/policy/1",
    }
    assert (await browsing.looks(tenant_id)).status_code == 200

    assert (await browsing.saw(tenant_id, 1)).status_code == 204
    browsing.notifier.clock.advance(timedelta(minutes=5))
    assert (await browsing.saw(tenant_id, 1)).status_code == 204
    assert await browsing.sights() == [(tenant_id, 1, NOW)]
    assert (await browsing.looks(tenant_id)).status_code == 204
    assert (await browsing.looks(other)).status_code == 200
    covered = await browsing.covered()
    assert (covered.uninformed, covered.seen_in_app) == (2, 1)
    async with browsing.notifier.client() as client:
        page = (await client.get("/staff/policies/1/coverage")).text
    assert "saw the notice in the app</dt><dd>1</dd>" in page

    await publish_in_force(browsing.notifier, SECOND)
    assert (await browsing.looks(tenant_id)).json()["revision"] == 2
    assert (await browsing.covered(2)).seen_in_app == 0


async def test_who_can_be_written_to_gets_no_notice(browsing: Browser) -> None:
    tenant_id = await browsing.notifier.tenant("ada@c.example")
    await publish_in_force(browsing.notifier)
    assert (await browsing.looks(tenant_id)).status_code == 204
    covered = await browsing.covered()
    assert (covered.contacts, covered.uninformed, covered.seen_in_app) == (1, 0, 0)


async def test_the_session_decides_and_nothing_else(browsing: Browser) -> None:
    tenant_id, notifier = await browsing.notifier.tenant(), browsing.notifier
    await publish_in_force(notifier)
    installer = browsing.installer
    claims = installer.claims(tenant_id)
    for token in (
        "",
        "x",
        installer.token(tenant_id, NOW - timedelta(hours=1)),
        installer.sign(claims | {"aud": "config"}),
        installer.sign(claims | {"iss": "another"}),
        Installer.new().token(tenant_id),
    ):
        refused = await browsing.looks(tenant_id, token)
        assert refused.status_code == 401
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.headers["www-authenticate"].startswith("Bearer")
    stranger, going = uuid4(), await notifier.tenant()
    await notifier.know(Tenant(going, "com.example.app", ClassState.PURGING))
    # Of a stranger nothing is known to show, which is no fault of who has just installed.
    for tenant, looked, noted in ((stranger, 204, 404), (going, 410, 410)):
        assert (await browsing.looks(tenant)).status_code == looked
        assert (await browsing.saw(tenant, 1)).status_code == noted
    assert await browsing.sights() == []


@pytest.mark.parametrize(("origin", "may"), [(PAGES, True), ("https://evil.example", False)])
async def test_pages_of_the_installer_may_read_notices_and_nothing_else_here(
    browsing: Browser, origin: str, may: bool
) -> None:
    tenant_id = await browsing.notifier.tenant()
    await publish_in_force(browsing.notifier)
    asking = {
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type",
    }
    async with browsing.notifier.client() as client:
        asked = await client.options(SEEN, headers={"origin": origin, **asking})
        looked = await client.get(
            NOTICE,
            headers={
                "origin": origin,
                "authorization": f"Bearer {browsing.installer.token(tenant_id)}",
            },
        )
        refused = await client.get(NOTICE, headers={"origin": origin})
        others = [
            await client.get(path, headers={"origin": origin})
            for path in ("/policy/1", "/policy", "/policy/noticed", "/privacy/request")
        ]
    allowed = [each.headers.get("access-control-allow-origin") for each in (asked, looked, refused)]
    assert allowed == [PAGES if may else None] * 3
    assert (looked.status_code, refused.status_code) == (200, 401)
    assert not any("access-control-allow-origin" in each.headers for each in others)


async def test_what_nobody_can_have_seen_is_refused(browsing: Browser) -> None:
    tenant_id = await browsing.notifier.tenant()
    await publish_in_force(browsing.notifier)
    for told in (
        b"",
        b"\xff",
        b"[]",
        b'{"revision": "1"}',
        b'{"revision": 1, "more": 1}',
        0,
        10**9,
    ):
        assert (await browsing.saw(tenant_id, told)).status_code == 400
    assert (await browsing.saw(tenant_id, 2)).status_code == 404
    assert await browsing.sights() == []


async def test_what_was_seen_goes_with_the_tenant(browsing: Browser) -> None:
    notifier = browsing.notifier
    tenant_id, other = await notifier.tenant(), await notifier.tenant()
    await publish_in_force(notifier)
    for each in (tenant_id, other):
        await browsing.saw(each, 1)
    await notifier.start_wave_2(tenant_id)
    await notifier.eraser_job().run()
    assert [tenant for tenant, _, _ in await browsing.sights()] == [other]
