"""What a benchmark is: two sides measured in turn, and a ratio of them that has a goal."""

import math
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from statistics import median

from bench.stack import Stack


class Better(Enum):
    """Which way a ratio is good; the value is how the goal is written."""

    HIGHER = "≥"
    LOWER = "≤"


@dataclass(frozen=True, slots=True)
class Round:
    """Both sides measured once, one right after the other; ``samples`` holds what it came from."""

    ours: float
    peer: float
    samples: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """Our figure as a multiple of the peer's."""
        return self.ours / self.peer


class CannotMeasure(Exception):  # noqa: N818 - names what is so
    """This machine lacks something that a benchmark needs; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One question to this machine: what of the two sides is compared, and how much is enough."""

    name: str
    question: str
    ours: str
    peer: str
    unit: str
    goal: float
    better: Better


@dataclass(frozen=True, slots=True)
class Also(Comparison):
    """Another question to rounds that a benchmark measured anyway: ``of`` reads them anew."""

    of: Callable[[Round], Round]


@dataclass(frozen=True, slots=True)
class Benchmark(Comparison):
    """A question, how its answer is measured, and what else its rounds answer."""

    measure: Callable[[Stack], Coroutine[None, None, list[Round]]]
    also: Sequence[Also] = ()

    def results(self, rounds: Sequence[Round]) -> "list[Result]":
        """Give what these rounds say: to the question itself first."""
        others = [Result(each, [each.of(one) for one in rounds]) for each in self.also]
        return [Result(self, rounds), *others]


@dataclass(frozen=True, slots=True)
class Result:
    """The rounds of one comparison, and what they say together."""

    benchmark: Comparison
    rounds: Sequence[Round]

    @property
    def ratio(self) -> float:
        """The median of the rounds' ratios, so that one disturbed round decides nothing."""
        return median(each.ratio for each in self.rounds)

    @property
    def ours(self) -> float:
        """Our median figure."""
        return median(each.ours for each in self.rounds)

    @property
    def peer(self) -> float:
        """The peer's median figure."""
        return median(each.peer for each in self.rounds)

    @property
    def lowest_and_highest(self) -> tuple[float, float]:
        """The ratios of the worst and the best round: how noisy it was."""
        ratios = [each.ratio for each in self.rounds]
        return min(ratios), max(ratios)

    @property
    def reached(self) -> bool:
        """Whether the goal is reached, on the right side of it or exactly."""
        if self.benchmark.better is Better.LOWER:
            return self.ratio <= self.benchmark.goal
        return self.ratio >= self.benchmark.goal


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest of the values that so many percent of them do not exceed.

    It is a value that was measured, never one between two. Raises ValueError for no values.
    """
    if not values:
        raise ValueError("nothing was measured")
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]
