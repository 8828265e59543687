"""``python -m bench [NAME]`` measures this machine: one benchmark, or all of them in turn."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

import uvloop
from rich.console import Console

from bench import (
    campaign_plan,
    canary,
    due_backlog,
    erase_tenant,
    install_floor,
    installs_vs_ace,
    lookup,
    mail,
    neighbours,
    relay_latency,
    relay_throughput,
    schedules,
    sweep,
    tenant_size,
)
from bench.figures import Benchmark, CannotMeasure, Result
from bench.report import save, show
from bench.stack import started
from chassis import logs

BENCHMARKS = {
    each.name: each
    for each in (
        relay_latency.BENCHMARK,
        relay_throughput.BENCHMARK,
        install_floor.BENCHMARK,
        installs_vs_ace.BENCHMARK,
        sweep.BENCHMARK,
        schedules.BENCHMARK,
        due_backlog.BENCHMARK,
        mail.BENCHMARK,
        mail.MEMORY,
        canary.BENCHMARK,
        campaign_plan.BENCHMARK,
        campaign_plan.NEWS,
        lookup.BENCHMARK,
        erase_tenant.BENCHMARK,
        neighbours.BENCHMARK,
        tenant_size.BENCHMARK,
    )
}
INCOMPLETE, UNKNOWN = 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and report; return the process's exit status.

    It is 0 also where a goal is missed, since this is no test; 1 where this
    machine lacks what a benchmark needs, 2 for no such name.
    """
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("name", nargs="?", help=", ".join(BENCHMARKS))
    name = parser.parse_args(arguments).name
    if name is not None and name not in BENCHMARKS:
        sys.stderr.write(f"There is no benchmark {name}. There are: {', '.join(BENCHMARKS)}.\n")
        return UNKNOWN
    wanted = list(BENCHMARKS.values()) if name is None else [BENCHMARKS[name]]
    logs.configure("bench", "error")
    results, complete = [], True
    for each in wanted:
        try:
            results += _run(each)
        except CannotMeasure as lacking:
            sys.stderr.write(f"{each.name}: not measured: {lacking}\n")
            complete = False
    show(results, Console())
    return 0 if complete else INCOMPLETE


def _run(benchmark: Benchmark) -> list[Result]:
    """Measure on servers of its own, so that no benchmark leaves work behind for the next."""
    sys.stderr.write(f"{benchmark.name}: {benchmark.question}\n")
    with started() as stack, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        results = benchmark.results(runner.run(benchmark.measure(stack)))
    for result in results:
        save(result, measured_at=datetime.now(UTC))
    return results


if __name__ == "__main__":
    sys.exit(main())
