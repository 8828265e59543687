"""What pages for people stand on: templates, style and script of our own, and who wants a page."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import Response


def templates_in(folder: Path) -> Environment:
    """Read templates of HTML; what is put into one is escaped, and what is missing is an error."""
    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def wants_page(request: Request) -> bool:
    """Whether a person's browser asks; programs get JSON."""
    return "text/html" in request.headers.get("accept", "")


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    headers: Mapping[str, str]


class PageFiles:
    """Scripts and style sheets of pages, read once; ``kinds`` gives the media type of each name."""

    def __init__(self, folder: Path, kinds: Mapping[str, str]) -> None:
        self._files = {name: _read(folder / name, kind) for name, kind in kinds.items()}

    async def show(self, request: Request) -> Response:
        """Serve the file that a path ends with; the browser asks each time whether it has changed."""
        file = self._files[request.url.path.rpartition("/")[2]]
        if request.headers.get("if-none-match") == file.headers["etag"]:
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=file.headers)
        return Response(file.content, headers=file.headers)


def _read(path: Path, kind: str) -> _File:
    content = path.read_bytes()
    headers = {
        "content-type": f"{kind}; charset=utf-8",
        "etag": f'"{sha256(content).hexdigest()[:32]}"',
        "cache-control": "no-cache",
    }
    return _File(content, headers)
