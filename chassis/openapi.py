"""What a service's OpenAPI document says that FastAPI cannot know: problem answers, plain routes."""

from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI

from chassis.problems import MEDIA_TYPE

INVALID: Final = "400"
PROBLEM: Final = {"$ref": "#/components/schemas/Problem"}

_PROBLEM_SCHEMA: Final = {
    "type": "object",
    "description": "A problem of RFC 9457. It never repeats what was sent.",
    "required": ["type", "title", "status"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string"},
        "reason": {"type": "string", "description": "A word of a closed list."},
        "errors": {
            "type": "array",
            "description": "Where a request is wrong, and what was expected there.",
            "items": {
                "type": "object",
                "required": ["field", "message"],
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
                "additionalProperties": False,
            },
        },
    },
}
_RETRY_AFTER: Final = {"Retry-After": {"type": "integer", "minimum": 0}}
# Of FastAPI's own document: how it would answer an invalid request if it were asked to.
_BY_FASTAPI: Final = "422"
_NEVER_SHOWN: Final = ("HTTPValidationError", "ValidationError")


def problem_response(
    description: str, headers: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """Describe a problem answer; ``headers`` are the schemas of those it always has."""
    told: dict[str, Any] = {
        "description": description,
        "content": {MEDIA_TYPE: {"schema": PROBLEM}},
    }
    if headers:
        told["headers"] = {
            name: {"required": True, "schema": dict(schema)} for name, schema in headers.items()
        }
    return told


def not_now(description: str = "The service cannot do this just now.") -> dict[str, Any]:
    """Describe the answer that the same call may come again."""
    return problem_response(description, _RETRY_AFTER)


def tell_the_truth(app: FastAPI, plain: Mapping[str, Any]) -> None:
    """Make an application's document say how its errors are answered, and what ``plain`` says.

    ``plain`` is part of a document: the path items of routes that FastAPI does
    not describe, and the components they refer to.
    """
    generated = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = generated()
            components = document.setdefault("components", {})
            for item in document.get("paths", {}).values():
                for operation in item.values():
                    _answer_with_problems(operation["responses"])
            for name in _NEVER_SHOWN:
                components.get("schemas", {}).pop(name, None)
            components.setdefault("schemas", {})["Problem"] = _PROBLEM_SCHEMA
            for kind, named in plain.get("components", {}).items():
                components.setdefault(kind, {}).update(named)
            document.setdefault("paths", {}).update(plain.get("paths", {}))
            app.openapi_schema = document
        return app.openapi_schema

    # FastAPI's own way to extend its document.
    app.openapi = openapi  # type: ignore[method-assign]


def _answer_with_problems(responses: dict[str, Any]) -> None:
    if _NEVER_SHOWN[0] in str(responses.get(_BY_FASTAPI)):
        del responses[_BY_FASTAPI]
        responses.setdefault(INVALID, problem_response("The request is not valid."))
        responses.setdefault("413", problem_response("The body is too large."))
    responses.setdefault("503", not_now("The service is starting."))
