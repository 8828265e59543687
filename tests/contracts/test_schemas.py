"""Released schemas and their golden samples: old data and old readers for ever."""

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from contracts.__main__ import write_schemas
from contracts.compatibility import as_read, incompatibilities
from contracts.ledger import LedgerEntry
from contracts.purges import PurgeStarted
from contracts.registry import MESSAGE_TYPES, MessageType, by_name, key_of
from contracts.schemas import published_schema

ROOT = Path(__file__).parents[2]
SCHEMAS = ROOT / "contracts" / "schemas"
SAMPLES = ROOT / "contracts" / "samples"

every_type = pytest.mark.parametrize("message_type", MESSAGE_TYPES, ids=lambda each: each.name)


def released(folder: Path, message_type: MessageType) -> dict[int, Any]:
    files = (folder / message_type.name).glob("*.json")
    return {int(file.stem): json.loads(file.read_text()) for file in sorted(files)}


def checker(schema: dict[str, Any]) -> Draft202012Validator:
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)


def _without_later_fields(said: Any, sample: Any) -> Any:
    """Leave out of a body what an older sample of it does not have, however deep it lies."""
    if isinstance(sample, dict):
        return {name: _without_later_fields(said[name], sample[name]) for name in sample}
    if isinstance(sample, list):
        assert len(said) == len(sample)
        return [_without_later_fields(*pair) for pair in zip(said, sample, strict=True)]
    return said


def closed_parts(schema: Any) -> list[bool]:
    if isinstance(schema, list):
        return [each for part in schema for each in closed_parts(part)]
    if not isinstance(schema, dict):
        return []
    here = [schema.get("additionalProperties") is False] if "properties" in schema else []
    return here + [each for part in schema.values() for each in closed_parts(part)]


@every_type
def test_the_newest_released_schema_is_what_the_model_says(message_type: MessageType) -> None:
    schemas = released(SCHEMAS, message_type)

    assert max(schemas) == message_type.schema
    assert schemas[message_type.schema] == published_schema(message_type)


@every_type
def test_the_file_that_messages_point_to_is_there(message_type: MessageType) -> None:
    assert (ROOT / message_type.dataschema).is_file()


@every_type
def test_releases_are_numbered_without_gaps_and_each_has_a_golden_sample(
    message_type: MessageType,
) -> None:
    numbers = list(range(1, message_type.schema + 1))

    assert sorted(released(SCHEMAS, message_type)) == numbers
    assert sorted(released(SAMPLES, message_type)) == numbers


def test_nothing_lies_about_that_no_type_released() -> None:
    names = {each.name for each in MESSAGE_TYPES}

    assert {folder.name for folder in SCHEMAS.iterdir()} == names
    assert {folder.name for folder in SAMPLES.iterdir()} == names


@every_type
def test_a_published_schema_is_closed_through_and_through(message_type: MessageType) -> None:
    parts = closed_parts(published_schema(message_type))

    assert parts
    assert all(parts)


@every_type
def test_every_golden_sample_is_still_understood(message_type: MessageType) -> None:
    for number, sample in released(SAMPLES, message_type).items():
        message = message_type.model.decode(json.dumps(sample))
        said_again = json.loads(message.encode())

        assert _without_later_fields(said_again, sample) == sample
        if number == message_type.schema:
            assert said_again == sample


@every_type
def test_every_golden_sample_fits_every_released_schema(message_type: MessageType) -> None:
    schemas = released(SCHEMAS, message_type)
    for sent, sample in released(SAMPLES, message_type).items():
        for read, schema in schemas.items():
            checker(schema if read >= sent else as_read(schema)).validate(sample)


@every_type
def test_all_released_schemas_are_compatible_both_ways(message_type: MessageType) -> None:
    schemas = released(SCHEMAS, message_type)
    for old, new in combinations(sorted(schemas), 2):
        assert incompatibilities(schemas[old], schemas[new]) == []


@every_type
def test_what_we_send_today_is_compatible_with_everything_we_released(
    message_type: MessageType,
) -> None:
    for schema in released(SCHEMAS, message_type).values():
        assert incompatibilities(schema, published_schema(message_type)) == []


@every_type
def test_a_sample_names_nobody_and_no_host(message_type: MessageType) -> None:
    for sample in released(SAMPLES, message_type).values():
        assert "@" not in json.dumps(sample)
        assert "://" not in json.dumps(sample)


@every_type
def test_a_sample_has_the_key_of_its_topics(message_type: MessageType) -> None:
    for sample in released(SAMPLES, message_type).values():
        message = message_type.model.decode(json.dumps(sample))
        for topic in message_type.topics:
            assert key_of(message, topic) == str(sample[topic.key])


def test_the_samples_of_the_ledger_stand_under_their_own_type() -> None:
    for name in ("tenant-erased", "erasure-receipted"):
        for sample in released(SAMPLES, by_name(name)).values():
            assert LedgerEntry.decode(json.dumps(sample)).type_name == name


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("purge-started", {"wave": 3}),
        ("purge-started", {"wave": "1"}),
        ("purge-started", {"tenant_id": "acme"}),
        ("purge-started", {"classes": []}),
        ("purge-started", {"classes": ["plumbing"]}),
        ("purge-started", {"owner": "ops@example.com"}),
        ("purge-started", {"colour": "green"}),
        ("data-erased", {"counts": {"plumbing": 1}}),
        ("data-erased", {"erased_at": "2027-01-31T00:10:00+01:00"}),
        ("tenant-installed", {"classes": {"content": "live"}}),
    ],
)
def test_a_schema_refuses_what_we_never_send(name: str, wrong: dict[str, Any]) -> None:
    message_type = by_name(name)
    sample = released(SAMPLES, message_type)[1]

    with pytest.raises(ValidationError):
        checker(published_schema(message_type)).validate(sample | wrong)


def test_writing_the_schemas_again_changes_nothing(tmp_path: Path) -> None:
    write_schemas(tmp_path)

    for message_type in MESSAGE_TYPES:
        written = (tmp_path / message_type.dataschema).read_bytes()
        assert written == (ROOT / message_type.dataschema).read_bytes()


def test_an_old_reader_ignores_a_field_that_came_later() -> None:
    schema = published_schema(by_name("purge-started"))
    sample = released(SAMPLES, by_name("purge-started"))[1] | {"paused_by": "somebody"}

    checker(as_read(schema)).validate(sample)
    assert PurgeStarted.decode(json.dumps(sample)).wave == 2
