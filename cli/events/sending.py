"""Sends a replay to its target's topic, and stops anywhere so that it can go on there."""

import asyncio
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from chassis import replays
from chassis.clock import Clock
from chassis.replays import Replay, Stage
from cli.events.places import Away
from cli.events.sources import Found, Source
from cli.events.targets import Sieve
from cli.events.topics import SILENT_SECONDS
from cli.running import INTERRUPTED
from contracts.replays import Mark, marked

_AT_ONCE: Final = 500


@dataclass(slots=True)
class Sending:
    """A replay on its way to the target's topic."""

    replay: Replay
    sieve: Sieve
    source: Source
    producer: AIOKafkaProducer
    clock: Clock
    rate: int
    console: Console
    sent: int = 0
    progress: Mapping[str, Any] = field(default_factory=dict)
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> int:
        """Send what is left; return the exit status. Wherever it stops it can go on."""
        replay = self.replay
        self.sent, self.progress = replay.sent, replay.progress or {}
        with suppress(ValueError, RuntimeError):  # not on the main thread, as in a test
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, self.stop.set)
        try:
            with _bar(self.console) as bar:
                task = bar.add_task("", total=replay.planned, completed=self.sent, pace="", end="")
                await self._send_all(bar, task)
        except (KafkaError, TimeoutError):
            await self._note(Stage.PAUSED)
            # Raised, so that the producer gives up what is on its way instead of waiting for it.
            raise Away(f"Kafka does not answer. {self._how_to_go_on()}") from None
        except Away as away:  # an owner's outbox
            await self._note(Stage.PAUSED)
            raise Away(f"{away} {self._how_to_go_on()}") from None
        if self.stop.is_set():
            await self._note(Stage.PAUSED)
            self.console.print(f"Paused. {self._how_to_go_on()}", soft_wrap=True)
            return INTERRUPTED
        await self._note(Stage.DONE)
        target = self.sieve.target
        self.console.print(
            f"{self.sent} messages are on {target.topic.name}, as replay {replay.replay_id}."
            f" {target.service} hears them as it goes; they stay there for a day.",
            soft_wrap=True,
        )
        return 0

    async def _send_all(self, bar: Progress, task: TaskID) -> None:
        began, before = time.monotonic(), self.sent
        at_once = min(_AT_ONCE, self.rate)
        async with aclosing(self.source.pages(self.progress)) as pages:
            async for found, progress in pages:
                kept, _ = await self.sieve.sift(found)
                sent = self.sent
                for first in range(0, len(kept), at_once):
                    part = kept[first : first + at_once]
                    await self._send(part)
                    sent += len(part)
                    self._show(bar, task, sent, (sent - before) / (time.monotonic() - began))
                    await self._wait_until(began + (sent - before) / self.rate)
                    if self.stop.is_set():
                        break
                else:
                    # A page that was begun is sent once more: the inbox knows its first part.
                    self.sent, self.progress = sent, progress
                    await self._note(Stage.RUNNING)
                if self.stop.is_set():
                    return

    async def _send(self, part: Sequence[Found]) -> None:
        mark = Mark(self.replay.replay_id, self.replay.forced)
        topic = self.sieve.target.topic.name
        async with asyncio.timeout(SILENT_SECONDS):
            acknowledgements = [
                await self.producer.send(
                    topic,
                    value=each.payload,
                    key=each.key,
                    headers=list(marked(each.headers, mark)),
                )
                for each in part
            ]
            for each in acknowledgements:
                await each

    async def _wait_until(self, moment: float) -> None:
        """Keep to the rate; whoever stops does not wait for it."""
        left = moment - time.monotonic()
        if left > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.stop.wait(), left)

    async def _note(self, state: Stage) -> None:
        await replays.note(
            self.sieve.connection,
            self.replay.replay_id,
            sent=self.sent,
            progress=self.progress,
            state=state,
            now=self.clock.now(),
        )

    def _show(self, bar: Progress, task: TaskID, sent: int, pace: float) -> None:
        left = max(0, self.replay.planned - sent)
        end = datetime.now(UTC).astimezone() + timedelta(seconds=left / max(pace, 0.001))
        bar.update(task, completed=sent, pace=f"{pace:,.0f}/s", end=f"until {end:%H:%M:%S}")

    def _how_to_go_on(self) -> str:
        service, replay_id = self.sieve.target.service, self.replay.replay_id
        return (
            f"{self.sent} of {self.replay.planned} are sent. Go on with: keepword events replay"
            f" --to {service} --resume {replay_id}"
        )


def _bar(console: Console) -> Progress:
    return Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[pace]}"),
        TextColumn("{task.fields[end]}"),
        console=console,
        disable=not console.is_terminal,
    )
