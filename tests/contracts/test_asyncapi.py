"""The AsyncAPI documents and the page for people: made of the contracts, and never older than they."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from faststream.specification.asyncapi.v3_0_0.schema import ApplicationSchema
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from contracts.__main__ import write_everything
from contracts.asyncapi import FOLDER, documents
from contracts.classes import BUS_MAY_CARRY
from contracts.events_page import PAGE, page
from contracts.registry import MESSAGE_TYPES
from contracts.topics import ALL_TOPICS, SERVICES, readers

ROOT = Path(__file__).parents[2]
NAMES = ("keepword", *SERVICES)


def committed(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((ROOT / FOLDER / f"{name}.json").read_text())
    return document


def references(part: Any) -> set[str]:
    if isinstance(part, list):
        return {each for one in part for each in references(one)}
    if not isinstance(part, dict):
        return set()
    here = {part["$ref"]} if isinstance(part.get("$ref"), str) else set()
    return here | {each for one in part.values() for each in references(one)}


def test_what_is_committed_is_what_the_contracts_say(tmp_path: Path) -> None:
    samples = tmp_path / "contracts" / "samples"
    samples.parent.mkdir()
    samples.symlink_to(ROOT / "contracts" / "samples")
    write_everything(tmp_path)

    made = {file.relative_to(tmp_path) for file in (tmp_path / "docs").rglob("*.*")}

    assert made == {Path(PAGE), *(Path(FOLDER) / f"{name}.json" for name in NAMES)}
    for file in made:
        assert (ROOT / file).read_text() == (tmp_path / file).read_text(), (
            f"{file} is old: run python -m contracts"
        )


@pytest.mark.parametrize("name", NAMES)
def test_a_document_is_asyncapi_3(name: str) -> None:
    document = committed(name)

    ApplicationSchema.model_validate(document)
    assert document["asyncapi"] == "3.0.0"


@pytest.mark.parametrize("name", NAMES)
def test_every_reference_of_a_document_leads_somewhere(name: str) -> None:
    document = committed(name)
    found = references(document)

    assert found
    for reference in found:
        if reference.startswith("#/"):
            resource = Resource.opaque(document)
            Registry().with_resource("", resource).resolver().lookup(reference)
        else:
            assert (ROOT / FOLDER / reference).is_file()


def test_the_whole_says_and_hears_what_the_topics_say() -> None:
    operations = documents(ROOT)["keepword"]["operations"]

    said = {each for each, told in operations.items() if told["action"] == "send"}
    heard = {each for each, told in operations.items() if told["action"] == "receive"}

    assert said == {f"{topic.owner}.says.{topic.name}" for topic in ALL_TOPICS}
    assert heard == {
        f"{reader}.hears.{topic.name}" for topic in ALL_TOPICS for reader in readers(topic)
    }


@pytest.mark.parametrize("service", SERVICES)
def test_a_services_document_has_its_own_operations_and_their_channels_alone(service: str) -> None:
    document = committed(service)

    assert {each.split(".")[0] for each in document["operations"]} == {service}
    assert {f"#/channels/{each}" for each in document["channels"]} == {
        each["channel"]["$ref"] for each in document["operations"].values()
    }


def test_every_example_fits_the_schema_that_its_message_points_to() -> None:
    for message in committed("keepword")["components"]["messages"].values():
        schema = json.loads((ROOT / FOLDER / message["payload"]["$ref"]).read_text())
        for example in message["examples"]:
            Draft202012Validator(schema).validate(example["payload"])


def test_the_page_names_every_topic_message_and_a_class_for_every_field() -> None:
    text = page(ROOT)
    headings = set(re.findall(r"^### (.+)$", text, re.MULTILINE))
    rows = re.findall(r"^\| `[^`]+` \| .+ \| (\S*) \| (?:may be absent)? ?\|$", text, re.MULTILINE)

    assert headings == {each.name for each in ALL_TOPICS} | {each.name for each in MESSAGE_TYPES}
    assert len(rows) > 100
    assert set(rows) <= {each.value for each in BUS_MAY_CARRY}


def test_every_link_of_the_page_leads_somewhere() -> None:
    text = page(ROOT)
    anchors = {
        heading.replace(".", "") for heading in re.findall(r"^### (.+)$", text, re.MULTILINE)
    }

    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("#"):
            assert target.removeprefix("#") in anchors
        else:
            assert (ROOT / "docs" / target).exists()
