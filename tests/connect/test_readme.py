"""The examples of the README run, against calls signed as Atlassian signs them."""

import re
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from joserfc.jwk import RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from connect.calls import Refused
from connect.forge import ISSUER
from connect.jwt import sign
from connect.lifecycle import EventType
from connect.qsh import CONTEXT_QSH
from devstack.atlassian import Atlassian, Hook, Site, create_app
from tests.connect.serving import serving

README = Path(__file__).parents[2] / "connect" / "README.md"


def _examples() -> dict[str, Any]:
    namespace: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL):
        exec(compile(block, str(README), "exec"), namespace)
    return namespace


async def test_the_examples_let_atlassian_in_and_nobody_else(http: httpx2.AsyncClient) -> None:
    examples = _examples()
    atlassian, site = Atlassian(http), Site.named("acme")

    def hook(event: EventType, audience: str = examples["BASE_URL"]) -> Hook:
        return atlassian.hook(
            site,
            event,
            app_key=examples["APP_KEY"],
            audience=audience,
            path=f"/lifecycle/{event.value}",
        )

    async with serving(create_app(atlassian, "http://127.0.0.1", ["unused"])) as atlassian_url:
        installed = examples["InstalledHook"](http, f"{atlassian_url}/install-keys")
        path = "/connect/com.example.app/lifecycle/installed"
        app = Starlette(routes=[Route(path, installed.__call__, methods=["POST"])])
        async with serving(app) as url:
            genuine, foreign = (
                hook(EventType.INSTALLED),
                hook(EventType.INSTALLED, "https://x.example"),
            )
            refused = await http.post(url + path, content=foreign.content, headers=foreign.headers)
            wrong = await http.post(url + path, content=b"{}", headers=genuine.headers)
            answer = await http.post(url + path, content=genuine.content, headers=genuine.headers)

    assert (refused.status_code, wrong.status_code, answer.status_code) == (401, 400, 204)
    assert refused.headers["www-authenticate"] == 'JWT realm="com.example.app"'
    assert installed.secrets == {site.client_key: site.shared_secret}


async def test_a_site_is_known_by_its_secret_and_its_page_by_a_context_token(
    http: httpx2.AsyncClient,
) -> None:
    examples, site = _examples(), Site.named("acme")
    enabled = Atlassian(http).hook(
        site,
        EventType.ENABLED,
        app_key=examples["APP_KEY"],
        audience=examples["BASE_URL"],
        path="/lifecycle/enabled",
    )
    hook = _request(enabled.headers["Authorization"], "/connect/com.example.app/lifecycle/enabled")
    now, secret = int(time.time()), site.shared_secret.encode()
    claims = {"iss": site.client_key, "iat": now, "exp": now + 900, "qsh": CONTEXT_QSH}
    fetch = _request(f"JWT {sign(claims, secret)}", "/anything")
    page = examples["Page"]({site.client_key: [secret]})

    assert (await page.opened(hook)).client_key == site.client_key
    assert (await page.asked(fetch)).client_key == site.client_key
    for refused in (page.opened(fetch), page.asked(hook), examples["Page"]({}).opened(hook)):
        with pytest.raises(Refused):
            await refused


async def test_forges_events_get_in_and_nobody_elses(
    http: httpx2.AsyncClient, private_key: RSAPrivateKey
) -> None:
    examples, now = _examples(), int(time.time())
    key_set = {"keys": [RSAKey.import_key(private_key, {"kid": "wf-1"}).as_dict(private=False)]}
    claims: dict[str, Any] = {
        "iss": ISSUER,
        "aud": examples["APP_ID"],
        "iat": now,
        "nbf": now,
        "exp": now + 25,
        "jti": "1",
        "app": {
            "installationId": "inst-1",
            "environment": {"type": "PRODUCTION"},
            "module": {"key": "lifecycle"},
        },
    }
    event = {
        "eventType": "avi:forge:uninstalled:app",
        "id": "inst-1",
        "app": {"id": examples["APP_ID"]},
    }

    async def publish(_: Request) -> Response:
        return JSONResponse(key_set)

    async with serving(Starlette(routes=[Route("/jwks.json", publish)])) as keys_url:
        hook = examples["ForgeHook"](http, f"{keys_url}/jwks.json")
        app = Starlette(routes=[Route("/forge", hook.__call__, methods=["POST"])])
        async with serving(app) as url:

            async def status(body: object, **changes: str) -> int:
                token = sign(claims | changes, private_key, key_id="wf-1")
                headers = {"Authorization": f"Bearer {token}"}
                return (await http.post(f"{url}/forge", json=body, headers=headers)).status_code

            assert await status(event, aud="ari:cloud:ecosystem::app/another") == 401
            assert await status(event | {"id": "inst-2"}) == 403
            assert await status(event, principal="somebody") == 403
            assert await status({}) == 400
            assert hook.events == []
            assert await status(event) == 204

    assert [stored.installation_id for stored in hook.events] == ["inst-1"]


def _request(authorization: str, path: str) -> Request:
    return Request(
        {
            "type": "http",
            "method": "POST",
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(b"authorization", authorization.encode())],
        }
    )
