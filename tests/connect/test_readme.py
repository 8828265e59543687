"""The examples of the README run, against calls signed as Atlassian signs them."""

import re
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from connect.jwt import InvalidToken
from connect.lifecycle import EventType
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

    enabled = _request(hook(EventType.ENABLED))
    assert examples["verified"](enabled, installed.secrets).issuer == site.client_key
    assert examples["verified"](enabled, {}) is None
    with pytest.raises(InvalidToken):
        examples["verified"](enabled, {site.client_key: "another secret"})


def _request(hook: Hook) -> Request:
    return Request(
        {
            "type": "http",
            "method": "POST",
            "raw_path": f"/connect/com.example.app{hook.path}".encode(),
            "query_string": b"",
            "headers": [(b"authorization", hook.headers["Authorization"].encode())],
        }
    )
