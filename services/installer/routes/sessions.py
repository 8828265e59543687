"""The public key by which other services check the installer's session tokens."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from services.installer.sessions import SessionSigner


def sessions_router(signer: SessionSigner) -> APIRouter:
    """Return the route of the key set (RFC 7517)."""

    async def jwks(_: Request) -> Response:
        return Response(
            signer.jwks,
            media_type="application/jwk-set+json",
            headers={"cache-control": "public, max-age=300"},
        )

    router = APIRouter()
    router.add_route("/.well-known/jwks.json", jwks, methods=["GET"])
    return router
