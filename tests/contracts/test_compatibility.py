"""Every rule by which one schema may follow another."""

from copy import deepcopy
from typing import Annotated, Any

import pytest
from pydantic import Field

from contracts.classes import FieldClass
from contracts.compatibility import as_read, incompatibilities
from contracts.messages import Message
from contracts.registry import MESSAGE_TYPES, MessageType
from contracts.schemas import published_schema

BASE: dict[str, Any] = {
    "$id": "urn:keepword:example:v1:1",
    "title": "example",
    "type": "object",
    "additionalProperties": False,
    "required": ["id", "size", "part", "state", "names", "counts"],
    "properties": {
        "id": {"type": "string", "format": "uuid", "x-class": "pseudonym"},
        "size": {"type": "integer", "minimum": 0, "maximum": 10},
        "part": {"$ref": "#/$defs/Part"},
        "state": {"$ref": "#/$defs/State"},
        "names": {
            "type": "array",
            "minItems": 1,
            "maxItems": 5,
            "items": {"type": "string", "pattern": "^[a-z]+$", "minLength": 1, "maxLength": 9},
        },
        "counts": {
            "type": "object",
            "propertyNames": {"enum": ["a", "b"]},
            "additionalProperties": {"type": "integer"},
        },
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
        "kind": {"type": "string", "const": "one", "default": "one"},
        "colour": {"type": "string", "enum": ["red", "unknown"], "default": "unknown"},
        "mood": {"$ref": "#/$defs/Mood", "default": "good"},
        "flag": {"type": "boolean", "default": False},
        "parent": {"anyOf": [{"$ref": "#/$defs/Part"}, {"type": "null"}], "default": None},
    },
    "$defs": {
        "Mood": {"type": "string", "enum": ["good", "bad"]},
        "State": {"type": "string", "enum": ["live", "gone"]},
        "Part": {
            "type": "object",
            "additionalProperties": False,
            "required": ["n"],
            "properties": {
                "n": {"type": "integer"},
                "inner": {"anyOf": [{"$ref": "#/$defs/Part"}, {"type": "null"}], "default": None},
            },
        },
    },
}

REMOVED = object()


def changed(path: str, value: Any) -> dict[str, Any]:
    """Copy the base schema with one value set, or taken out, at a path."""
    schema = deepcopy(BASE)
    *way, last = path.split("/")
    place: Any = schema
    for step in way:
        place = place[int(step) if isinstance(place, list) else step]
    if value is REMOVED:
        del place[last]
    else:
        place[last] = value
    return schema


