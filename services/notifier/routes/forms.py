"""Reads what forms of our pages send."""

from email.parser import BytesParser
from email.policy import HTTP
from urllib.parse import parse_qsl

from starlette.requests import Request


async def form_of(request: Request) -> dict[str, str]:
    """Read a small form in either encoding (RFC 8058 section 3.1); what is no form is empty."""
    body = await request.body()
    content_type = request.headers.get("content-type", "").encode("latin-1")
    if not content_type.lower().startswith(b"multipart/form-data"):
        return dict(parse_qsl(body.decode("utf-8", "replace")))
    told = BytesParser(policy=HTTP).parsebytes(
        b"Content-Type: " + content_type + b"\r\n\r\n" + body
    )
    return {
        str(part.get_param("name", "", "content-disposition")): payload.decode("utf-8", "replace")
        for part in told.iter_parts()
        if isinstance(payload := part.get_payload(decode=True), bytes)
    }
