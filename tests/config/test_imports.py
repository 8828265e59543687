"""What an archive would change, what it changes, and files that are no archives."""

import asyncio
import io
import json
import struct
import zlib
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4
from zipfile import ZIP_BZIP2, ZIP_STORED, ZipFile, ZipInfo

import pytest

from services.config.archives import reader
from services.config.archives.reader import ArchiveRefused, read_archive
from services.config.context import Limits
from tests.config.archives import MANIFEST, an_archive, packed, unpacked
from tests.config.builders import Config, a_converter, a_datasource, a_query, a_template
from tests.config.test_exports import export_of, fill

IMPORTS = "/api/v1/imports"
PROBLEM = "application/problem+json"
ANY = {"if-match": "*"}


async def previewed(config: Config, tenant_id: UUID, archive: bytes) -> dict[str, Any]:
    async with config.client(tenant_id) as client:
        answer = await client.post(f"{IMPORTS}/previews", content=archive)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def applied(config: Config, tenant_id: UUID, archive: bytes, preview: str) -> Any:
    async with config.client(tenant_id) as client:
        return await client.post(IMPORTS, content=archive, params={"preview": preview})


def only(**counts: int) -> dict[str, int]:
    return {"create": 0, "replace": 0, "skip": 0, "conflict": 0} | counts


def reasons(preview: dict[str, Any]) -> list[str]:
    return [step["reason"] for step in preview["steps"] if step["action"] == "conflict"]


# -- what it changes -----------------------------------------------------------------------------


async def test_an_export_of_one_tenant_is_imported_by_another(config: Config) -> None:
    old, new = await config.tenant(), await config.tenant()
    await fill(config, old)
    archive = await export_of(config, old)
    preview = await previewed(config, new, archive)
    assert preview["counts"] == only(create=4)
    assert await config.rows(new) == []

    done = await applied(config, new, archive, preview["preview"])
    assert (done.status_code, done.json()) == (200, {"counts": only(create=4)})
    before, after = unpacked(archive), unpacked(await export_of(config, new))
    stamps = ("version", "created_at", "updated_at", "has_credentials")
    for name in ("datasources.json", "converters.json", "templates.json", "queries.json"):
        assert [
            {key: value for key, value in each.items() if key not in stamps} for each in after[name]
        ] == [{k: v for k, v in each.items() if k not in stamps} for each in before[name]]
    assert after["datasources.json"][0]["has_credentials"] is False
    async with config.client(new) as client:
        users = await client.get(f"/api/v1/datasources/{after['datasources.json'][0]['id']}/users")
    assert users.json()["number"] == 1
    # What is the same is left alone.
    assert (await previewed(config, new, archive))["counts"] == only(skip=4)
    assert (await previewed(config, old, archive))["counts"] == only(skip=4)


async def test_what_has_changed_since_is_replaced_and_can_be_brought_back(config: Config) -> None:
    tenant_id = await config.tenant()
    await fill(config, tenant_id)
    archive = await export_of(config, tenant_id)
    [converter] = unpacked(archive)["converters.json"]
    [source] = unpacked(archive)["datasources.json"]
    async with config.client(tenant_id) as client:
        for plural, each, body in (
            ("converters", converter, a_converter(name="Changed")),
            ("datasources", source, a_datasource(name="Changed")),
        ):
            address = f"/api/v1/{plural}/{each['id']}"
            assert (await client.put(address, json=body, headers=ANY)).status_code == 200
    sealed = {row["credentials"] for row in await config.rows(tenant_id)}

    preview = await previewed(config, tenant_id, archive)
    assert preview["counts"] == only(replace=2, skip=2)
    assert [(step["kind"], step["version"]) for step in preview["steps"]] == [
        ("datasource", 2),
        ("converter", 3),
    ]
    assert (await applied(config, tenant_id, archive, preview["preview"])).status_code == 200
    async with config.client(tenant_id) as client:
        address = f"/api/v1/converters/{converter['id']}"
        shown = (await client.get(address)).json()
        past = (await client.get(f"{address}/versions/3")).json()
    assert (shown["name"], shown["version"], past["name"]) == (converter["name"], 4, "Changed")
    # The archive has no credentials, so those that were there stay.
    assert {row["credentials"] for row in await config.rows(tenant_id)} == sealed


