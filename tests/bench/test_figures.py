"""Ratios, medians and goals, on rounds that nobody measured."""

from dataclasses import replace

import pytest

from bench.figures import Also, Benchmark, Better, Result, Round, percentile
from bench.stack import Stack


async def nothing(_: Stack) -> list[Round]:
    raise AssertionError


FASTER = Benchmark(
    name="speed",
    question="How fast?",
    ours="with all of it",
    peer="bare",
    unit="/s",
    goal=0.60,
    better=Better.HIGHER,
    measure=nothing,
)
SOONER = replace(FASTER, name="latency", unit=" ms", goal=3.0, better=Better.LOWER)


def rounds(*pairs: tuple[float, float]) -> list[Round]:
    return [Round(ours, peer) for ours, peer in pairs]


def test_a_ratio_is_ours_over_the_peers() -> None:
    assert Round(ours=30.0, peer=40.0).ratio == 0.75


def test_a_result_is_the_median_of_its_rounds_ratios() -> None:
    # Of the sides' medians (50 and 50) it would be 1.
    result = Result(FASTER, rounds((10, 50), (50, 100), (90, 10)))
    assert result.ratio == 0.5
    assert result.lowest_and_highest == (0.2, 9.0)
    assert (result.ours, result.peer) == (50, 50)


@pytest.mark.parametrize(
    ("benchmark", "ours", "reached"),
    [
        (FASTER, 59, False),
        (FASTER, 60, True),
        (FASTER, 61, True),
        (SOONER, 299, True),
        (SOONER, 300, True),
        (SOONER, 301, False),
    ],
)
def test_a_goal_is_reached_from_its_own_side(
    benchmark: Benchmark, ours: float, reached: bool
) -> None:
    assert Result(benchmark, rounds((ours, 100))).reached is reached


def test_the_same_rounds_answer_another_question_too() -> None:
    also = Also(
        name="longest",
        question="How long at most?",
        ours="longest with all of it",
        peer="longest bare",
        unit=" ms",
        goal=0.5,
        better=Better.LOWER,
        of=lambda each: Round(max(each.samples["ours_ms"]), max(each.samples["peer_ms"])),
    )
    measured = [Round(80.0, 100.0, {"ours_ms": [1.0, 3.0], "peer_ms": [10.0, 2.0]})]
    itself, other = replace(FASTER, also=(also,)).results(measured)
    assert (itself.ratio, itself.reached) == (0.8, True)
    assert (other.ratio, other.reached) == (0.3, True)
    assert other.benchmark.name == "longest"


def test_a_percentile_is_one_of_the_values() -> None:
    values = [float(number) for number in range(600, 0, -1)]
    assert percentile(values, 99) == 594.0
    assert percentile(values, 50) == 300.0
    assert percentile([7.0], 99) == 7.0
    with pytest.raises(ValueError, match="nothing"):
        percentile([], 99)
