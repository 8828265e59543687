"""What the OpenAPI document says of config's routes, made of the kinds and their models."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from chassis.openapi import not_now, problem_response
from services.config.domain.kinds import KINDS, Kind
from services.config.domain.schemas import (
    COUNT,
    NEVER_SHOWN,
    STRING,
    STRINGS,
    TIME,
    UUID,
    VERSION,
    Described,
    an_object,
    or_null,
    schemas,
    title_of,
)

PREFIX: Final = "/api/v1"

_REF: Final = "#/components/schemas/"
_ID: Final = "0193574b-6bd0-7c3a-9a55-00000000000a"
_AT: Final = "2026-11-23T12:00:00+00:00"
_ETAG: Final = {"ETag": {"required": True, "schema": {"type": "string", "pattern": '^"[0-9]+"$'}}}

_SECURITY: Final = {
    "session": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A session token of the installer, meant for config.",
    }
}

# A list of ETags, or whatever there is (RFC 9110 section 13.1.1).
IF_MATCH_FORM: Final = r'^(\*|(W/)?"[!#-~]*"( *, *(W/)?"[!#-~]*")*)$'
IF_MATCH: Final[Described] = {
    "name": "If-Match",
    "in": "header",
    "required": True,
    "description": "The ETag of the version that was read; `*` for whichever there is.",
    "schema": {"type": "string", "pattern": IF_MATCH_FORM},
    "example": '"1"',
}
LONGEST_KEY: Final = 200
KEY_FORM: Final = f"^[!-~]{{1,{LONGEST_KEY}}}$"
_IDEMPOTENCY_KEY: Final[Described] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Made up by the caller; for a day a repeat with it creates nothing.",
    "schema": {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY, "pattern": KEY_FORM},
}
INVALID: Final = {"400": problem_response("The request has not the right form.")}
BODY: Final = {**INVALID, "413": problem_response("The body is too large.")}
SENSE: Final = {"422": problem_response("What is asked contradicts itself.")}
_MISSING: Final = {"404": problem_response("There is none of this id.")}
CONFLICT: Final = {"409": problem_response("It does not fit what is there; `detail` says why.")}
_AHEAD: Final = {
    "412": problem_response("It has changed since; `version` is the present one."),
    "428": problem_response("`If-Match` is missing; `version` is the present one."),
}
SERVED: Final = {
    "401": problem_response("No session, or none that is valid.", {"WWW-Authenticate": STRING}),
    "403": problem_response("The tenant may not do this here."),
    "410": problem_response("What the tenant kept here is being erased, or is erased."),
    "503": not_now("The service or the tenant is not there yet."),
}
"""How a tenant can be refused, whatever it asks for."""


@dataclass(frozen=True, slots=True)
class Operation:
    """What is said of one operation beside its name, its docstring and its plain parameters."""

    status: int
    responses: Mapping[str, Described]
    body: Described | None = None
    parameters: tuple[Described, ...] = ()
    media_type: str = "application/json"
    served: Mapping[str, Described] = field(default_factory=lambda: SERVED)
    security: tuple[Described, ...] = ({"session": []},)

    def arguments(self) -> dict[str, Any]:
        """Say it to FastAPI's `add_api_route`, or to a decorator of it."""
        extra: Described = {"security": list(self.security)}
        if self.body is not None:
            extra["requestBody"] = {"required": True, "content": {self.media_type: self.body}}
        if self.parameters:
            extra["parameters"] = list(self.parameters)
        return {
            "status_code": self.status,
            "responses": {**self.served, **self.responses},
            "openapi_extra": extra,
        }


def of_things(kind: Kind) -> dict[str, Operation]:
    """Describe the operations of `ThingRoutes`."""
    schema, example = _ref(title_of(kind)), {"example": kind.example}
    body = {"schema": schema, **example}
    one = _one(kind)
    place = {
        "schema": {
            "type": "object",
            "required": ["after"],
            "properties": {"after": or_null(UUID)},
            "additionalProperties": False,
        },
        "example": {"after": _ID},
    }
    created = {
        "201": json_answer(
            "It is stored.",
            _ref(f"Shown{title_of(kind)}"),
            _example(kind),
            {**_ETAG, "Location": {"required": True, "schema": STRING}},
        )
    }
    created["201"]["links"] = {
        name: {
            "operationId": f"{name}_{kind.name}",
            "parameters": {"thing_id": "$response.body#/id"},
        }
        for name in ("show", "replace", "duplicate", "put_in_place", "users", "versions", "remove")
    }
    return {
        "create": Operation(
            201, {**created, **BODY, **SENSE, **CONFLICT}, body, (_IDEMPOTENCY_KEY,)
        ),
        "list_some": Operation(200, {**_page(kind), **INVALID, **SENSE}),
        "show": Operation(200, {**one, **_MISSING, **INVALID}),
        "replace": Operation(
            200,
            {**one, **BODY, **SENSE, **_MISSING, **CONFLICT, **_AHEAD},
            body,
            (IF_MATCH,),
        ),
        "remove": Operation(
            204,
            {"204": {"description": "It is gone."}, **INVALID, **_MISSING, **CONFLICT, **_AHEAD},
            parameters=(IF_MATCH,),
        ),
        "duplicate": Operation(201, {**created, **INVALID, **_MISSING, **CONFLICT}),
        "put_in_place": Operation(
            204,
            {"204": {"description": "It stands there."}, **BODY, **_MISSING, **CONFLICT},
            place,
        ),
        "users": Operation(
            200,
            {
                "200": json_answer("Who uses it.", _USERS, {"users": [], "number": 0}),
                **INVALID,
                **_MISSING,
            },
        ),
        "pipeline": Operation(
            200,
            {
                "200": json_answer("It and all that it uses.", _pipeline(kind)),
                **INVALID,
                **_MISSING,
            },
        ),
    }


