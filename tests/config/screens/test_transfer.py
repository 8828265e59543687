"""Export and import on a screen: what would change is said in words before anything does."""

import re

import httpx2

from contracts.tenants import Platform
from services.config.domain.imports import Action, Reason
from services.config.routes.screens.transfer import _ACTIONS, _REASONS
from tests.config.archives import an_archive, export_of, fill
from tests.config.builders import Config, a_converter, a_template

PATH = "/screens/transfer"
GERMAN = {"accept-language": "de"}


async def send(config: Config, tenant: object, path: str, body: bytes) -> httpx2.Response:
    async with config.client(tenant) as client:  # type: ignore[arg-type]
        return await client.post(f"{PATH}/{path}", content=body, headers=GERMAN)


def button_of(page: str) -> str:
    found = re.search(r'data-import="transfer/(import\?preview=[0-9a-f]{64})"', page)
    assert found is not None, page
    return found[1]


def test_every_step_and_every_reason_has_words() -> None:
    assert set(_ACTIONS) == set(Action)
    assert set(_REASONS) == set(Reason)


async def test_an_export_comes_into_another_tenant_after_it_was_shown(config: Config) -> None:
    source, target = await config.tenant(), await config.tenant()
    await fill(config, source)
    archive = await export_of(config, source)
    shown = await send(config, target, "preview", archive)
    assert shown.status_code == 200
    assert "Was sich ändern würde" in shown.text
    assert "<bdi>Sales</bdi>" in shown.text
    assert await config.rows(target) == []

    done = await send(config, target, button_of(shown.text), archive)
    assert "Importiert: 4 angelegt, 0 ersetzt." in done.text
    assert len(await config.rows(target)) == 4
    again = await send(config, target, "preview", archive)
    assert "nichts zu importieren" in again.text
    assert "data-import" not in again.text


async def test_what_changed_meanwhile_is_shown_anew_and_not_done(config: Config) -> None:
    tenant_id = await config.tenant()
    archive = an_archive({"templates": [{**a_template(name="T"), "id": "0" * 31 + "1"}]})
    shown = await send(config, tenant_id, "preview", archive)
    await config.create(tenant_id, "templates", a_template(name="T", text="another"))
    answer = await send(config, tenant_id, button_of(shown.text), archive)
    assert "nichts importiert" in answer.text
    assert "Wird ersetzt" in answer.text
    assert button_of(answer.text) != button_of(shown.text)
    assert len(await config.rows(tenant_id)) == 1


async def test_a_conflict_is_said_in_words_and_keeps_the_whole_file_out(config: Config) -> None:
    tenant_id = await config.tenant()
    one = {**a_template(name="T"), "id": "0" * 31 + "3"}
    archive = an_archive({"templates": [one, one]})
    shown = (await send(config, tenant_id, "preview", archive)).text
    assert "Es steht zweimal in der Datei." in shown
    assert "ganz oder gar nicht importiert" in shown
    assert "data-import" not in shown
    done = await send(config, tenant_id, f"import?preview={'0' * 64}", archive)
    assert "zweimal" in done.text
    assert await config.rows(tenant_id) == []


async def test_what_is_no_archive_is_refused_in_words(config: Config) -> None:
    tenant_id = await config.tenant()
    for path in ("preview", f"import?preview={'0' * 64}"):
        answer = await send(config, tenant_id, path, b"no zip")
        assert answer.status_code == 200
        assert "lässt sich nicht importieren" in answer.text
        assert "Die Datei wird abgelehnt: sie ist keine ZIP-Datei." in answer.text
        listed = await send(config, tenant_id, path, an_archive({"converters": [{"id": "x"}]}))
        assert "converters.json, Eintrag 1: " in listed.text
        large = await send(config, tenant_id, path, b"\0" * (21 * 1024 * 1024))
        assert large.status_code == 413


async def test_who_has_moved_may_export_and_not_import(config: Config) -> None:
    forge = await config.tenant(platform=Platform.FORGE)
    archive = an_archive({"converters": [{**a_converter(), "id": "0" * 31 + "2"}]})
    shown = await send(config, forge, "preview", archive)
    refused = await send(config, forge, button_of(shown.text), archive)
    assert refused.status_code == 403
    assert "umgezogen" in refused.json()["detail"]
    assert await config.rows(forge) == []
