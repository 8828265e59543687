"""JSON Schemas of things: as they are written, as they are shown, and as lists show them."""

from copy import deepcopy
from typing import Any, Final

from pydantic.json_schema import models_json_schema

from services.config.domain.kinds import KINDS, Kind

Described = dict[str, Any]

STRING: Final[Described] = {"type": "string"}
STRINGS: Final[Described] = {"type": "array", "items": STRING}
UUID: Final[Described] = {"type": "string", "format": "uuid"}
TIME: Final[Described] = {"type": "string", "format": "date-time"}
VERSION: Final[Described] = {"type": "integer", "minimum": 1}
COUNT: Final[Described] = {"type": "integer", "minimum": 0}
NEVER_SHOWN: Final = "credentials"


def schemas(prefix: str) -> Described:
    """Describe all kinds, by name; what they refer to stands behind ``prefix`` and its name."""
    _, written = models_json_schema(
        [(kind.model, "validation") for kind in KINDS], ref_template=f"{prefix}{{model}}"
    )
    told: Described = dict(written["$defs"])
    for kind in KINDS:
        told[f"Shown{title_of(kind)}"] = _shown(kind, told[title_of(kind)], ())
        told[f"Listed{title_of(kind)}"] = _shown(kind, told[title_of(kind)], kind.long)
    return told


def title_of(kind: Kind) -> str:
    """Name the schema of what is written of a kind."""
    return kind.model.__name__


def or_null(schema: Described) -> Described:
    """Describe what may be null."""
    return {"anyOf": [schema, {"type": "null"}]}


def an_object(**properties: Described) -> Described:
    """Describe an object that has all of these."""
    return {"type": "object", "required": list(properties), "properties": properties}


def _shown(kind: Kind, written: Described, without: tuple[str, ...]) -> Described:
    properties = {
        name: deepcopy(schema)
        for name, schema in written["properties"].items()
        if name not in {NEVER_SHOWN, *without}
    }
    for name in kind.refers:
        # What was referred to may be gone where a thing came here from another tenant.
        properties[name] = or_null(UUID)
    sealed: Described = {"has_credentials": {"type": "boolean"}} if kind.has_secret else {}
    stamps: Described = {"version": VERSION, "created_at": TIME, "updated_at": TIME}
    return {**an_object(id=UUID, **properties, **sealed, **stamps), "additionalProperties": False}