async def test_what_has_the_same_name_is_the_same_and_what_refers_to_it_follows(
    config: Config,
) -> None:
    tenant_id = await config.tenant()
    here = await config.create(tenant_id, "datasources", a_datasource())
    elsewhere = a_datasource(id=str(uuid4()), tags=["imported"])
    del elsewhere["credentials"]
    query = a_query(elsewhere["id"], id=str(uuid4()))
    archive = an_archive({"datasources": [elsewhere], "queries": [query]})
    preview = await previewed(config, tenant_id, archive)
    assert preview["counts"] == only(create=1, replace=1)
    assert (await applied(config, tenant_id, archive, preview["preview"])).status_code == 200
    async with config.client(tenant_id) as client:
        shown = (await client.get(f"/api/v1/queries/{query['id']}/pipeline")).json()
    assert shown["datasource"]["id"] == here["id"]
    assert (shown["datasource"]["tags"], shown["datasource"]["has_credentials"]) == (
        ["imported"],
        True,
    )


async def test_conflicts_are_named_and_nothing_is_imported_while_there_are_any(
    config: Config,
) -> None:
    tenant_id = await config.tenant()
    source = await config.create(tenant_id, "datasources", a_datasource())
    first = await config.create(tenant_id, "converters", a_converter(name="First"))
    second = await config.create(tenant_id, "converters", a_converter(name="Second"))
    template = await config.create(tenant_id, "templates", a_template())
    bare = a_datasource(kind="rest", url="https://a.example")
    del bare["credentials"]
    twice, new = str(uuid4()), str(uuid4())
    archive = an_archive(
        {
            "datasources": [bare | {"id": source["id"]}, bare | {"id": new, "name": "New"}],
            "converters": [
                a_converter(id=first["id"], name="Second"),
                a_converter(id=template["id"], name="Third"),
                a_converter(id=twice, name="A"),
                a_converter(id=twice, name="B"),
                a_converter(id=str(uuid4()), name="Fine"),
            ],
            "queries": [
                a_query(str(uuid4()), id=str(uuid4()), name="1"),
                a_query(source["id"], id=str(uuid4()), name="2"),
                a_query(new, id=str(uuid4()), name="3"),
                a_query(second["id"], id=str(uuid4()), name="4"),
            ],
        }
    )
    before = await config.rows(tenant_id)
    preview = await previewed(config, tenant_id, archive)
    assert reasons(preview) == [
        "kind-never-changes",
        "name-is-taken",
        "id-is-of-another-kind",
        "twice-in-the-file",
        "twice-in-the-file",
        "refers-to-what-is-not-there",
        "refers-to-a-conflict",
        "refers-to-another-kind-of-system",
        "refers-to-what-is-not-there",
    ]
    refused = await applied(config, tenant_id, archive, preview["preview"])
    assert (refused.status_code, refused.json()["reason"]) == (409, "conflicts")
    assert await config.rows(tenant_id) == before


async def test_what_changed_after_the_preview_is_not_overwritten(config: Config) -> None:
    tenant_id = await config.tenant()
    made = await config.create(tenant_id, "converters", a_converter())
    archive = an_archive({"converters": [a_converter(id=made["id"], text="imported")]})
    preview = (await previewed(config, tenant_id, archive))["preview"]
    other = an_archive({"converters": [a_converter(id=made["id"], text="another file")]})
    async with config.client(tenant_id) as client:
        address = f"/api/v1/converters/{made['id']}"
        swapped = await applied(config, tenant_id, other, preview)
        await client.put(address, json=a_converter(text="meanwhile"), headers=ANY)
        refused = await applied(config, tenant_id, archive, preview)
        shown = await client.get(address)
        bare = await client.post(IMPORTS, content=archive)
    assert (swapped.status_code, swapped.json()["reason"]) == (409, "changed")
    assert (refused.status_code, refused.json()["reason"]) == (409, "changed")
    assert (shown.json()["text"], bare.status_code) == ("meanwhile", 400)


