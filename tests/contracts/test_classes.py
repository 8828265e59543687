"""No message has a field that the bus may not carry, and the check itself can fail."""

import re
from collections.abc import Mapping
from typing import Annotated, Any

import pytest

from contracts.classes import (
    BUS_MAY_CARRY,
    HIDDEN,
    FieldClass,
    refused_fields,
    shown,
    unclassified_fields,
)
from contracts.messages import Instant, Message, Pseudonym
from contracts.registry import MESSAGE_TYPES, MessageType
from contracts.schemas import published_schema

every_type = pytest.mark.parametrize("message_type", MESSAGE_TYPES, ids=lambda each: each.name)

TELLING = re.compile(
    r"secret|token|password|client|url|host|domain|e?mail|phone|address|person|contact_name|user"
)


class Inner(Message):
    known: Pseudonym
    forgotten: str


class Leaking(Message):
    tenant_id: Pseudonym
    at: Instant
    secret: Annotated[str, FieldClass.SECRET]
    client_key: Annotated[str | None, FieldClass.CLIENT_KEY] = None
    base_url: Annotated[str, FieldClass.HOST] | None = None
    people: tuple[Annotated[str, FieldClass.PERSON], ...] = ()
    answers: dict[Annotated[str, FieldClass.PROCESS], Annotated[str, FieldClass.CONTENT]]


class Unclassified(Message):
    tenant_id: Pseudonym
    plain: str
    optional: int | None = None
    either: Inner | str
    several: list[Inner]
    half: dict[Annotated[str, FieldClass.PROCESS], int]
    anything: Annotated[Any, FieldClass.PROCESS]
    untyped: Annotated[dict[str, object], FieldClass.PROCESS]
    itself: "Unclassified | None" = None


@every_type
def test_every_field_of_a_message_has_a_class(message_type: MessageType) -> None:
    assert unclassified_fields(message_type.model) == []


@every_type
def test_no_field_of_a_message_is_of_a_class_that_the_bus_may_not_carry(
    message_type: MessageType,
) -> None:
    assert refused_fields(message_type.model) == []


@every_type
def test_no_field_is_named_like_something_that_the_bus_may_not_carry(
    message_type: MessageType,
) -> None:
    schema = published_schema(message_type)
    models = [schema, *schema.get("$defs", {}).values()]
    names = {name for model in models for name in model.get("properties", {})}

    assert {name for name in names if TELLING.search(name)} == set()


@every_type
def test_the_published_schema_shows_the_classes(message_type: MessageType) -> None:
    assert '"x-class"' in str(published_schema(message_type)).replace("'", '"')


def test_a_field_without_a_class_is_found_wherever_it_stands() -> None:
    assert unclassified_fields(Unclassified) == [
        "anything",
        "either",
        "either.forgotten",
        "half",
        "optional",
        "plain",
        "several.forgotten",
        "untyped",
    ]


def test_a_field_of_a_refused_class_is_found_wherever_it_stands() -> None:
    assert refused_fields(Leaking) == ["answers", "base_url", "client_key", "people", "secret"]


def test_the_bus_carries_no_secrets_no_client_keys_no_hosts_no_people_and_no_content() -> None:
    assert frozenset(FieldClass) - BUS_MAY_CARRY == {
        FieldClass.SECRET,
        FieldClass.CLIENT_KEY,
        FieldClass.HOST,
        FieldClass.PERSON,
        FieldClass.CONTENT,
    }


class Sealed(Message):
    """What a later contract might hold by mistake."""

    token: Annotated[str, FieldClass.SECRET] = "a-secret"
    number: Annotated[int, FieldClass.PROCESS] = 7
    note: str = "unclassified"


class Carrier(Message):
    """Models within a model: alone, in a list, by name."""

    one: Sealed = Sealed()
    many: tuple[Sealed, ...] = (Sealed(), Sealed())
    named: Mapping[Annotated[str, FieldClass.PROCESS], Sealed] = {"a": Sealed()}


def test_what_is_shown_to_people_leaves_out_what_the_bus_may_not_carry() -> None:
    hidden = {"token": HIDDEN, "number": 7, "note": HIDDEN}
    assert shown(Carrier()) == {"one": hidden, "many": [hidden, hidden], "named": {"a": hidden}}
