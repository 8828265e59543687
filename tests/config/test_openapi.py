"""The OpenAPI document against config itself: schemathesis, all its checks, with a session."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import jsonschema
import pytest

from chassis.shutdown import HttpServer
from services.config.domain.kinds import KIND_OF, KINDS
from services.config.routes.errors import ENVELOPES
from services.config.store import things
from tests.config.builders import Config

ROOT = Path(__file__).parent.parent.parent
# All kinds are served by the same routes, so the short run looks at the one that has most of them.
SOME = r"^/api/v1/queries(/\{thing_id\}(/versions/\{version\}/difference)?)?$"
SHORT = ("--phases", "examples,coverage", "--include-path-regex", SOME)
ALL = ("--phases", "examples,coverage,fuzzing,stateful")
LONG_SERIES = 50
A_FILE = {"type": "string", "format": "binary"}
PROBES = {"/livez", "/readyz", "/metrics"}

# What makes no sense together, or is behind what is there, has the right form all the same.
SETTINGS = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "401", "404", "409", "412", "422", "428"]
[checks.missing_required_header]
expected-statuses = ["400", "401", "404", "428"]
# How Sentry's envelopes are written no schema can say, so what is made up is none.
[[operations]]
include-path = "/errors/envelopes"
[operations.checks.positive_data_acceptance]
expected-statuses = ["2xx", "400", "403"]
"""


@asynccontextmanager
async def served(config: Config) -> AsyncIterator[str]:
    """Let config answer at a port."""
    server = HttpServer(config.app, host="127.0.0.1", port=0)
    running = asyncio.create_task(server.run())
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        await server.stop()
        await running


async def find_faults(config: Config, folder: Path, *options: str) -> tuple[int, str]:
    tenant_id = await config.tenant()
    await keep_what_examples_refer_to(config, tenant_id)
    token = config.installer.token(tenant_id, config.clock.wall())
    document = await document_of(config)
    (folder / "openapi.json").write_text(json.dumps(document), "utf-8")
    (folder / "schemathesis.toml").write_text(SETTINGS, "utf-8")
    async with served(config) as url:
        process = await asyncio.create_subprocess_exec(
            Path(sys.executable).with_name("st"),
            *("run", "openapi.json", "--url", url),
            *("--header", f"Authorization: Bearer {token}"),
            *("--checks", "all", "--mode", "all", "--continue-on-failure", "--no-color"),
            *options,
            cwd=folder,
            env=os.environ
            | {"SCHEMATHESIS_HOOKS": "tests.config.raw_bodies", "PYTHONPATH": str(ROOT)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        told, _ = await process.communicate()
    assert process.returncode is not None
    # Calls came through: otherwise only the guard at the door was tested. What is created is counted,
    # also where it was removed again.
    counted = await config.eraser.fetch(
        "SELECT things FROM tenant_totals WHERE tenant_id = $1", tenant_id
    )
    assert len(counted) == 1, told.decode()
    return process.returncode, told.decode(errors="replace")


async def keep_what_examples_refer_to(config: Config, tenant_id: UUID) -> None:
    """So that the document's own examples can be stored as they are."""
    async with config.units.begin() as uow:
        await uow.act_for(tenant_id)
        example = KIND_OF["query"].example
        for field, name in KIND_OF["query"].refers.items():
            kind = KIND_OF[name]
            wanted = kind.model.model_validate({**kind.example, "name": "Meant by examples"})
            await things.add(
                uow.connection,
                tenant_id,
                kind,
                UUID(example[field]),
                wanted,
                credentials=None,
                now=uow.now,
            )


async def document_of(config: Config) -> dict[str, Any]:
    document: dict[str, Any] = config.fastapi.openapi()
    return document


async def test_the_document_names_every_operation_with_its_examples(config: Config) -> None:
    document = await document_of(config)
    operations = [
        (f"{method} {path}", operation)
        for path, item in document["paths"].items()
        if path not in PROBES
        for method, operation in item.items()
    ]
    assert len(operations) > 12 * len(KINDS)
    for name, operation in operations:
        assert operation["description"], name
        needs_a_session = name != f"post {ENVELOPES}"
        assert bool(operation["security"]) is needs_a_session, name
        assert ("401" in operation["responses"]) is needs_a_session, name
        for where in (operation.get("requestBody"), operation["responses"].get("201")):
            if needs_a_session and where is not None and where.get("content"):
                (content,) = where["content"].values()
                assert "example" in content or content["schema"] == A_FILE, name


async def test_every_example_is_what_its_schema_says(config: Config) -> None:
    document = await document_of(config)
    checked = 0

    def look(node: Any) -> None:
        nonlocal checked
        if isinstance(node, dict):
            if "example" in node and "schema" in node:
                schema = {**node["schema"], "components": document["components"]}
                jsonschema.validate(node["example"], schema)
                checked += 1
            for each in node.values():
                look(each)
        elif isinstance(node, list):
            for each in node:
                look(each)

    look(document["paths"])
    assert checked > 10 * len(KINDS)


async def test_schemathesis_finds_nothing(config: Config, tmp_path: Path) -> None:
    status, told = await find_faults(config, tmp_path, *SHORT)
    assert status == 0, told


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_schemathesis_finds_nothing_in_a_long_series(config: Config, tmp_path: Path) -> None:
    status, told = await find_faults(config, tmp_path, *ALL, "--max-examples", str(LONG_SERIES))
    assert status == 0, told