async def test_imports_and_changes_at_once_come_one_after_the_other(config: Config) -> None:
    tenant_id = await config.tenant()
    await fill(config, tenant_id)
    told = unpacked(await export_of(config, tenant_id))
    archive = an_archive(
        {
            plural: [
                {key: value for key, value in each.items() if key != "tags"} | {"tags": ["new"]}
                for each in told[f"{plural}.json"]
            ]
            for plural in ("datasources", "converters", "queries")
        }
    )
    preview = (await previewed(config, tenant_id, archive))["preview"]
    [query], [source] = told["queries.json"], told["datasources.json"]
    place = f"/api/v1/queries/{query['id']}/place"
    async with config.client(tenant_id) as client:
        answers = await asyncio.gather(
            *(applied(config, tenant_id, archive, preview) for _ in range(3)),
            *(client.put(place, json={"after": None}) for _ in range(3)),
            *(client.post(f"/api/v1/queries/{query['id']}/duplicates") for _ in range(3)),
        )
        users = (await client.get(f"/api/v1/datasources/{source['id']}/users")).json()
    done = sorted(answer.status_code for answer in answers[:3])
    assert done in ([200, 409, 409], [409, 409, 409])
    assert {answer.status_code for answer in answers[3:6]} == {204}
    copied = [answer.status_code for answer in answers[6:]].count(201)
    assert users["number"] == 1 + copied


async def test_an_import_keeps_to_the_limits_of_the_tenant(config: Config) -> None:
    config.limit(Limits(most_things=2, most_text_characters=1_000))
    tenant_id = await config.tenant()
    await config.create(tenant_id, "templates", a_template())
    archive = an_archive(
        {"converters": [a_converter(id=str(uuid4()), name=str(number)) for number in range(2)]}
    )
    preview = await previewed(config, tenant_id, archive)
    refused = await applied(config, tenant_id, archive, preview["preview"])
    assert (refused.status_code, refused.json()["reason"]) == (409, "too-many")
    long = an_archive({"converters": [a_converter(id=str(uuid4()), text="x" * 1_001)]})
    async with config.client(tenant_id) as client:
        assert (await client.post(f"{IMPORTS}/previews", content=long)).status_code == 422
    assert len(await config.rows(tenant_id)) == 1


async def test_thousands_of_things_are_one_import(config: Config) -> None:
    tenant_id = await config.tenant()
    source = a_datasource(id=str(uuid4()))
    del source["credentials"]
    queries = [a_query(source["id"], id=str(uuid4()), name=str(n)) for n in range(2_000)]
    archive = an_archive({"datasources": [source], "queries": queries})
    preview = await previewed(config, tenant_id, archive)
    assert (preview["counts"], len(preview["steps"])) == (only(create=2_001), 1_000)
    done = await applied(config, tenant_id, archive, preview["preview"])
    assert done.json()["counts"] == only(create=2_001)
    again = an_archive({"queries": [query | {"tags": ["again"]} for query in queries]})
    preview = await previewed(config, tenant_id, again)
    done = await applied(config, tenant_id, again, preview["preview"])
    assert done.json()["counts"] == only(replace=2_000)
    async with config.client(tenant_id) as client:
        page = (await client.get("/api/v1/queries", params={"limit": 2})).json()["items"]
    # In the order of the file.
    assert [item["name"] for item in page] == ["0", "1"]


async def test_who_is_not_served_imports_nothing(config: Config) -> None:
    tenant_id = await config.tenant()
    archive = an_archive({"converters": [a_converter(id=str(uuid4()))]})
    preview = (await previewed(config, tenant_id, archive))["preview"]
    await config.order_erasure(tenant_id)
    assert (await applied(config, tenant_id, archive, preview)).status_code == 410
    async with config.client() as client:
        assert (await client.post(f"{IMPORTS}/previews", content=archive)).status_code == 401


# -- what is no archive --------------------------------------------------------------------------


def raw(*members: tuple[ZipInfo | str, bytes], method: int = ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with ZipFile(file, "w", method) as archive:
        archive.writestr("manifest.json", json.dumps(MANIFEST))
        for name, told in members:
            archive.writestr(name, told)
    return file.getvalue()


def twice() -> bytes:
    with pytest.warns(UserWarning, match="Duplicate name"):
        return raw(("converters.json", b"[]"), ("converters.json", b"[]"))


def a_bomb() -> bytes:
    return raw(("converters.json", b" " * (reader.MOST_BYTES + 1)), method=8)


def a_bomb_that_lies() -> bytes:
    """Says that it is small; what it unpacks to is not."""
    size, told = reader.MOST_BYTES + 1, a_bomb()
    lying = told.replace(struct.pack("<L", size), struct.pack("<L", 2))
    assert lying != told
    return lying


def many_members() -> bytes:
    return raw(*((f"{number}.json", b"") for number in range(1_000)))


def encrypted() -> bytes:
    told = bytearray(raw(("converters.json", b"[]")))
    at = told.rindex(b"PK\x01\x02") + 8
    told[at] |= 1
    return bytes(told)


def zip64() -> bytes:
    told = an_archive({})
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, 0, 1)
    return told[:-22] + locator + told[-22:]


