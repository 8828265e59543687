"""Archives for tests: those of an export, and those that somebody has made up."""

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

MANIFEST = {"format": "keepword-things", "version": 1, "exported_at": "2026-11-23T12:00:00+00:00"}

Members = Mapping[str, Sequence[dict[str, Any]]]


def packed(members: Mapping[str, bytes | str]) -> bytes:
    """A ZIP of these members."""
    file = io.BytesIO()
    with ZipFile(file, "w", ZIP_DEFLATED) as archive:
        for name, told in members.items():
            archive.writestr(name, told)
    return file.getvalue()


def an_archive(things: Members, **manifest: Any) -> bytes:
    """An archive of these things, each list under the kind's name in addresses."""
    return packed(
        {
            "manifest.json": json.dumps(MANIFEST | manifest),
            **{f"{plural}.json": json.dumps(list(some)) for plural, some in things.items()},
        }
    )


def unpacked(archive: bytes) -> dict[str, Any]:
    """What an archive holds, by the names of its members."""
    with ZipFile(io.BytesIO(archive)) as opened:
        assert opened.testzip() is None
        return {name: json.loads(opened.read(name)) for name in opened.namelist()}
