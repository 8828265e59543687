"""What an import would change: decided before anything is, and decided again when it is done."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from uuid import UUID

from services.config.domain.definitions import Definition
from services.config.domain.kinds import Kind
from services.config.domain.things import Thing, references_of


@dataclass(frozen=True, slots=True)
class Imported:
    """A thing as an archive has it."""

    kind: Kind
    thing_id: UUID
    definition: Definition = field(repr=False)

    @property
    def title(self) -> tuple[str, str]:
        """By what it is known besides its id."""
        return self.kind.name, self.definition.name


class Action(StrEnum):
    """What an import does with one thing."""

    CREATE = "create"
    REPLACE = "replace"
    SKIP = "skip"
    """It is here already, and the same."""
    CONFLICT = "conflict"


class Reason(StrEnum):
    """Why a thing is in conflict with what is here."""

    TWICE = "twice-in-the-file"
    ANOTHER_KIND = "id-is-of-another-kind"
    NAME_TAKEN = "name-is-taken"
    NATURE = "kind-never-changes"
    MISSING = "refers-to-what-is-not-there"
    UNLIKE = "refers-to-another-kind-of-system"
    BLOCKED = "refers-to-a-conflict"


@dataclass(frozen=True, slots=True)
class Step:
    """What becomes of one thing of the archive: ``target_id`` is what it is here."""

    imported: Imported
    action: Action
    target_id: UUID
    body: dict[str, Any] = field(repr=False)
    present: Thing | None = None
    reason: Reason | None = None

    def told(self) -> dict[str, Any]:
        """Say it to the customer."""
        return {
            "kind": self.imported.kind.name,
            "id": str(self.target_id),
            "name": self.imported.definition.name,
            "action": self.action.value,
            "reason": self.reason and self.reason.value,
            "version": self.present and self.present.version,
        }


def plan_import(imported: Sequence[Imported], present: Iterable[Thing]) -> list[Step]:
    """Decide what becomes of each thing, in the archive's order, which has what is meant first.

    ``present`` are the things here that have an id or a title of the archive, or
    are referred to. A thing is the same by its id, else by its kind and name;
    what refers to it in the archive refers to what it is here.
    """
    by_id = {thing.thing_id: thing for thing in present}
    by_title = {(thing.kind, thing.name): thing for thing in by_id.values()}
    ids = Counter(each.thing_id for each in imported)
    titles = Counter(each.title for each in imported)
    decided: dict[UUID, Step] = {}
    steps = []
    for each in imported:
        same = by_id.get(each.thing_id)
        named = by_title.get(each.title)
        target = same or named
        body, reason = _body_here(each, decided, by_id)
        if ids[each.thing_id] > 1 or titles[each.title] > 1:
            reason = Reason.TWICE
        elif same is not None and same.kind != each.kind.name:
            reason = Reason.ANOTHER_KIND
        elif named is not None and (
            named is not target or (same is None and named.thing_id in ids)
        ):
            reason = Reason.NAME_TAKEN
        elif target is not None and each.kind.nature_is_fixed:
            reason = Reason.NATURE if target.body["kind"] != body["kind"] else reason
        step = Step(
            each,
            _action(each, target, body, reason),
            target.thing_id if target is not None else each.thing_id,
            body,
            target,
            reason,
        )
        decided[each.thing_id] = step
        steps.append(step)
    return steps


def _action(
    imported: Imported, present: Thing | None, body: dict[str, Any], reason: Reason | None
) -> Action:
    if reason is not None:
        return Action.CONFLICT
    if present is None:
        return Action.CREATE
    definition = imported.definition
    wanted = (definition.name, definition.distinct_tags, body)
    return Action.SKIP if wanted == (present.name, present.tags, present.body) else Action.REPLACE


def _body_here(
    imported: Imported, decided: Mapping[UUID, Step], by_id: Mapping[UUID, Thing]
) -> tuple[dict[str, Any], Reason | None]:
    """Let a thing refer to what is here; say why it cannot."""
    kind, body = imported.kind, imported.definition.body()
    reason = None
    for name, meant in references_of(kind, body).items():
        step = decided.get(meant)
        if step is not None:
            found, nature = step.imported.kind.name, step.body.get("kind")
            body[name] = str(step.target_id)
            if step.action is Action.CONFLICT:
                reason = reason or Reason.BLOCKED
        elif (thing := by_id.get(meant)) is not None:
            found, nature = thing.kind, thing.body.get("kind")
        else:
            reason = Reason.MISSING
            continue
        if found != kind.refers[name]:
            reason = Reason.MISSING
        elif name in kind.alike and nature != body["kind"]:
            reason = reason or Reason.UNLIKE
    return body, reason


def counts(steps: Iterable[Step]) -> dict[str, int]:
    """Say how many things each action takes."""
    found = Counter(step.action for step in steps)
    return {action.value: found[action] for action in Action}


def fingerprint(steps: Iterable[Step]) -> str:
    """Name all that was decided, so that exactly this can be asked for afterwards."""
    digest = hashlib.sha256()
    for step in steps:
        definition = step.imported.definition
        told = [step.told(), definition.distinct_tags, step.body]
        digest.update(json.dumps(told, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()
