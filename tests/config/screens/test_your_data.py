"""Your data on a screen: numbers that are true, who fetched the export, and an erasure by typed words."""

from datetime import timedelta
from html import unescape
from importlib import import_module
from uuid import UUID

import httpx2
import pytest

from contracts.classes import TENANT_CLASSES, DataClass
from contracts.purges import ClockKind, Phase
from contracts.tenants import Platform
from services.config.domain.early_erasure import content_goes_at
from services.config.store.errors import KEPT
from tests.config.archives import export_of, fill
from tests.config.builders import NOW, Config
from tests.config.test_early_erasure import a_plan, hear, messages, said

PATH = "/screens/your-data"
ERASURE = f"{PATH}/erasure"


async def look(config: Config, tenant_id: UUID, language: str = "en") -> str:
    async with config.client(tenant_id) as client:
        answer = await client.get(PATH, headers={"accept-language": language})
    assert answer.status_code == 200
    return answer.text


async def ask(config: Config, tenant_id: UUID, typed: str, language: str = "en") -> httpx2.Response:
    async with config.client(tenant_id) as client:
        return await client.post(
            ERASURE, json=[["typed", typed]], headers={"accept-language": language}
        )


async def test_it_counts_what_is_there_and_names_each_download(config: Config) -> None:
    tenant_id = await config.tenant()
    empty = await look(config, tenant_id)
    assert "Nobody has fetched it." in empty
    await fill(config, tenant_id)
    await export_of(config, tenant_id)
    shown = await look(config, tenant_id)
    assert "templates</th><td>4</td>" in shown
    assert "earlier versions</th><td>1</td>" in shown
    assert f'Here in the app</span> <time datetime="{NOW.isoformat()}">' in shown
    other = await look(config, await config.tenant(), "de")
    assert "Niemand hat ihn abgerufen." in other
    assert timedelta(days=90) == KEPT
    assert "90 days" in shown


@pytest.mark.parametrize(
    ("language", "words"), [("en", "erase everything "), ("de", "Alles löschen")]
)
async def test_erasure_is_asked_by_typed_words_and_withdrawn(
    config: Config, language: str, words: str
) -> None:
    tenant_id = await config.tenant()
    for wrong in ("", "yes", "ERASE", "\0"):
        refused = await ask(config, tenant_id, wrong, language)
        assert refused.status_code == 200
        assert 'aria-invalid="true"' in refused.text
    assert await messages(config, tenant_id) == []

    asked = await ask(config, tenant_id, words, language)
    assert 'hx-delete="your-data/erasure"' in asked.text
    assert len(await messages(config, tenant_id)) == 1
    async with config.client(tenant_id) as client:
        withdrawn = await client.delete(ERASURE)
    assert withdrawn.status_code == 200
    assert 'hx-post="your-data/erasure"' in withdrawn.text
    assert len(await messages(config, tenant_id)) == 2


async def test_every_store_of_every_service_is_shown_with_its_purpose_and_end(
    config: Config,
) -> None:
    english = unescape(await look(config, await config.tenant()))
    for service in ("installer", "config", "notifier"):
        for table in import_module(f"services.{service}.data_map").DATA_MAP.tables:
            if table.data_class in TENANT_CLASSES:
                assert f"{service}: {table.name.replace('_', ' ')}</td>" in english
                assert table.purpose in english
                assert table.retention in english
    assert "notifier: jira service management" in english
    german = await look(config, await config.tenant(), "de")
    assert "Ihre Datenquellen, Abfragen, Konverter und Vorlagen</th>" in german
    assert "6 months" not in german


async def test_who_does_not_administer_the_site_sees_where_it_stands_and_decides_nothing(
    config: Config,
) -> None:
    tenant_id = await config.tenant()
    async with config.client(tenant_id, administers=False) as anybody:
        shown = (await anybody.get(PATH)).text
        assert "Only who administers your site" in shown
        assert "hx-post" not in shown
        german = {"accept-language": "de"}
        refused = [
            await anybody.post(ERASURE, json=[["typed", "ALLES LÖSCHEN"]], headers=german),
            await anybody.delete(ERASURE, headers=german),
            await anybody.post("/api/v1/erasure-requests"),
            await anybody.delete("/api/v1/erasure-requests"),
        ]
        assert {each.status_code for each in refused} == {403}
        assert "wer Ihre Site verwaltet" in refused[0].json()["detail"]
        await ask(config, tenant_id, "ERASE EVERYTHING")
        asked = (await anybody.get(PATH)).text
        assert "It is asked for" in asked
        assert "hx-delete" not in asked
        assert (await anybody.get("/api/v1/erasure-requests")).json()["stage"] == "asked"
    assert len(await messages(config, tenant_id)) == 1


async def test_it_says_until_when_it_can_be_withdrawn_and_when_it_is_too_late(
    config: Config,
) -> None:
    tenant_id = await config.tenant()
    await ask(config, tenant_id, "ERASE EVERYTHING")
    plan = a_plan(Phase.PLANNED)
    await hear(config, said(plan, tenant_id=tenant_id))
    assert f'<time datetime="{plan.start_at.isoformat()}">' in await look(config, tenant_id)
    begun = plan.model_copy(update={"phase": Phase.ERASING})
    await hear(config, said(begun, tenant_id=tenant_id))
    assert "has begun" in await look(config, tenant_id)
    async with config.client(tenant_id) as client:
        assert (await client.delete(ERASURE)).status_code == 409


async def test_who_has_moved_is_told_until_when_content_is_there(config: Config) -> None:
    tenant_id = await config.tenant(platform=Platform.FORGE)
    plan = a_plan(Phase.PLANNED, clock=ClockKind.FORGE_CONTENT, classes=(DataClass.CONTENT,))
    await hear(config, said(plan, tenant_id=tenant_id))
    async with config.client(tenant_id) as client:
        moved = (await client.get("/screens/shell")).text
    assert "has moved into your Atlassian product" in moved
    assert f'<time datetime="{plan.start_at.isoformat()}">' in moved
    async with config.client(await config.tenant()) as client:
        assert "has moved" not in (await client.get("/screens/shell")).text


def test_content_goes_with_the_first_purge_that_takes_it() -> None:
    later = a_plan(Phase.PLANNED, start_at=NOW + timedelta(days=40))
    other = a_plan(Phase.PLANNED, classes=(DataClass.ERRORS,))
    withdrawn = a_plan(Phase.WITHDRAWN)
    assert content_goes_at(None) is None
    assert content_goes_at(said(other, withdrawn)) is None
    assert content_goes_at(said(other, later, withdrawn)) == later.start_at
