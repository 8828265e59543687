"""What stands around the screens, who may read it, and in which language."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from devstack.postgres import Roles
from tests.config.builders import Config, config_of

PAGES = "https://apps.vendor.example"


async def test_the_shell_is_for_a_session_alone_and_names_the_areas(config: Config) -> None:
    async with config.client() as stranger:
        assert (await stranger.get("/screens/shell")).status_code == 401
    async with config.client(uuid4()) as client:
        english = await client.get("/screens/shell")
        german = await client.get("/screens/shell", headers={"accept-language": "de_DE"})
    assert english.headers["content-type"].startswith("text/html")
    assert english.headers["cache-control"] == "no-store"
    assert '<div class="app" lang="en">' in english.text
    assert '<a href="#/queries" data-area="queries">Queries</a>' in english.text
    assert '<a href="#/queries" data-area="queries">Abfragen</a>' in german.text


async def test_a_refusal_is_told_in_the_readers_language(config: Config) -> None:
    tenant_id = await config.tenant()
    async with config.client(tenant_id) as client:
        for language, told in (("en", "That is not a form"), ("de", "kein Formular")):
            refused = await client.post(
                f"/screens/queries/{uuid4()}/place",
                content=b"{",
                headers={"accept-language": language},
            )
            assert refused.status_code == 400
            assert told in refused.json()["detail"]


@pytest.fixture
async def called_from_elsewhere(config_roles: Roles, tmp_path: Path) -> AsyncIterator[Config]:
    async with config_of(
        config_roles, tmp_path, installer_public_url=f"{PAGES}/behind/a/path"
    ) as opened:
        yield opened


@pytest.mark.parametrize(("origin", "may"), [(PAGES, True), ("https://evil.example", False)])
async def test_pages_of_the_installer_may_read_answers_and_no_others(
    called_from_elsewhere: Config, origin: str, may: bool
) -> None:
    config = called_from_elsewhere
    async with config.client(uuid4()) as client:
        asked = await client.options(
            "/api/v1/error-tokens",
            headers={
                "origin": origin,
                "access-control-request-method": "POST",
                "access-control-request-headers": "authorization,content-type",
            },
        )
        answers = [
            await client.get(path, headers={"origin": origin})
            for path in ("/screens/shell", "/screens/queries", "/api/v1/nothing", "/screens/app.js")
        ]
    allowed = [each.headers.get("access-control-allow-origin") for each in (asked, *answers)]
    assert allowed == [PAGES if may else None] * len(allowed)
    assert [each.status_code for each in answers] == [200, 503, 404, 200]
    assert "access-control-allow-credentials" not in asked.headers


async def test_any_page_may_report_errors_and_is_told_so_once(
    called_from_elsewhere: Config,
) -> None:
    async with called_from_elsewhere.client() as client:
        answer = await client.post("/errors/envelopes", content=b"{}", headers={"origin": PAGES})
    assert answer.headers.get_list("access-control-allow-origin") == ["*"]
