"""What is different between two texts of the policy, word by word within its paragraphs."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from enum import StrEnum
from functools import lru_cache
from typing import Final

from services.notifier.domain.policy_text import Block, blocks

# Comparing costs as much as the product of both lengths. Beyond this, whole blocks are shown.
_MOST_PAIRS: Final = 40_000
_MOST_WORD_PAIRS: Final = 2_000_000
_ALIKE: Final = 0.5


class Mark(StrEnum):
    """What became of words."""

    SAME = "same"
    REMOVED = "removed"
    ADDED = "added"


@dataclass(frozen=True, slots=True)
class Piece:
    """Words of a block with one fate."""

    mark: Mark
    text: str


@dataclass(frozen=True, slots=True)
class ComparedBlock:
    """A block of either text or of both."""

    tag: str
    pieces: tuple[Piece, ...]

    @property
    def changed(self) -> bool:
        """Whether anything in it is different."""
        return any(piece.mark is not Mark.SAME for piece in self.pieces)


@lru_cache(maxsize=64)
def difference(before: str, after: str) -> tuple[ComparedBlock, ...]:
    """Compare two texts in Markdown, in the order in which a reader meets what is in either."""
    old, new = blocks(before), blocks(after)
    compared: list[ComparedBlock] = []
    matcher = SequenceMatcher(None, old, new, autojunk=False)
    for operation, i1, i2, j1, j2 in matcher.get_opcodes():
        if operation == "equal":
            compared += [_whole(block, Mark.SAME) for block in new[j1:j2]]
        else:
            compared += _replaced(old[i1:i2], new[j1:j2])
    return tuple(compared)


def _whole(block: Block, mark: Mark) -> ComparedBlock:
    return ComparedBlock(block.tag, (Piece(mark, block.text),))


def _replaced(old: Sequence[Block], new: Sequence[Block]) -> Iterator[ComparedBlock]:
    """Show blocks that became each other word by word, and the rest as gone or new, in order."""
    i = j = 0
    for paired_i, paired_j in [*_pairs(old, new), (len(old), len(new))]:
        yield from (_whole(block, Mark.REMOVED) for block in old[i:paired_i])
        yield from (_whole(block, Mark.ADDED) for block in new[j:paired_j])
        if paired_i < len(old):
            yield _word_by_word(old[paired_i], new[paired_j])
        i, j = paired_i + 1, paired_j + 1


def _pairs(old: Sequence[Block], new: Sequence[Block]) -> list[tuple[int, int]]:
    """Find which blocks became each other: alike ones, in order, so that most words agree."""
    if len(old) * len(new) > _MOST_PAIRS:
        return []
    olds, news = ([Counter(block.text.split()) for block in side] for side in (old, new))
    # best[i][j]: how much of old[i:] and new[j:] can agree at most.
    best = [[0.0] * (len(new) + 1) for _ in range(len(old) + 1)]
    alike = [[_likeness(one, other) for other in news] for one in olds]
    for i in reversed(range(len(old))):
        for j in reversed(range(len(new))):
            paired = (
                alike[i][j] + best[i + 1][j + 1] if _may_pair(old[i], new[j], alike[i][j]) else 0
            )
            best[i][j] = max(best[i + 1][j], best[i][j + 1], paired)
    pairs, i, j = [], 0, 0
    while i < len(old) and j < len(new):
        if best[i][j] == best[i + 1][j]:
            i += 1
        elif best[i][j] == best[i][j + 1]:
            j += 1
        else:
            pairs.append((i, j))
            i, j = i + 1, j + 1
    return pairs


def _may_pair(old: Block, new: Block, likeness: float) -> bool:
    return old.tag == new.tag and likeness >= _ALIKE


def _likeness(old: Counter[str], new: Counter[str]) -> float:
    """Give the share of words that both have: 1 for the same words, 0 for none."""
    total = old.total() + new.total()
    return 2 * (old & new).total() / total if total else 1.0


def _word_by_word(old: Block, new: Block) -> ComparedBlock:
    before, after = old.text.split(), new.text.split()
    if len(before) * len(after) > _MOST_WORD_PAIRS:
        pieces = (Piece(Mark.REMOVED, old.text), Piece(Mark.ADDED, new.text))
        return ComparedBlock(new.tag, pieces)
    found: list[Piece] = []
    matcher = SequenceMatcher(None, before, after, autojunk=False)
    for operation, i1, i2, j1, j2 in matcher.get_opcodes():
        if operation == "equal":
            found.append(Piece(Mark.SAME, " ".join(after[j1:j2])))
            continue
        if i1 < i2:
            found.append(Piece(Mark.REMOVED, " ".join(before[i1:i2])))
        if j1 < j2:
            found.append(Piece(Mark.ADDED, " ".join(after[j1:j2])))
    return ComparedBlock(new.tag, tuple(found))
