"""A strict identity provider for attacks: it keeps PKCE, and tells what a test wants told."""

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

ISSUER = "https://id.example.com"
SECRET = "the provider's and the service's"

_KEY = RSAKey.generate_key(2048, {"kid": "of the provider", "use": "sig"})
FOREIGN_KEY = RSAKey.generate_key(2048, {"kid": "of the provider", "use": "sig"})


@dataclass
class StrictProvider:
    """Its answers follow OpenID Connect Core 1.0; ``tell`` changes what its ID tokens claim."""

    client_id: str = "keepword-config"
    groups: Any = field(default_factory=lambda: ["kw-support"])
    tell: dict[str, Any] = field(default_factory=dict)
    signed_by: Any = field(default_factory=lambda: _KEY)
    header: dict[str, Any] = field(default_factory=lambda: {"alg": "RS256", "kid": _KEY.kid})
    knows_browser: bool = True
    away: bool = False
    asked: list[str] = field(default_factory=list)
    _codes: dict[str, Mapping[str, str]] = field(default_factory=dict)

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self._metadata),
                Route("/keys", self._keys),
                Route("/token", self._token, methods=["POST"]),
            ]
        )

    def authorize(self, url: str) -> str:
        """Do what the page of the provider does: where it sends the browser back to."""
        asked = {name: value[0] for name, value in parse_qs(urlsplit(url).query).items()}
        self.asked.append(asked.get("prompt", ""))
        assert asked["response_type"] == "code"
        assert asked["client_id"] == self.client_id
        assert asked["code_challenge_method"] == "S256"
        back = {"state": asked["state"]}
        if asked.get("prompt") == "none" and not self.knows_browser:
            back["error"] = "login_required"
        else:
            back["code"] = secrets.token_urlsafe(16)
            self._codes[back["code"]] = asked
        return f"{asked['redirect_uri']}?{urlencode(back)}"

    def claims(self, **told: Any) -> dict[str, Any]:
        """What an ID token says that is in order."""
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": self.client_id,
            "sub": "ada",
            "name": "Ada Lovelace",
            "iat": now,
            "exp": now + 300,
            "amr": ["pwd", "mfa"],
            "groups": self.groups,
            "sid": "session of ada",
        }
        return {name: value for name, value in (claims | told).items() if value is not None}

    def sign(self, claims: Mapping[str, Any]) -> str:
        if self.header["alg"] == "none":
            parts = ({"alg": "none"}, claims)
            return ".".join(_encoded(json.dumps(part).encode()) for part in parts) + "."
        return jwt.encode(self.header, dict(claims), self.signed_by)

    async def _metadata(self, _: Request) -> Response:
        if self.away:
            return Response(status_code=502)
        return JSONResponse(
            {
                "issuer": ISSUER,
                "authorization_endpoint": f"{ISSUER}/authorize",
                "token_endpoint": f"{ISSUER}/token",
                "jwks_uri": f"{ISSUER}/keys",
                "end_session_endpoint": f"{ISSUER}/end",
            }
        )

    async def _keys(self, _: Request) -> Response:
        return JSONResponse(KeySet([_KEY]).as_dict(private=False))

    async def _token(self, request: Request) -> Response:
        form = parse_qs((await request.body()).decode())
        told = {name: value[0] for name, value in form.items()}
        expected = base64.b64encode(f"{self.client_id}:{SECRET}".encode()).decode()
        asked = self._codes.pop(told.get("code", ""), None)
        challenge = _encoded(hashlib.sha256(told.get("code_verifier", "").encode()).digest())
        if (
            self.away
            or asked is None
            or request.headers.get("authorization") != f"Basic {expected}"
            or asked["code_challenge"] != challenge
            or asked["redirect_uri"] != told.get("redirect_uri")
        ):
            return JSONResponse({"error": "invalid_grant"}, status_code=400)
        token = self.sign(self.claims(**({"nonce": asked["nonce"]} | self.tell)))
        return JSONResponse(
            {"id_token": token, "access_token": "opaque", "token_type": "Bearer"},
        )


def _encoded(told: bytes) -> str:
    return base64.urlsafe_b64encode(told).rstrip(b"=").decode()
