"""Whether two schemas of one message type can live together, old data and old readers for ever."""

from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]

_UNKNOWN = "unknown"
"""An enum with this value has an arm for values that came later; without it no value is added."""

DOCUMENTATION = {"$schema", "$id", "$defs", "$comment", "title", "description", "examples"}
_STRUCTURE = {"$ref", "anyOf", "oneOf", "enum", "const", "properties", "required"}
_NESTED = {"items", "propertyNames", "additionalProperties"}
_NO_LESS = {"minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"}
_NO_MORE = {"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"}
_ABSENT = object()


def incompatibilities(old: Schema, new: Schema) -> list[str]:
    """Say why two schemas of a message type are not compatible both ways; empty when they are.

    Old data stays in topics, outboxes and the ledger, and old readers run
    beside new senders, so what one schema allows the other's reader must bear.
    A change may only add optional fields with a default, or change the
    documentation. Enums grow only where ``unknown`` is a value already. A
    keyword that this function does not know may not change either.
    """
    return list(_Comparison(old, new).differences(old, new, ""))


def as_read(schema: Schema) -> dict[str, Any]:
    """Open a published schema as our readers do, which ignore fields that they do not know."""
    return {key: _as_read(value) for key, value in schema.items() if not _closes(key, value)}


def _as_read(value: Any) -> Any:
    if isinstance(value, Mapping):
        return as_read(value)
    return [_as_read(each) for each in value] if isinstance(value, list) else value


def _closes(key: str, value: Any) -> bool:
    return key == "additionalProperties" and value is False


class _Comparison:
    """One walk through two schemas; each knows its own definitions."""

    def __init__(self, old: Schema, new: Schema) -> None:
        self._old_definitions: Schema = old.get("$defs", {})
        self._new_definitions: Schema = new.get("$defs", {})
        self._open: set[tuple[str, str]] = set()

    def differences(self, old: Any, new: Any, at: str) -> Iterator[str]:
        if not isinstance(old, Mapping) or not isinstance(new, Mapping):
            if old != new:
                yield f"{_spot(at)}: changed from {_shown(old)} to {_shown(new)}"
            return
        names = (old.get("$ref", ""), new.get("$ref", ""))
        if all(names):
            if names in self._open:
                return
            self._open.add(names)
        yield from self._resolved(
            _resolve(old, self._old_definitions), _resolve(new, self._new_definitions), at
        )
        self._open.discard(names)

    def _resolved(self, old: Schema, new: Schema, at: str) -> Iterator[str]:
        if _arms(old) is not None or _arms(new) is not None:
            yield from self._alternatives(_arms(old) or [old], _arms(new) or [new], at)
            yield from _plain(_only(old, {"default"}), _only(new, {"default"}), at)
            return
        yield from _enums(old, new, at)
        yield from self._fields(old, new, at)
        for keyword in sorted(_NESTED & (old.keys() | new.keys())):
            yield from self.differences(
                old.get(keyword, _ABSENT), new.get(keyword, _ABSENT), f"{at}[{keyword}]"
            )
        yield from _plain(old, new, at)

    def _fields(self, old: Schema, new: Schema, at: str) -> Iterator[str]:
        before, after = old.get("properties", {}), new.get("properties", {})
        must_before, must_after = set(old.get("required", ())), set(new.get("required", ()))
        for name in sorted(before.keys() - after.keys()):
            yield f"{_spot(at, name)}: removed or renamed"
        for name in sorted(after.keys() - before.keys()):
            if name in must_after:
                yield f"{_spot(at, name)}: added as required, old messages lack it"
            elif "default" not in after[name]:
                yield f"{_spot(at, name)}: added without a default"
        for name in sorted(before.keys() & after.keys()):
            if name in must_after - must_before:
                yield f"{_spot(at, name)}: became required, old messages may lack it"
            if name in must_before - must_after:
                yield f"{_spot(at, name)}: became optional, old readers need it"
            yield from self.differences(before[name], after[name], f"{at}.{name}".lstrip("."))

    def _alternatives(self, before: list[Schema], after: list[Schema], at: str) -> Iterator[str]:
        """Match the arms of a union whatever their order; a lone pair is compared in depth."""
        unmatched = list(after)
        gone = []
        for arm in before:
            twin = next((each for each in unmatched if self._same(arm, each)), None)
            if twin is None:
                gone.append(arm)
            else:
                unmatched.remove(twin)
        if len(gone) == len(unmatched) == 1:
            yield from self.differences(gone[0], unmatched[0], at)
            return
        yield from (f"{_spot(at)}: no longer {_shown(arm)}, old messages may be" for arm in gone)
        yield from (f"{_spot(at)}: may now be {_shown(arm)}" for arm in unmatched)

    def _same(self, old: Schema, new: Schema) -> bool:
        return not list(self.differences(old, new, ""))


def _resolve(schema: Schema, definitions: Schema) -> Schema:
    """Put the definition in the place of a reference; what stands beside it wins."""
    if "$ref" not in schema:
        return schema
    target = definitions[schema["$ref"].removeprefix("#/$defs/")]
    beside = {key: value for key, value in schema.items() if key != "$ref"}
    return _resolve({**target, **beside}, definitions)


def _arms(schema: Schema) -> list[Schema] | None:
    arms: list[Schema] | None = schema.get("anyOf", schema.get("oneOf"))
    return arms


def _enums(old: Schema, new: Schema, at: str) -> Iterator[str]:
    before, after = _values(old), _values(new)
    if before is None or after is None:
        if before != after:
            yield f"{_spot(at)}: became {'an enum' if before is None else 'an open vocabulary'}"
        return
    for value in before:
        if value not in after:
            yield f"{_spot(at)}: {_shown(value)} removed, old messages may hold it"
    for value in after:
        if value not in before and _UNKNOWN not in before:
            yield f"{_spot(at)}: {_shown(value)} added, old readers have no arm for it"


def _values(schema: Schema) -> list[Any] | None:
    values: list[Any] | None = [schema["const"]] if "const" in schema else schema.get("enum")
    return values


def _plain(old: Schema, new: Schema, at: str) -> Iterator[str]:
    """Compare the keywords that have no schema in them, documentation left aside."""
    skipped = DOCUMENTATION | _STRUCTURE | _NESTED
    for keyword in sorted((old.keys() | new.keys()) - skipped):
        before, after = old.get(keyword, _ABSENT), new.get(keyword, _ABSENT)
        if keyword.startswith("x-") or (before == after and type(before) is type(after)):
            continue
        change = f"{_spot(at)}: {keyword} changed from {_shown(before)} to {_shown(after)}"
        yield change + _direction(keyword, before, after)


def _direction(keyword: str, before: Any, after: Any) -> str:
    if keyword not in _NO_LESS | _NO_MORE:
        return ""
    if _ABSENT in (before, after):
        narrower = before is _ABSENT
    else:
        narrower = after > before if keyword in _NO_LESS else after < before
    return ", old messages may not fit" if narrower else ", old readers may refuse"


def _only(schema: Schema, keywords: set[str]) -> Schema:
    return {key: value for key, value in schema.items() if key in keywords}


def _spot(at: str, name: str = "") -> str:
    return f"{at}.{name}".strip(".") or "the message"


def _shown(value: Any) -> str:
    return "nothing" if value is _ABSENT else repr(value)
