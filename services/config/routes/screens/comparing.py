"""What differs between two versions of a thing, so that a person can read it."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

from chassis.unit_of_work import UnitOfWork
from services.config.context import Context
from services.config.domain.differences import Difference, differences
from services.config.domain.kinds import Kind
from services.config.domain.things import PastVersion, Thing
from services.config.store import things

_NEAR: Final = 3


async def compared(
    uow: UnitOfWork[Context],
    tenant_id: UUID,
    kind: Kind,
    before: PastVersion | Thing,
    after: PastVersion | Thing,
) -> list[Difference]:
    """Compare two versions; what one refers to is called by its present name."""
    found = await asyncio.to_thread(differences, _told(before), _told(after), kind.long)
    ids = [UUID(each) for one in found if one.field in kind.refers for each in _ids(one)]
    names = {str(key): thing.name for key, thing in (await _found(uow, tenant_id, ids)).items()}

    def named(one: Difference) -> Difference:
        told = (names.get(each, each) for each in (one.before, one.after))
        return replace(one, **dict(zip(("before", "after"), told, strict=True)))

    return [named(one) if one.field in kind.refers else one for one in found]


async def _found(
    uow: UnitOfWork[Context], tenant_id: UUID, ids: Sequence[UUID]
) -> dict[UUID, Thing]:
    return await things.found(uow.connection, tenant_id, ids) if ids else {}


def _ids(one: Difference) -> Iterator[str]:
    yield from (each for each in (one.before, one.after) if each is not None)


def _told(version: PastVersion | Thing) -> dict[str, Any]:
    return {"name": version.name, "tags": version.tags, **version.body}


def told(value: Any) -> str:
    """Say a value of a field in one line, or several."""
    match value:
        case None | "":
            return "-"
        case bool():
            return str(value).lower()
        case Mapping():
            return "\n".join(f"{name}: {told(each)}" for name, each in value.items() if each)
        case list() | tuple():
            has_parts = any(isinstance(each, Mapping) for each in value)
            return ("\n" if has_parts else ", ").join(map(told, value)) or "-"
        case other:
            return str(other)


def near(lines: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Leave out the lines that are far from every one that differs; an ellipsis stands for them."""
    shown = {
        beside
        for at, (sign, _) in enumerate(lines)
        if sign != " "
        for beside in range(at - _NEAR, at + _NEAR + 1)
    }
    before = -1
    for at, line in enumerate(lines):
        if at in shown:
            if at != before + 1:
                yield "…", ""
            yield line
            before = at
    if before != len(lines) - 1:
        yield "…", ""
