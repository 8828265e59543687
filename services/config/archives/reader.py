"""Reads an archive that somebody sent, and refuses whatever no export of ours could be."""

import json
import os
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO, Final
from uuid import UUID
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo
from zlib import error as ZlibError  # noqa: N812 - an exception's name

from pydantic import ValidationError
from pydantic_core import from_json

from chassis.words import word
from services.config.archives import FORMAT, FORMAT_VERSION, HISTORY, MANIFEST, SCHEMA
from services.config.domain.imports import Imported
from services.config.domain.kinds import KINDS, Kind

MOST_BYTES: Final = 64 * 1024 * 1024
"""How large the members that are read may be together, once they are unpacked."""

MOST_THINGS: Final = 5_000
"""So that all of it is one transaction of a few seconds."""

_MEMBERS: Final = frozenset({MANIFEST, SCHEMA, HISTORY, *(f"{kind.plural}.json" for kind in KINDS)})
_END: Final = struct.Struct("<4s4H2LH")
_END_MARK: Final = b"PK\x05\x06"
_ZIP64_MARK: Final = b"PK\x06\x07"
_ZIP64_BYTES: Final = 20
_MOST_DIRECTORY_BYTES: Final = 64 * 1024
_ENCRYPTED: Final = 0x1
_CHUNK: Final = 256 * 1024
_MOST_MANIFEST_BYTES: Final = 64 * 1024
# What we say of a thing and nobody else can.
_OURS: Final = ("version", "created_at", "updated_at", "has_credentials")


class ArchiveRefused(Exception):  # noqa: N818 - reads as the fact it states
    """The file is no archive that can be imported; says why, and repeats nothing of it.

    What it says in English is ``text`` with its ``values``, and looked up where a person reads it.
    """

    def __init__(self, text: str, **values: object) -> None:
        super().__init__(text % values)
        self.text = text
        self.values = values


def read_archive(file: BinaryIO) -> list[Imported]:
    """Read the things of an archive, kind by kind; raises ``ArchiveRefused``.

    Every size is counted while it is read, whatever the file says of itself. The
    history in it is left alone: what is imported is the next version here.
    """
    _require_small_directory(file)
    try:
        with ZipFile(file) as archive:
            members = _members(archive)
            left = MOST_BYTES
            _require_our_format(_read(archive, members[MANIFEST], _MOST_MANIFEST_BYTES))
            found: list[Imported] = []
            for kind in KINDS:
                name = f"{kind.plural}.json"
                if name not in members:
                    continue
                told = _read(archive, members[name], left)
                left -= len(told)
                found += _things(kind, name, told)
                if len(found) > MOST_THINGS:
                    raise ArchiveRefused(word("it has more than %(most)s things"), most=MOST_THINGS)
            return found
    # NotImplementedError: a method that is unknown; RuntimeError: a password.
    except (BadZipFile, ZlibError, EOFError, OSError, NotImplementedError, RuntimeError):
        raise ArchiveRefused(word("it is damaged, or no ZIP file")) from None


def _require_small_directory(file: BinaryIO) -> None:
    """Look at the end of the file alone: `ZipFile` would read a directory of any size."""
    size = file.seek(0, os.SEEK_END)
    if size < _END.size:
        raise ArchiveRefused(word("it is no ZIP file"))
    file.seek(max(0, size - _END.size - _ZIP64_BYTES))
    tail = file.read()
    mark, _, _, _, entries, directory_bytes, _, comment = _END.unpack(tail[-_END.size :])
    if mark != _END_MARK or comment:
        raise ArchiveRefused(word("it is no ZIP file, or one with a comment"))
    if tail[: -_END.size].startswith(_ZIP64_MARK):
        raise ArchiveRefused(word("it is a ZIP64 file"))
    if entries > len(_MEMBERS) or directory_bytes > _MOST_DIRECTORY_BYTES:
        raise ArchiveRefused(word("it has more members than an export has"))
    file.seek(0)


def _members(archive: ZipFile) -> dict[str, ZipInfo]:
    members: dict[str, ZipInfo] = {}
    for info in archive.infolist():
        # Nothing is unpacked to a path, and a name that is not one of ours is not even read.
        if info.filename not in _MEMBERS or info.orig_filename != info.filename:
            raise ArchiveRefused(word("it has a member that an export does not have"))
        if info.filename in members:
            raise ArchiveRefused(word("it has a member twice"))
        if info.flag_bits & _ENCRYPTED or info.compress_type not in {ZIP_STORED, ZIP_DEFLATED}:
            raise ArchiveRefused(word("it is encrypted, or packed in an unusual way"))
        members[info.filename] = info
    if MANIFEST not in members:
        raise ArchiveRefused(word("it has no %(name)s"), name=MANIFEST)
    return members


def _read(archive: ZipFile, info: ZipInfo, most: int) -> bytes:
    if info.file_size > most:
        raise ArchiveRefused(word("unpacked it is larger than %(most)s bytes"), most=MOST_BYTES)
    parts, size = [], 0
    with archive.open(info) as member:
        while part := member.read(_CHUNK):
            size += len(part)
            if size > most:
                raise ArchiveRefused(
                    word("unpacked it is larger than %(most)s bytes"), most=MOST_BYTES
                )
            parts.append(part)
    return b"".join(parts)


def _require_our_format(told: bytes) -> None:
    manifest = _json(MANIFEST, told)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ArchiveRefused(
            word("%(name)s does not say that it is an export of things"), name=MANIFEST
        )
    version = manifest.get("version")
    if type(version) is not int or version != FORMAT_VERSION:
        raise ArchiveRefused(
            word("its version is not %(version)s, the one that is read here"),
            version=FORMAT_VERSION,
        )


def _things(kind: Kind, name: str, told: bytes) -> Iterator[Imported]:
    entries = _json(name, told)
    if not isinstance(entries, list):
        raise ArchiveRefused(word("%(name)s is not a list"), name=name)
    for number, entry in enumerate(entries, 1):
        where = {"name": name, "number": number}
        if not isinstance(entry, dict):
            raise ArchiveRefused(word("%(name)s, entry %(number)s is no object"), **where)
        if "credentials" in entry:
            raise ArchiveRefused(
                word("%(name)s, entry %(number)s: credentials are not imported, leave them out"),
                **where,
            )
        own = {key: value for key, value in entry.items() if key not in {"id", *_OURS}}
        try:
            thing_id = UUID(str(entry.get("id")))
            definition = kind.model.model_validate_json(json.dumps(own), strict=True)
        except ValidationError as refused:
            error = refused.errors(include_url=False, include_context=False, include_input=False)[0]
            field = str(error["loc"][0]) if error["loc"] else ""
            # What is not a field of ours is not repeated.
            if field not in kind.model.model_fields:
                raise ArchiveRefused(
                    word("%(name)s, entry %(number)s: an unknown field: %(what)s"),
                    **where,
                    what=error["type"],
                ) from None
            raise ArchiveRefused(
                word("%(name)s, entry %(number)s: %(field)s: %(what)s"),
                **where,
                field=field,
                what=error["type"],
            ) from None
        except ValueError:
            raise ArchiveRefused(
                word("%(name)s, entry %(number)s: its id is none"), **where
            ) from None
        yield Imported(kind, thing_id, definition)


def _json(name: str, told: bytes) -> Any:
    try:
        return from_json(told, allow_inf_nan=False)
    except ValueError:
        raise ArchiveRefused(word("%(name)s is no JSON"), name=name) from None