def of_history(kind: Kind) -> dict[str, Operation]:
    """Describe the operations of `HistoryRoutes`."""
    return {
        "versions": Operation(
            200,
            {
                "200": json_answer(
                    "Past versions.",
                    an_object(
                        version=VERSION,
                        items={
                            "type": "array",
                            "items": an_object(
                                version=VERSION, name=STRING, tags=STRINGS, made_at=TIME
                            ),
                        },
                        next=or_null(VERSION),
                    ),
                    {
                        "version": 3,
                        "items": [{"version": 2, "name": "Sales", "tags": [], "made_at": _AT}],
                        "next": 2,
                    },
                ),
                **INVALID,
                **_MISSING,
            },
        ),
        "version": Operation(
            200,
            {
                "200": json_answer("That version.", an_object(version=VERSION, made_at=TIME)),
                **INVALID,
                **_MISSING,
            },
        ),
        "difference": Operation(
            200,
            {
                "200": json_answer(
                    "What differs.",
                    _DIFFERENCE,
                    {
                        "from": 1,
                        "to": 2,
                        "fields": [
                            {"field": "name", "before": "Sale", "after": "Sales"},
                            {"field": "text", "lines": [[" ", "a"], ["-", "b"], ["+", "c"]]},
                        ],
                    },
                ),
                **INVALID,
                **_MISSING,
            },
        ),
        "restore": Operation(
            200,
            {**_one(kind), **INVALID, **_MISSING, **CONFLICT, **_AHEAD},
            parameters=(IF_MATCH,),
        ),
    }


def describe() -> Described:
    """Give the components of the document: what is written and what is shown of each kind."""
    return {"components": {"schemas": schemas(_REF), "securitySchemes": _SECURITY}}


def json_answer(
    description: str,
    schema: Described,
    example: Any = None,
    headers: Mapping[str, Described] | None = None,
) -> Described:
    """Describe an answer in JSON."""
    content: Described = {"schema": schema}
    if example is not None:
        content["example"] = example
    told: Described = {"description": description, "content": {"application/json": content}}
    if headers:
        told["headers"] = dict(headers)
    return told


def _ref(name: str) -> Described:
    return {"$ref": f"{_REF}{name}"}


def _one(kind: Kind) -> Described:
    schema = _ref(f"Shown{title_of(kind)}")
    return {"200": json_answer("It as it is now.", schema, _example(kind), _ETAG)}


def _page(kind: Kind) -> Described:
    listed = {name: value for name, value in _example(kind).items() if name not in kind.long}
    schema = an_object(
        items={"type": "array", "items": _ref(f"Listed{title_of(kind)}")}, next=or_null(STRING)
    )
    return {"200": json_answer("A page of them.", schema, {"items": [listed], "next": "AZNXS2vQ"})}


def _example(kind: Kind) -> Described:
    shown = {name: value for name, value in kind.example.items() if name != NEVER_SHOWN}
    sealed = {"has_credentials": True} if kind.has_secret else {}
    stamps = {"version": 1, "created_at": _AT, "updated_at": _AT}
    return {"id": _ID, **shown, **sealed, **stamps}


def _pipeline(kind: Kind) -> Described:
    by_name = {each.name: each for each in KINDS}
    targets: Described = {
        name: or_null(_ref(f"Shown{title_of(by_name[name])}")) for name in kind.refers.values()
    }
    targets[kind.name] = _ref(f"Shown{title_of(kind)}")
    return an_object(**targets)


_USERS: Final = an_object(
    users={"type": "array", "items": an_object(id=UUID, kind=STRING, name=STRING)},
    number=COUNT,
)
_DIFFERENCE: Final = {
    "type": "object",
    "required": ["from", "to", "fields"],
    "properties": {
        "from": VERSION,
        "to": VERSION,
        "fields": {
            "type": "array",
            "items": {
                "oneOf": [
                    an_object(field=STRING, before={}, after={}),
                    an_object(
                        field=STRING,
                        lines={
                            "type": "array",
                            "items": {"type": "array", "items": STRING, "minItems": 2},
                        },
                    ),
                ]
            },
        },
    },
}
