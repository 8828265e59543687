"""Which class each piece of data belongs to, and what may travel on the bus at all."""

from collections.abc import Callable, Iterator
from enum import StrEnum
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel


class DataClass(StrEnum):
    """What stored data is about; erasure, holds and proof are decided class by class."""

    INSTALLATION = "installation"
    CONTENT = "content"
    ERRORS = "errors"
    TICKETS = "tickets"
    CONTACTS = "contacts"
    ERASURE_PROOF = "erasure-proof"
    """What an owner says about an erasure itself: ids only, outlives the tenant by 30 days."""
    PLUMBING = "plumbing"
    """Says nothing about any tenant."""


TENANT_CLASSES = (
    DataClass.INSTALLATION,
    DataClass.CONTENT,
    DataClass.ERRORS,
    DataClass.TICKETS,
    DataClass.CONTACTS,
)
"""The five classes that a tenant's data falls into, each erased by one owner."""


class FieldClass(StrEnum):
    """What the value of one message field tells whoever reads it."""

    PSEUDONYM = "pseudonym"
    """Our own ids of tenants, purges and receipts."""
    LICENCE = "licence"
    PROCESS = "process"
    """States, dates, versions, counts, names of our services."""
    APP = "app"
    """Which of the vendor's apps, in which product."""
    EVIDENCE = "evidence"
    """Hashes and signatures."""
    SECRET = "secret"  # noqa: S105 - the name of a class, no password
    CLIENT_KEY = "client-key"
    HOST = "host"
    PERSON = "person"
    CONTENT = "content"

    def __get_pydantic_json_schema__(
        self, core_schema: Any, handler: Callable[[Any], dict[str, Any]]
    ) -> dict[str, Any]:
        """Show the class in published schemas, where it is documentation only."""
        return {**handler(core_schema), "x-class": self.value}


BUS_MAY_CARRY = frozenset(
    {
        FieldClass.PSEUDONYM,
        FieldClass.LICENCE,
        FieldClass.PROCESS,
        FieldClass.APP,
        FieldClass.EVIDENCE,
    }
)
"""Everything else stays in its owner's database: a topic is read by many and forgets late."""


def unclassified_fields(model: type[BaseModel]) -> list[str]:
    """Name the fields of a message, and of models within it, that carry no class.

    A field that may hold anything at all (``Any``, ``object``) counts as
    unclassified whatever it claims, since nobody can know what will be in it.
    """
    return sorted(
        {path for path, leaf, classes in _leaves(model) if not classes or leaf in (Any, object)}
    )


def refused_fields(model: type[BaseModel]) -> list[str]:
    """Name the fields of a message, and of models within it, that the bus may not carry."""
    return sorted({path for path, _, classes in _leaves(model) if classes - BUS_MAY_CARRY})


_Leaf = tuple[str, Any, frozenset[FieldClass]]


def _leaves(
    model: type[BaseModel], prefix: str = "", seen: tuple[type, ...] = ()
) -> Iterator[_Leaf]:
    for name, field in model.model_fields.items():
        outer = frozenset(note for note in field.metadata if isinstance(note, FieldClass))
        for leaf, inner in _parts(field.annotation, outer):
            if isinstance(leaf, type) and issubclass(leaf, BaseModel):
                if leaf not in (*seen, model):
                    yield from _leaves(leaf, f"{prefix}{name}.", (*seen, model))
            else:
                yield f"{prefix}{name}", leaf, inner


def _parts(
    annotation: Any, classes: frozenset[FieldClass]
) -> Iterator[tuple[Any, frozenset[FieldClass]]]:
    """Take a type apart into what it can hold, with the classes that stand around each part."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner = (note for note in arguments[1:] if isinstance(note, FieldClass))
        yield from _parts(arguments[0], classes.union(inner))
    elif origin in (Union, UnionType) or (isinstance(origin, type) and arguments):
        for argument in arguments:
            if argument not in (NoneType, Ellipsis):
                yield from _parts(argument, classes)
    else:
        yield annotation, classes


HIDDEN = "(hidden)"


def shown(message: BaseModel) -> dict[str, Any]:
    """Give a message's fields for people to look at, without what the bus may not carry.

    What is unclassified or of a class that stays in its owner's database reads ``(hidden)``.
    """
    told = message.model_dump(mode="json")
    model = type(message)
    for path in {*refused_fields(model), *unclassified_fields(model)}:
        _hide(told, path.split("."))
    return told


def _hide(value: Any, path: list[str]) -> None:
    if isinstance(value, list):
        for each in value:
            _hide(each, path)
    elif isinstance(value, dict) and path[0] not in value:
        for each in value.values():  # a mapping, whose keys a path leaves out
            _hide(each, path)
    elif isinstance(value, dict):
        if len(path) == 1:
            value[path[0]] = HIDDEN
        else:
            _hide(value[path[0]], path[1:])
