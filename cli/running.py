"""Runs a command that holds a stack: stopped by a signal it still cleans up, and failures advise."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, Final

import asyncpg
from aiokafka.errors import KafkaError
from rich.console import Console
from rich.markup import escape

from cli.statuses import DIFFERS, FAILED, INTERRUPTED, MISUSED
from devstack.jars import JarsUnavailableError
from devstack.kafka import KafkaSetupError
from devstack.processes import FolderInUseError, StartFailedError
from devstack.provider import HalfGivenError
from devstack.stack import NotOurFolderError

__all__ = ["DIFFERS", "FAILED", "INTERRUPTED", "MISUSED", "run", "say_failure"]

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_ADVICE: Final[dict[type[BaseException], str]] = {
    FolderInUseError: "Stop the other one, or give this one a folder of its own with --state.",
    NotOurFolderError: "Name another folder with --state, or empty it yourself.",
    StartFailedError: "If it stays so, `keepword up --reset` begins afresh, without any data.",
    JarsUnavailableError: "Try again when the network is there: they are fetched once.",
    HalfGivenError: "Set all five, or none.",
    KafkaSetupError: "May this user create topics there?",
    KafkaError: "Does KAFKA_BOOTSTRAP_SERVERS name a Kafka that runs?",
    asyncpg.PostgresError: "Do the database URLs name databases and roles that exist?",
    OSError: "Is there something at the addresses that the environment gives?",
}


def run(program: Coroutine[Any, Any, int], console: Console, *, when_stopped: int) -> int:
    """Run a program to its end or to a signal, and return the exit status.

    A signal cancels it, so that it cleans up; a second one hurries that. What it
    raises for reasons that a person can mend is told, with what to do.
    """

    async def watched() -> int:
        task = asyncio.current_task()
        assert task is not None
        for number in _SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        try:
            return await program
        except asyncio.CancelledError:
            return when_stopped

    try:
        return asyncio.run(watched())
    except Exception as failure:
        if not _is_known(failure):
            raise
        say_failure(console, failure)
        return FAILED


def say_failure(console: Console, failure: BaseException) -> None:
    """Say what went wrong, and what a person can do about it."""
    text = str(failure) or type(failure).__name__
    console.print(f"[red]{escape(text)}[/]", highlight=False, soft_wrap=True)
    advice = [advice for kind, advice in _ADVICE.items() if isinstance(failure, kind)]
    if advice:
        console.print(advice[0], soft_wrap=True)


def _is_known(failure: Exception) -> bool:
    from devstack.containers import NoDockerError  # noqa: PLC0415 - half a second to import

    # A program that did not end cleanly is a RuntimeError, and says which.
    return isinstance(failure, (*_ADVICE, NoDockerError, RuntimeError))
