"""Signs what schemathesis sends the installer, as Atlassian, a site and Forge would.

Loaded by schemathesis in its own process; ``SIGNERS`` names the file with the keys to sign with.
"""

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import schemathesis
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from schemathesis import AuthContext, Case

from connect import jwt
from connect.qsh import CONTEXT_QSH, query_string_hash

SIGNERS = "KEEPWORD_TEST_SIGNERS"

_given = json.loads(Path(os.environ[SIGNERS]).read_text("utf-8"))
_BY_ATLASSIAN = ("/lifecycle/installed", "/lifecycle/uninstalled")
_BY_SECRET = ("/lifecycle/enabled", "/lifecycle/disabled")


def _key(name: str) -> RSAPrivateKey:
    key = load_pem_private_key(_given[name]["pem"].encode(), password=None)
    assert isinstance(key, RSAPrivateKey)
    return key


_keys = {name: _key(name) for name in ("atlassian", "forge")}


# Each request has a token of its own, so none is kept.
@schemathesis.auth(refresh_interval=None)
class Signed:
    """Signs a request for what it is; a call of a known site where it could be of any."""

    def get(self, case: Case[Any], _: AuthContext) -> str:
        if case.meta is not None and case.meta.generation.mode.is_positive:
            self._speak_of_what_is_known(case)
        if case.path.startswith("/forge/"):
            return f"Bearer {self._forge_token(case)}"
        claims = dict(_given["claims"])
        base, _slash, _rest = case.path.partition("/{addon_key}")
        path = case.formatted_path.removeprefix(f"{base}/{_given['app']}")
        qsh = query_string_hash(case.method, urlsplit(path).path, "")
        if case.path.endswith(_BY_ATLASSIAN):
            claims |= {"iss": _client_key_of(case.body), "aud": [_given["audience"]], "qsh": qsh}
            return f"JWT {jwt.sign(claims, _keys['atlassian'], key_id=_given['atlassian']['id'])}"
        claims |= {
            "iss": _given["client_key"],
            "qsh": CONTEXT_QSH if case.path.endswith("/session-tokens") else qsh,
        }
        return f"JWT {jwt.sign(claims, _given['secret'].encode())}"

    def set(self, case: Case[Any], data: str, _: AuthContext) -> None:
        if case.path.endswith("/entry"):
            case.query = {**(case.query or {}), "jwt": data.removeprefix("JWT ")}
        elif case.operation.definition.raw.get("security"):
            case.headers["Authorization"] = data

    @staticmethod
    def _speak_of_what_is_known(case: Case[Any]) -> None:
        """Put the app of the path into a valid body; a secret is known of one site alone."""
        body: Any = case.body
        if not isinstance(body, dict):
            return
        if case.path.startswith("/forge/"):
            body["app"]["id"] = _given["forge"]["claims"]["app"]["id"]
        elif "/lifecycle/" in case.path:
            body["key"] = _given["app"]
        if case.path.endswith(_BY_SECRET):
            body["clientKey"] = _given["client_key"]

    @staticmethod
    def _forge_token(case: Case[Any]) -> str:
        claims = json.loads(json.dumps(_given["forge"]["claims"]))
        if isinstance(case.body, dict) and isinstance(case.body.get("id"), str):
            claims["app"]["installationId"] = claims["app"]["installation"]["id"] = case.body["id"]
        return jwt.sign(claims, _keys["forge"], key_id=_given["forge"]["id"])


def _client_key_of(body: Any) -> str:
    claimed = body.get("clientKey") if isinstance(body, dict) else None
    return claimed if isinstance(claimed, str) and claimed else _given["client_key"]
