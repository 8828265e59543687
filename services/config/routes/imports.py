"""Where a customer sees what an archive would change, and then lets it."""

import asyncio
from tempfile import SpooledTemporaryFile
from typing import Annotated, BinaryIO, Final, cast
from uuid import UUID

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response
from starlette.requests import ClientDisconnect

from chassis.problems import Problem
from chassis.unit_of_work import UnitOfWork
from services.config.archives.reader import ArchiveRefused, read_archive
from services.config.context import Context
from services.config.domain.imports import (
    Action,
    Imported,
    Reason,
    Step,
    counts,
    fingerprint,
    plan_import,
)
from services.config.domain.kinds import KINDS
from services.config.domain.schemas import COUNT, STRING, VERSION, an_object, or_null
from services.config.domain.schemas import UUID as AN_ID
from services.config.domain.things import references_of
from services.config.routes.access import Config, Tenant, reading, writing
from services.config.routes.changes import require_room, require_short_texts
from services.config.routes.openapi import BODY, CONFLICT, PREFIX, SENSE, Operation, json_answer
from services.config.store import transfers

MOST_BYTES: Final = 20 * 1024 * 1024
"""How large an archive may be on its way here."""

_PATH: Final = f"{PREFIX}/imports"
LARGER_BODIES: Final = {_PATH: MOST_BYTES, f"{_PATH}/previews": MOST_BYTES}

_IN_MEMORY: Final = 1024 * 1024
_MOST_TOLD: Final = 1_000

router = APIRouter(prefix=_PATH, tags=["imports"])

_COUNTS: Final = an_object(**{action.value: COUNT for action in Action})
_PREVIEW: Final = an_object(
    preview=STRING,
    counts=_COUNTS,
    steps={
        "type": "array",
        "items": an_object(
            kind=STRING,
            id=AN_ID,
            name=STRING,
            action={"enum": [action.value for action in Action]},
            reason=or_null({"enum": [reason.value for reason in Reason]}),
            version=or_null(VERSION),
        ),
    },
)
_ARCHIVE: Final = {"schema": {"type": "string", "format": "binary"}}
_EXAMPLE: Final = {
    "preview": "0" * 64,
    "counts": {"create": 1, "replace": 0, "skip": 0, "conflict": 1},
    "steps": [
        {
            "kind": "converter",
            "id": "0193574b-6bd0-7c3a-9a55-00000000000a",
            "name": "By month",
            "action": "conflict",
            "reason": "name-is-taken",
            "version": 3,
        }
    ],
}
_SHOWN: Final = Operation(
    200,
    {"200": json_answer("What it would do.", _PREVIEW, _EXAMPLE), **BODY, **SENSE},
    _ARCHIVE,
    media_type="application/zip",
)
_DONE: Final = Operation(
    200,
    {
        "200": json_answer(
            "What it did.", an_object(counts=_COUNTS), {"counts": _EXAMPLE["counts"]}
        ),
        **BODY,
        **SENSE,
        **CONFLICT,
    },
    _ARCHIVE,
    media_type="application/zip",
)


@router.post("/previews", operation_id="preview_import", **_SHOWN.arguments())
async def preview(request: Request, config: Config, tenant_id: Tenant) -> Response:
    """Say what an archive would create, replace and leave, and what is in conflict; store nothing.

    The first thousand steps that are no ``skip`` are told one by one.
    """
    imported = await sent_archive(request, config.context)
    async with reading(config, tenant_id) as uow:
        steps = await planned_import(uow, tenant_id, imported)
    told = [step.told() for step in steps if step.action is not Action.SKIP]
    return JSONResponse(
        {"preview": fingerprint(steps), "counts": counts(steps), "steps": told[:_MOST_TOLD]}
    )


@router.post("", operation_id="apply_import", **_DONE.arguments())
async def apply(
    request: Request,
    config: Config,
    tenant_id: Tenant,
    preview: Annotated[str, Query(pattern="^[0-9a-f]{64}$")],
) -> Response:
    """Do what a preview of the same archive has said, all of it or nothing.

    409 where it would do something else by now, or where it is in conflict.
    """
    imported = await sent_archive(request, config.context)
    async with writing(config, tenant_id, alone=True) as uow:
        steps = await planned_import(uow, tenant_id, imported)
        told = counts(steps)
        if fingerprint(steps) != preview:
            raise Problem(
                409,
                detail="It would do something else by now, as something has changed."
                " Preview it again.",
                extensions={"reason": "changed"},
            )
        if told[Action.CONFLICT]:
            raise Problem(
                409,
                detail="Some things are in conflict with what is here; the preview names them.",
                extensions={"reason": "conflicts", "counts": told},
            )
        await do_import(uow, tenant_id, steps)
    return JSONResponse({"counts": told})


async def sent_archive(request: Request, context: Context) -> list[Imported]:
    """Read the body to a file, and that in a thread: others are served meanwhile."""
    with SpooledTemporaryFile(_IN_MEMORY) as file:
        try:
            async for part in request.stream():
                file.write(part)
        except ClientDisconnect:
            raise Problem(400, detail="The file was not sent to its end.") from None
        try:
            imported = await asyncio.to_thread(read_archive, cast("BinaryIO", file))
        except ArchiveRefused as refused:
            # With its cause, which a screen says in the reader's language.
            raise Problem(
                422, "This archive cannot be imported", f"The file is refused: {refused}."
            ) from refused
    for each in imported:
        require_short_texts(each.kind, each.definition, context)
    return imported


async def planned_import(
    uow: UnitOfWork[Context], tenant_id: UUID, imported: list[Imported]
) -> list[Step]:
    """Say what becomes of each thing of an archive."""
    ids = {each.thing_id for each in imported}
    for each in imported:
        ids |= set(references_of(each.kind, each.definition.body()).values())
    present = await transfers.present(
        uow.connection, tenant_id, ids, {each.title for each in imported}
    )
    return plan_import(imported, present)


async def do_import(uow: UnitOfWork[Context], tenant_id: UUID, steps: list[Step]) -> None:
    """Do what was planned; the tenant is locked for this transaction alone."""
    created = 0
    for kind in KINDS:
        own = [step for step in steps if step.imported.kind is kind]
        new = [step for step in own if step.action is Action.CREATE]
        created += len(new)
        await transfers.replace_all(
            uow.connection,
            tenant_id,
            kind,
            [step for step in own if step.action is Action.REPLACE],
            now=uow.now,
            versions_kept=uow.context.limits.versions_kept,
        )
        await transfers.create_all(uow.connection, tenant_id, kind, new, now=uow.now)
    await require_room(uow, tenant_id, created)
