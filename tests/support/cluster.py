"""A real Kubernetes, the one that KUBECONFIG names, as `kubectl` and `helm` reach it."""

import asyncio
import json
import os
import shutil
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from tests.support.chart import CHART, Manifest, tool

RESTRICTED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
LOOK_EVERY_SECONDS = 0.5

Figures = dict[str, str]
"""What a run has found, for the page that it writes."""


class CommandFailedError(AssertionError):
    """`kubectl` or `helm` ended with another status than 0."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a command has said, and how long it took."""

    status: int
    output: str
    errors: str
    seconds: float

    @property
    def warnings(self) -> list[str]:
        """The lines in which the API server warns."""
        return [line for line in self.errors.splitlines() if line.startswith("Warning:")]


@dataclass(frozen=True, slots=True)
class Cluster:
    """One namespace of a cluster, in which pods have to be `restricted`."""

    namespace: str
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)

    async def kubectl(self, *words: str, given: str = "", may_fail: bool = False) -> Said:
        """Run `kubectl` in the namespace."""
        program = shutil.which("kubectl") or "kubectl"
        return await self._run(
            [program, f"--namespace={self.namespace}", *words], given, may_fail=may_fail
        )

    async def helm(self, *words: str, may_fail: bool = False) -> Said:
        """Run Helm in the namespace: the one on the path, else the one of the wheel."""
        program = shutil.which("helm") or tool("helm")
        return await self._run(
            [program, f"--namespace={self.namespace}", *words], "", may_fail=may_fail
        )

    async def apply(self, *manifests: Manifest) -> None:
        """Let these objects be there."""
        await self.kubectl("apply", "--filename=-", given=yaml.safe_dump_all(manifests))

    async def dry_run(self, *manifests: Manifest, may_fail: bool = False) -> Said:
        """Let the API server say what it would do with these objects, without doing it."""
        return await self.kubectl(
            "apply",
            "--server-side",
            "--dry-run=server",
            "--validate=strict",
            "--filename=-",
            given=yaml.safe_dump_all(manifests),
            may_fail=may_fail,
        )

    async def get(self, *words: str) -> Manifest:
        """Read an object, or a list of them."""
        found: Manifest = json.loads((await self.kubectl("get", *words, "--output=json")).output)
        return found

    async def pods(self, component: str | None = None) -> list[Manifest]:
        """List the pods of the release, or of one of its services, that are not on their way out."""
        selector = "app.kubernetes.io/part-of=keepword" + (
            f",app.kubernetes.io/component={component}"
            if component
            else ",app.kubernetes.io/component in (installer,config,purger,notifier)"
        )
        found = (await self.get("pods", f"--selector={selector}"))["items"]
        return [each for each in found if "deletionTimestamp" not in each["metadata"]]

    async def settled(self) -> bool:
        """Whether no pod is on its way out."""
        found = (await self.get("pods"))["items"]
        return not any("deletionTimestamp" in each["metadata"] for each in found)

    async def restarts(self) -> int:
        """Count how often a container of the release's pods was started again."""
        return sum(
            status["restartCount"]
            for pod in await self.pods()
            for status in pod["status"].get("containerStatuses", [])
        )

    async def logs(self, pod: str, *words: str) -> list[dict[str, Any]]:
        """Read what a pod has logged, a fact a line."""
        said = (await self.kubectl("logs", pod, *words, may_fail=True)).output
        return [json.loads(line) for line in said.splitlines() if line.startswith("{")]

    async def rolled_out(self, *services: str, within: str = "240s") -> None:
        """Return when no pod of an older revision is left of these services."""
        for service in services:
            await self.kubectl(
                "rollout", "status", f"deployment/keepword-{service}", f"--timeout={within}"
            )

    async def _run(self, command: list[str], given: str, *, may_fail: bool) -> Said:
        began = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=CHART,
            env=dict(self.environment),
        )
        output, errors = await process.communicate(given.encode())
        said = Said(
            process.returncode or 0,
            output.decode(errors="replace"),
            errors.decode(errors="replace"),
            time.monotonic() - began,
        )
        if said.status != 0 and not may_fail:
            shown = " ".join(each for each in command[1:] if "password" not in each)
            raise CommandFailedError(f"{shown}\n{said.output}{said.errors}")
        return said


async def until(
    happened: Callable[[], Awaitable[Any]], what: str, *, within_seconds: float = 120.0
) -> float:
    """Return how many seconds it took until ``happened`` answered what is true."""
    began = time.monotonic()
    while not await happened():
        if time.monotonic() - began > within_seconds:
            raise AssertionError(f"after {within_seconds:.0f} s it is not yet so that {what}")
        await asyncio.sleep(LOOK_EVERY_SECONDS)
    return time.monotonic() - began
