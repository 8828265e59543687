"""Writes an archive as a stream: what has been written is handed on, and never held as a whole."""

import asyncio
import json
from collections.abc import AsyncIterable, AsyncIterator
from datetime import datetime
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from services.config.archives import FORMAT, FORMAT_VERSION, HISTORY, MANIFEST, SCHEMA
from services.config.domain.kinds import KINDS
from services.config.domain.schemas import (
    STRING,
    STRINGS,
    TIME,
    UUID,
    VERSION,
    an_object,
    schemas,
    title_of,
)

# Pages of entries of one member of the archive, each entry as JSON can have it.
Pages = AsyncIterable[list[dict[str, Any]]]


class _Outlet:
    """A file that cannot be sought, and gives away what was written to it."""

    def __init__(self) -> None:
        self._waiting: list[bytes] = []

    def write(self, some: bytes) -> int:
        self._waiting.append(bytes(some))
        return len(some)

    def flush(self) -> None:
        """Nothing is held back."""

    def take(self) -> bytes:
        some = b"".join(self._waiting)
        self._waiting.clear()
        return some


async def written(members: AsyncIterable[tuple[str, Pages]], at: datetime) -> AsyncIterator[bytes]:
    """Write these members behind manifest and schema; give each part as soon as it is there."""
    outlet = _Outlet()
    with ZipFile(outlet, "w", ZIP_DEFLATED) as archive:  # type: ignore[call-overload]
        for name, told in (
            (
                MANIFEST,
                {"format": FORMAT, "version": FORMAT_VERSION, "exported_at": at.isoformat()},
            ),
            (SCHEMA, schema()),
        ):
            archive.writestr(_info(name, at), json.dumps(told, indent=1))
        async for name, pages in members:
            with archive.open(_info(name, at), "w") as member:
                first = True
                async for page in pages:
                    lines = [json.dumps(entry, ensure_ascii=False) for entry in page]
                    text = ("[\n" if first else ",\n") + ",\n".join(lines) if lines else ""
                    first = first and not lines
                    # It is compressed beside the loop, so that others are served meanwhile.
                    await asyncio.to_thread(member.write, text.encode())
                    yield outlet.take()
                member.write(b"[]\n" if first else b"\n]\n")
    yield outlet.take()


def schema() -> dict[str, Any]:
    """Describe the members of an archive, each under its name, as JSON Schema."""
    version = an_object(
        kind=STRING, id=UUID, version=VERSION, name=STRING, tags=STRINGS, made_at=TIME
    )
    shown = {
        f"{kind.plural}.json": {
            "type": "array",
            "items": {"$ref": f"#/$defs/Shown{title_of(kind)}"},
        }
        for kind in KINDS
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            MANIFEST: an_object(
                format={"const": FORMAT}, version={"const": FORMAT_VERSION}, exported_at=TIME
            ),
            **shown,
            HISTORY: {"type": "array", "items": version},
        },
        "$defs": schemas("#/$defs/"),
    }


def _info(name: str, at: datetime) -> ZipInfo:
    info = ZipInfo(name, at.timetuple()[:6])
    info.compress_type = ZIP_DEFLATED
    # A file that its owner may read and write.
    info.external_attr = 0o600 << 16
    return info
