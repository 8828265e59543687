"""Archives for tests: those of an export, with how to get one, and those that somebody has made up."""

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID
from zipfile import ZIP_DEFLATED, ZipFile

from tests.config.builders import Config, a_converter, a_datasource, a_query, a_template

EXPORTS = "/api/v1/exports"
MANIFEST = {"format": "keepword-things", "version": 1, "exported_at": "2026-11-23T12:00:00+00:00"}

Members = Mapping[str, Sequence[dict[str, Any]]]


def packed(members: Mapping[str, bytes | str]) -> bytes:
    """A ZIP of these members."""
    file = io.BytesIO()
    with ZipFile(file, "w", ZIP_DEFLATED) as archive:
        for name, told in members.items():
            archive.writestr(name, told)
    return file.getvalue()


def an_archive(things: Members, **manifest: Any) -> bytes:
    """An archive of these things, each list under the kind's name in addresses."""
    return packed(
        {
            "manifest.json": json.dumps(MANIFEST | manifest),
            **{f"{plural}.json": json.dumps(list(some)) for plural, some in things.items()},
        }
    )


def unpacked(archive: bytes) -> dict[str, Any]:
    """What an archive holds, by the names of its members."""
    with ZipFile(io.BytesIO(archive)) as opened:
        assert opened.testzip() is None
        return {name: json.loads(opened.read(name)) for name in opened.namelist()}


async def ticket_of(config: Config, tenant_id: UUID) -> str:
    async with config.client(tenant_id) as client:
        answer = await client.post(EXPORTS)
    assert answer.status_code == 201
    ticket: str = answer.json()["ticket"]
    return ticket


async def fetch(config: Config, ticket: str) -> Any:
    async with config.client() as client:
        return await client.post(f"{EXPORTS}/downloads", data={"ticket": ticket})


async def export_of(config: Config, tenant_id: UUID) -> bytes:
    answer = await fetch(config, await ticket_of(config, tenant_id))
    assert answer.status_code == 200
    content: bytes = answer.content
    return content


async def fill(config: Config, tenant_id: UUID) -> None:
    source = await config.create(tenant_id, "datasources", a_datasource())
    converter = await config.create(tenant_id, "converters", a_converter(name="שלום 🙂"))
    await config.create(tenant_id, "templates", a_template())
    query = a_query(source["id"], converter_id=converter["id"])
    await config.create(tenant_id, "queries", query)
    async with config.client(tenant_id) as client:
        address = f"/api/v1/converters/{converter['id']}"
        await client.put(address, json=a_converter(text="later"), headers={"if-match": "*"})
