"""What has changed since the last release of each message's schema, and what the next one would be."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from contracts.compatibility import DOCUMENTATION, Schema, incompatibilities
from contracts.registry import MESSAGE_TYPES, MessageType
from contracts.schemas import published_schema

CONTRACTS: Final = Path(__file__).parent


class Change(StrEnum):
    """What a model's difference from the released schemas comes to."""

    NONE = "as released"
    DOCUMENTATION = "in words only"
    """The newest file may be written again: ``python -m contracts``."""
    ALLOWED = "needs a new version"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One message type against its releases.

    ``why`` says of each release what its readers or its data could not bear, ``added`` which
    fields came.
    """

    message_type: MessageType
    released: int
    change: Change
    added: tuple[str, ...] = ()
    why: tuple[tuple[int, str], ...] = ()


class NoNewVersion(Exception):  # noqa: N818 - reads as the fact it states
    """A next version cannot be written; the message says why."""


def released_schemas(message_type: MessageType, folder: Path = CONTRACTS) -> dict[int, Schema]:
    """Read every released schema of a type, by its number."""
    return _numbered(folder / "schemas" / message_type.name)


def compare(message_type: MessageType, folder: Path = CONTRACTS) -> Comparison:
    """Compare a type's model with its releases: the last, and those before it, both ways."""
    schemas = released_schemas(message_type, folder)
    if not schemas:
        return Comparison(message_type, 0, Change.ALLOWED)
    last = max(schemas)
    now = published_schema(replace(message_type, schema=last))
    why: dict[str, int] = {}
    for number in sorted(schemas, reverse=True):
        for reason in incompatibilities(schemas[number], now):
            why.setdefault(reason, number)
    if why:
        change = Change.REFUSED
    elif _bare(schemas[last]) != _bare(now):
        change = Change.ALLOWED
    else:
        change = Change.NONE if schemas[last] == now else Change.DOCUMENTATION
    return Comparison(
        message_type,
        last,
        change,
        tuple(_added(schemas[last], now)),
        tuple((number, reason) for reason, number in why.items()),
    )


def write_next_version(message_type: MessageType, folder: Path = CONTRACTS) -> list[Path]:
    """Write the next schema and a golden sample of a type, and return the two files.

    The sample is the last one as today's model says it: what came new has its default.

    Raises:
        NoNewVersion: nothing has changed that needs one, or the change is refused.
    """
    found = compare(message_type, folder)
    if found.change is Change.REFUSED:
        raise NoNewVersion(
            f"{message_type.name}: the change is refused; see `keepword contracts diff"
            f" {message_type.name}`. Anything that is not compatible is another message, v2."
        )
    if found.change is not Change.ALLOWED:
        raise NoNewVersion(f"{message_type.name} is as it was released, but for its words.")
    samples = _numbered(folder / "samples" / message_type.name)
    if not samples:
        raise NoNewVersion(
            f"{message_type.name} is new: write contracts/samples/{message_type.name}/1.json,"
            " then run `python -m contracts`."
        )
    coming = replace(message_type, schema=found.released + 1)
    sample = message_type.model.decode(json.dumps(samples[max(samples)]))
    written = []
    for kind, content in (
        ("schemas", published_schema(coming)),
        ("samples", json.loads(sample.encode())),
    ):
        file = folder / kind / coming.name / f"{coming.schema}.json"
        file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        written.append(file)
    return written


def types_named(names: list[str]) -> list[MessageType]:
    """Find message types by name, all of them where none is named; raises ``KeyError``."""
    by_name = {each.name: each for each in MESSAGE_TYPES}
    return [by_name[name] for name in names] if names else list(MESSAGE_TYPES)


def _numbered(folder: Path) -> dict[int, Any]:
    files = sorted(folder.glob("*.json"), key=lambda file: int(file.stem))
    return {int(file.stem): json.loads(file.read_text("utf-8")) for file in files}


def _bare(schema: Any) -> Any:
    """Leave out what only explains, and the number in the name."""
    if isinstance(schema, Mapping):
        return {
            key: _bare_fields(value) if key in {"properties", "$defs"} else _bare(value)
            for key, value in schema.items()
            if key not in DOCUMENTATION - {"$defs"}
        }
    return [_bare(each) for each in schema] if isinstance(schema, list) else schema


def _bare_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    # A field may have the name of a keyword.
    return {name: _bare(schema) for name, schema in fields.items()}


def _added(old: Schema, new: Schema) -> Iterator[str]:
    parts = [("", old, new)]
    before = old.get("$defs", {})
    parts += [
        (f"{name}.", before.get(name, {}), part) for name, part in new.get("$defs", {}).items()
    ]
    for prefix, earlier, later in parts:
        fields = earlier.get("properties", {})
        yield from (f"{prefix}{name}" for name in later.get("properties", {}) if name not in fields)