def bad_sum() -> bytes:
    told = raw(("converters.json", b"[]"))
    return told.replace(struct.pack("<L", zlib.crc32(b"[]")), b"\x00\x01\x02\x03")


REFUSED: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "text": lambda: b"hello " * 100,
    "no end": lambda: an_archive({})[:-30],
    "comment": lambda: an_archive({}) + b"x",
    "only an end": lambda: b"PK\x05\x06" + b"\0" * 18,
    "end with garbage": lambda: b"garbage" * 50 + b"PK\x05\x06" + b"\x01" * 16 + b"\0\0",
    "path up": lambda: raw(("../../etc/passwd", b"x")),
    "absolute path": lambda: raw(("/converters.json", b"[]")),
    "backslash": lambda: raw(("..\\converters.json", b"[]")),
    "folder": lambda: raw(("converters/", b"")),
    "in a folder": lambda: raw(("x/converters.json", b"[]")),
    "name with a NUL": lambda: raw(("converters.json", b"[]")).replace(
        b"converters.json", b"converters\0json"
    ),
    "another case": lambda: raw(("Converters.json", b"[]")),
    "a member twice": twice,
    "bomb": a_bomb,
    "bomb that lies": a_bomb_that_lies,
    "many members": many_members,
    "encrypted": encrypted,
    "zip64": zip64,
    "bzip2": lambda: raw(("converters.json", b"[]"), method=ZIP_BZIP2),
    "bad sum": bad_sum,
    "no manifest": lambda: packed({"converters.json": "[]"}),
    "manifest of another": lambda: an_archive({}, format="other"),
    "wrong version": lambda: an_archive({}, version=2),
    "version is true": lambda: an_archive({}, version=True),
    "manifest is a list": lambda: packed({"manifest.json": "[]"}),
    "huge manifest": lambda: packed({"manifest.json": " " * 100_000}),
    "no JSON": lambda: raw(("converters.json", b"[")),
    "not UTF-8": lambda: raw(("converters.json", b'["\xff"]')),
    "deep": lambda: raw(("converters.json", b"[" * 1_000_000)),
    "no list": lambda: raw(("converters.json", b"{}")),
    "no objects": lambda: raw(("converters.json", b"[1]")),
    "no id": lambda: an_archive({"converters": [a_converter()]}),
    "id is none": lambda: an_archive({"converters": [a_converter(id="x")]}),
    "unknown field": lambda: an_archive({"converters": [a_converter(id=str(uuid4()), secret=1)]}),
    "NUL": lambda: an_archive({"converters": [a_converter(id=str(uuid4()), text="\0")]}),
    "lone surrogate": lambda: raw(
        ("converters.json", json.dumps([a_converter(id=str(uuid4()), text="\ud800")]).encode())
    ),
    "credentials": lambda: an_archive({"datasources": [a_datasource(id=str(uuid4()))]}),
    "no number": lambda: raw(("queries.json", b'[{"id": NaN}]')),
    "query without datasource": lambda: an_archive(
        {"queries": [a_query("", id=str(uuid4())) | {"datasource_id": None}]}
    ),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_what_is_no_archive_is_refused_with_a_reason_and_leaves_nothing(
    config: Config, what: str
) -> None:
    tenant_id = await config.tenant()
    file = REFUSED[what]()
    async with config.client(tenant_id) as client:
        answers = [
            await client.post(f"{IMPORTS}/previews", content=file),
            await client.post(IMPORTS, content=file, params={"preview": "0" * 64}),
        ]
    for answer in answers:
        assert (answer.status_code, answer.headers["content-type"]) == (422, PROBLEM)
        assert answer.json()["detail"].startswith("The file is refused: ")
        assert len(answer.content) < 500
        assert "correct-horse" not in answer.text
        assert "passwd" not in answer.text
    assert await config.rows(tenant_id) == []


async def test_a_file_that_is_too_large_is_not_read(config: Config) -> None:
    async with config.client(await config.tenant()) as client:
        headers = {"content-length": str(30 * 1024 * 1024)}
        answer = await client.post(f"{IMPORTS}/previews", content=b"PK", headers=headers)
    assert answer.status_code == 413


def test_more_things_than_an_import_takes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MOST_THINGS", 2)
    some = [a_converter(id=str(uuid4())) for _ in range(3)]
    with pytest.raises(ArchiveRefused, match="more than 2 things"):
        read_archive(io.BytesIO(an_archive({"converters": some})))
