"""What is different between two versions of a thing, field by field and line by line."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Final

# Comparing costs as much as the product of both lengths. Beyond this, all lines are replaced.
_MOST_PAIRS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Difference:
    """One field that differs; ``lines`` are there for texts of several lines."""

    field: str
    before: Any
    after: Any
    lines: tuple[tuple[str, str], ...] | None = None


def differences(
    before: Mapping[str, Any], after: Mapping[str, Any], long: Sequence[str]
) -> list[Difference]:
    """List the fields that differ, in the order of the later version.

    A field that is ``long`` is told as lines, each with ``-``, ``+`` or a space,
    and not a second time as a whole.
    """
    found = []
    for name in dict.fromkeys([*after, *before]):
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        if name in long:
            told = tuple(_compared((old or "").split("\n"), (new or "").split("\n")))
            found.append(Difference(name, None, None, told))
        else:
            found.append(Difference(name, old, new))
    return found


def _compared(old: Sequence[str], new: Sequence[str]) -> Iterator[tuple[str, str]]:
    start = 0
    while start < min(len(old), len(new)) and old[start] == new[start]:
        start += 1
    end = 0
    while end < min(len(old), len(new)) - start and old[-1 - end] == new[-1 - end]:
        end += 1
    yield from ((" ", line) for line in old[:start])
    yield from _changed(old[start : len(old) - end], new[start : len(new) - end])
    yield from ((" ", line) for line in old[len(old) - end :])


def _changed(old: Sequence[str], new: Sequence[str]) -> Iterator[tuple[str, str]]:
    if len(old) * len(new) > _MOST_PAIRS:
        yield from (("-", line) for line in old)
        yield from (("+", line) for line in new)
        return
    for operation, i1, i2, j1, j2 in SequenceMatcher(None, old, new).get_opcodes():
        if operation == "equal":
            yield from ((" ", line) for line in old[i1:i2])
        else:
            yield from (("-", line) for line in old[i1:i2])
            yield from (("+", line) for line in new[j1:j2])