ALLOWED = [
    pytest.param("title", "other", id="a title"),
    pytest.param("description", "what it is for", id="a description"),
    pytest.param("$id", "urn:keepword:example:v1:2", id="the schema's own number"),
    pytest.param("properties/id/description", "an id", id="a field's description"),
    pytest.param("properties/id/examples", ["a"], id="examples"),
    pytest.param("properties/id/x-class", "process", id="a class for documentation"),
    pytest.param(
        "properties/extra", {"type": "string", "default": ""}, id="an optional field with a default"
    ),
    pytest.param(
        "$defs/Part/properties/extra",
        {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
        id="an optional field of a part",
    ),
    pytest.param(
        "properties/note/anyOf", [{"type": "null"}, {"type": "string"}], id="the order of a union"
    ),
    pytest.param("properties/colour/enum", ["red", "green", "unknown"], id="an enum with an arm"),
    pytest.param("$defs/State/enum", ["gone", "live"], id="the order of an enum"),
    pytest.param(
        "required", ["counts", "names", "state", "part", "size", "id"], id="the order of required"
    ),
    pytest.param(
        "properties/state", {"type": "string", "enum": ["live", "gone"]}, id="a part written inline"
    ),
]

REFUSED = [
    ("properties/note", REMOVED, ["note: removed or renamed"]),
    (
        "$defs/Part/properties/inner",
        REMOVED,
        ["parent.inner: removed or renamed", "part.inner: removed or renamed"],
    ),
    ("properties/extra", {"type": "string"}, ["extra: added without a default"]),
    ("properties/id/type", "integer", ["id: type changed from 'string' to 'integer'"]),
    ("properties/size/type", "number", ["size: type changed from 'integer' to 'number'"]),
    ("properties/id/format", "uri", ["id: format changed from 'uuid' to 'uri'"]),
    ("properties/id/format", REMOVED, ["id: format changed from 'uuid' to nothing"]),
    (
        "properties/size/minimum",
        1,
        ["size: minimum changed from 0 to 1, old messages may not fit"],
    ),
    ("properties/size/minimum", -1, ["size: minimum changed from 0 to -1, old readers may refuse"]),
    (
        "properties/size/maximum",
        9,
        ["size: maximum changed from 10 to 9, old messages may not fit"],
    ),
    (
        "properties/size/maximum",
        REMOVED,
        ["size: maximum changed from 10 to nothing, old readers may refuse"],
    ),
    (
        "properties/size/exclusiveMinimum",
        0,
        ["size: exclusiveMinimum changed from nothing to 0, old messages may not fit"],
    ),
    (
        "properties/names/items/pattern",
        "^[a-f]+$",
        ["names[items]: pattern changed from '^[a-z]+$' to '^[a-f]+$'"],
    ),
    (
        "properties/id/pattern",
        "^[a-f]+$",
        ["id: pattern changed from nothing to '^[a-f]+$'"],
    ),
    (
        "properties/names/items/maxLength",
        8,
        ["names[items]: maxLength changed from 9 to 8, old messages may not fit"],
    ),
    (
        "properties/names/items/minLength",
        2,
        ["names[items]: minLength changed from 1 to 2, old messages may not fit"],
    ),
    (
        "properties/names/minItems",
        2,
        ["names: minItems changed from 1 to 2, old messages may not fit"],
    ),
    (
        "properties/names/maxItems",
        6,
        ["names: maxItems changed from 5 to 6, old readers may refuse"],
    ),
    (
        "properties/names/uniqueItems",
        True,
        ["names: uniqueItems changed from nothing to True"],
    ),
    ("$defs/State/enum", ["live"], ["state: 'gone' removed, old messages may hold it"]),
    (
        "$defs/State/enum",
        ["live", "gone", "lost"],
        ["state: 'lost' added, old readers have no arm for it"],
    ),
    (
        "$defs/State/enum",
        ["live", "gone", "unknown"],
        ["state: 'unknown' added, old readers have no arm for it"],
    ),
    ("$defs/State/enum", REMOVED, ["state: became an open vocabulary"]),
    ("properties/id/enum", ["a"], ["id: became an enum"]),
    (
        "properties/kind/const",
        "two",
        [
            "kind: 'one' removed, old messages may hold it",
            "kind: 'two' added, old readers have no arm for it",
        ],
    ),
    ("properties/kind/default", "two", ["kind: default changed from 'one' to 'two'"]),
    ("properties/mood/default", "bad", ["mood: default changed from 'good' to 'bad'"]),
    ("properties/flag/default", 0, ["flag: default changed from False to 0"]),
    ("properties/note/default", "", ["note: default changed from None to ''"]),
    (
        "properties/note/anyOf",
        [{"type": "string"}],
        ["note: no longer {'type': 'null'}, old messages may be"],
    ),
    (
        "properties/note/anyOf",
        [{"type": "string"}, {"type": "null"}, {"type": "integer"}],
        ["note: may now be {'type': 'integer'}"],
    ),
    (
        "properties/note/anyOf",
        [{"type": "integer"}, {"type": "null"}],
        ["note: type changed from 'string' to 'integer'"],
    ),
    (
        "properties/id",
        {"anyOf": [{"type": "string", "format": "uuid"}, {"type": "null"}]},
        ["id: may now be {'type': 'null'}"],
    ),
    (
        "properties/counts/propertyNames/enum",
        ["a", "b", "c"],
        ["counts[propertyNames]: 'c' added, old readers have no arm for it"],
    ),
    (
        "properties/counts/additionalProperties/type",
        "string",
        ["counts[additionalProperties]: type changed from 'integer' to 'string'"],
    ),
    (
        "additionalProperties",
        True,
        ["[additionalProperties]: changed from False to True"],
    ),
    (
        "additionalProperties",
        REMOVED,
        ["[additionalProperties]: changed from False to nothing"],
    ),
    ("properties/id/not", {"const": "a"}, ["id: not changed from nothing to {'const': 'a'}"]),
]


@pytest.mark.parametrize(("path", "value"), ALLOWED)
def test_a_change_that_both_sides_bear_is_allowed(path: str, value: Any) -> None:
    assert incompatibilities(BASE, changed(path, value)) == []


@pytest.mark.parametrize(("path", "value", "reasons"), REFUSED)
def test_a_change_that_one_side_does_not_bear_is_refused(
    path: str, value: Any, reasons: list[str]
) -> None:
    assert incompatibilities(BASE, changed(path, value)) == reasons


def test_a_new_required_field_is_refused() -> None:
    new = changed("properties/extra", {"type": "string", "default": ""})
    new["required"] = [*BASE["required"], "extra"]

    assert incompatibilities(BASE, new) == ["extra: added as required, old messages lack it"]


def test_a_renamed_field_is_refused_as_one_removed_and_one_added() -> None:
    new = deepcopy(BASE)
    new["properties"]["remark"] = new["properties"].pop("note")

    assert incompatibilities(BASE, new) == ["note: removed or renamed"]


def test_an_optional_field_never_becomes_required() -> None:
    new = changed("required", [*BASE["required"], "note"])

    assert incompatibilities(BASE, new) == ["note: became required, old messages may lack it"]


def test_a_required_field_never_becomes_optional() -> None:
    new = changed("required", BASE["required"][1:])

    assert incompatibilities(BASE, new) == ["id: became optional, old readers need it"]


def test_a_schema_is_compatible_with_itself_even_where_it_contains_itself() -> None:
    assert incompatibilities(BASE, deepcopy(BASE)) == []


def test_a_change_deep_in_a_part_that_contains_itself_is_found() -> None:
    new = changed("$defs/Part/properties/n/type", "string")

    assert "part.n: type changed from 'integer' to 'string'" in incompatibilities(BASE, new)


@pytest.mark.parametrize("message_type", MESSAGE_TYPES, ids=lambda each: each.name)
def test_the_rules_hold_on_the_schemas_that_we_publish(message_type: MessageType) -> None:
    schema = published_schema(message_type)
    assert incompatibilities(schema, schema) == []

    for name in schema["properties"]:
        without = deepcopy(schema)
        del without["properties"][name]
        assert incompatibilities(schema, without) == [f"{name}: removed or renamed"]


class Example(Message):
    """The first release."""

    size: Annotated[int, Field(ge=0), FieldClass.PROCESS]


class Grown(Message):
    """The second release, with a field that may be absent."""

    size: Annotated[int, Field(ge=0), FieldClass.PROCESS]
    unit: Annotated[str | None, FieldClass.PROCESS] = None


class Outgrown(Message):
    """No release of the same message."""

    size: Annotated[int, Field(ge=1), FieldClass.PROCESS]
    unit: Annotated[str, FieldClass.PROCESS]


def test_models_grow_as_the_rules_say() -> None:
    first, second, third = (
        published_schema(MessageType("example", model, ())) for model in (Example, Grown, Outgrown)
    )

    assert incompatibilities(first, second) == []
    assert incompatibilities(first, third) == [
        "unit: added as required, old messages lack it",
        "size: minimum changed from 0 to 1, old messages may not fit",
    ]


def test_a_schema_as_read_is_open_everywhere() -> None:
    opened = as_read(BASE)

    assert "additionalProperties" not in opened
    assert "additionalProperties" not in opened["$defs"]["Part"]
    assert opened["properties"]["counts"]["additionalProperties"] == {"type": "integer"}
