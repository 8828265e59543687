"""What the OpenAPI document says of the installer's plain routes, all in one place.

Bodies are described by their models; what a model's validators ask beyond JSON Schema is added here.
"""

import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final

from chassis.openapi import PROBLEM, not_now, problem_response
from chassis.problems import MEDIA_TYPE
from connect.forge import APP_ARI, ForgeEventType
from connect.hosts import MAX_URL_LENGTH, AllowedHosts
from connect.lifecycle import Disabled, Enabled, Installed, LifecycleBody, Uninstalled
from services.installer.domain.visits import Refusal
from services.installer.settings import ENTRY_PATH, InstallerSettings, path_of

Described = dict[str, Any]

_SIGNED: Final[Described] = {"atlassian": []}
_SIGNED_IN_QUERY: Final[Described] = {"atlassianInQuery": []}
_BY_FORGE: Final[Described] = {"forge": []}
_UNSIGNED: Final[Described] = {}
_SECURITY_SCHEMES: Final = {
    "atlassian": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": "`JWT`, a space, and a token that Atlassian or the site has signed.",
    },
    "atlassianInQuery": {
        "type": "apiKey",
        "in": "query",
        "name": "jwt",
        "description": "The same token, as it stands in the address of a page in a frame.",
    },
    "forge": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A Forge invocation token.",
    },
}

_STORED: Final = {"204": {"description": "It is stored, or there is nothing to store."}}
_UNKNOWN_APP: Final = {"404": problem_response("There is no such app here.")}
_PAGE: Final = {"text/html": {"schema": {"type": "string"}}}
_SESSION: Final = {
    "type": "object",
    "required": ["token", "expires_in_seconds"],
    "properties": {
        "token": {"type": "string", "description": "To be sent as `Authorization: Bearer`."},
        "expires_in_seconds": {"type": "integer", "minimum": 1},
    },
    "additionalProperties": False,
}
_KEY_SET: Final = {
    "type": "object",
    "required": ["keys"],
    "properties": {"keys": {"type": "array", "minItems": 1, "items": {"type": "object"}}},
}
_ID: Final = "[A-Za-z0-9_-]{1,64}"
_OPTIONAL_NAME: Final = Installed.model_json_schema()["properties"]["installationId"]["anyOf"]


def describe(settings: InstallerSettings) -> Described:
    """Give the part of an OpenAPI document that FastAPI does not make by itself."""
    base = path_of("{addon_key}")
    apps = _app_key(app.key for app in settings.apps)
    forge_apps = _app_key(app.key for app in settings.apps if app.forge_app_id is not None)
    hooks: dict[str, tuple[type[LifecycleBody], str, list[Described]]] = {
        "installed": (Installed, "Make a site's app installed, as the site is now.", [_SIGNED]),
        "uninstalled": (Uninstalled, "Note that a site removed the app.", [_SIGNED]),
        "enabled": (Enabled, "Note that a site may use the app.", [_SIGNED]),
        # After an uninstall it may come without a token; then it is not believed (AC-2561).
        "disabled": (Disabled, "Note that a site may not use it.", [_SIGNED, _UNSIGNED]),
    }
    paths = {
        f"{base}/lifecycle/{name}": apps
        | _post(
            summary,
            {**_STORED, **_call_refusals("JWT")},
            security=security,
            requestBody=_json_body(_lifecycle_schema(model, settings.site_hosts)),
        )
        for name, (model, summary, security) in hooks.items()
    }
    paths |= {
        f"{base}/atlassian-connect.json": apps
        | _get(
            "Read the app's descriptor.",
            {**_answer("The descriptor.", "application/json", {"type": "object"}), **_UNKNOWN_APP},
        ),
        f"{base}/": apps
        | _get(
            "Be led to the descriptor.",
            {"302": {"description": "Where the descriptor is."}, "404": _page_or_problem("")},
        ),
        f"{base}{ENTRY_PATH}": apps
        | _get(
            "Open the app's page, in a frame at a site.",
            {
                "200": {"description": "The page, with a session.", "content": _PAGE},
                **_visit_refusals(),
            },
            security=[_SIGNED_IN_QUERY, _SIGNED],
        ),
        f"{base}/session-tokens": apps
        | _post(
            "Renew the page's session, by a context token.",
            {
                **_answer("A session of a quarter of an hour.", "application/json", _SESSION, 201),
                **_visit_refusals(),
            },
            security=[_SIGNED],
        ),
        "/.well-known/jwks.json": _get(
            "Read the keys by which sessions are checked.",
            _answer("A key set of RFC 7517.", "application/jwk-set+json", _KEY_SET),
        ),
    }
    for name, kind in {"entry.js": "text/javascript", "entry.css": "text/css"}.items():
        paths[f"{base}/{name}"] = _app_key() | _get(
            "Load what the page is made of.",
            {
                **_answer("The file.", kind, {"type": "string"}),
                "304": {"description": "It has not changed."},
            },
        )
    if forge_apps["parameters"][0]["schema"]["enum"]:
        paths["/forge/{addon_key}/lifecycle"] = forge_apps | _post(
            "Note that Forge installed, upgraded or uninstalled the app.",
            {**_STORED, **_call_refusals("Bearer")},
            security=[_BY_FORGE],
            requestBody=_json_body(_FORGE_EVENT),
        )
        paths["/forge/{addon_key}/pre-uninstall"] = forge_apps | _post(
            "Note that an installation is about to end; the body is not read.",
            {**_STORED, **_call_refusals("Bearer")},
            security=[_BY_FORGE],
        )
    return {"paths": paths, "components": {"securitySchemes": _SECURITY_SCHEMES}}


_FORGE_EVENT: Final = {
    "type": "object",
    "required": ["eventType", "id", "app"],
    "properties": {
        "eventType": {"enum": [each.value for each in ForgeEventType]},
        "id": {
            "type": "string",
            "pattern": f"^(ari:cloud:ecosystem::installation/)?{_ID}$",
        },
        "app": {
            "type": "object",
            "required": ["id"],
            "properties": {
                "id": {"type": "string", "pattern": f"^({re.escape(APP_ARI)})?{_ID}$"},
                "version": {"anyOf": _OPTIONAL_NAME},
            },
        },
        "environment": {"type": "object", "properties": {"id": {"anyOf": _OPTIONAL_NAME}}},
        "context": {
            "anyOf": [
                {"type": "string", "pattern": f"^ari:cloud:[a-z][a-z0-9-]{{0,31}}::site/{_ID}$"},
                {"type": "null"},
            ]
        },
    },
}


def _lifecycle_schema(model: type[LifecycleBody], hosts: AllowedHosts) -> Described:
    schema = model.model_json_schema()
    site = schema["properties"]["baseUrl"]
    site |= {"maxLength": MAX_URL_LENGTH, "pattern": _site_pattern(hosts)}
    return schema


def _site_pattern(hosts: AllowedHosts) -> str:
    label = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
    domains = "|".join(map(re.escape, hosts.domains))
    named = [f"https://({label}\\.)+({domains})"]
    for scheme, allowed in (("https", hosts.https), ("http", hosts.http)):
        named += [f"{scheme}://{re.escape(host)}" for host in sorted(allowed)]
    return f"^({'|'.join(named)})(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*/?$"


def _app_key(known: Iterable[str] | None = None) -> Described:
    schema: Described = {"type": "string", "minLength": 1}
    if known is not None:
        schema["enum"] = sorted(known)
    return {"parameters": [{"name": "addon_key", "in": "path", "required": True, "schema": schema}]}


def _get(summary: str, responses: Mapping[str, Any], **more: Any) -> Described:
    return {"get": _operation(summary, responses, more)}


def _post(summary: str, responses: Mapping[str, Any], **more: Any) -> Described:
    return {"post": _operation(summary, responses, more)}


def _operation(summary: str, responses: Mapping[str, Any], more: Mapping[str, Any]) -> Described:
    # Until the service has started, every call is answered so.
    return {"summary": summary, **more, "responses": {"503": not_now(), **responses}}


def _answer(
    description: str, media_type: str, schema: Mapping[str, Any], status: int = 200
) -> Described:
    content = {media_type: {"schema": schema}}
    return {str(status): {"description": description, "content": content}}


def _json_body(schema: Mapping[str, Any]) -> Described:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _call_refusals(scheme: str) -> Described:
    return {
        **_UNKNOWN_APP,
        "400": problem_response("The body is not that of this call, or of another app."),
        "401": problem_response(
            "No token, or one that proves nothing here.",
            {"WWW-Authenticate": {"type": "string", "pattern": f'^{scheme} realm="'}},
        ),
        "403": problem_response("The token is right, and of somebody else or something else."),
        "413": problem_response("The body is too large."),
    }


def _visit_refusals() -> Described:
    return {
        "401": _page_or_problem(Refusal.UNPROVEN),
        "403": _page_or_problem(f"{Refusal.LEFT} or {Refusal.KEPT_ELSEWHERE}"),
        "404": _page_or_problem(""),
        "410": _page_or_problem(Refusal.GONE),
        "503": _page_or_problem(Refusal.NOT_NOW),
    }


def _page_or_problem(reason: str) -> Described:
    """Describe a refusal: a page for a browser, a problem with this ``reason`` for a program."""
    described = f"`reason` is {reason}." if reason else HTTPStatus.NOT_FOUND.phrase
    return {
        "description": described,
        "content": {**_PAGE, MEDIA_TYPE: {"schema": PROBLEM}},
    }
