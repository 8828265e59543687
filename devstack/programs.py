"""Our own programs as processes of the laptop stack: they end when it does, however it ends."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from devstack.processes import PORT_TAKEN, SHOWN_LOG_LINES, die_with_parent

ROOT = Path(__file__).resolve().parents[1]
# Longer than a service takes to finish what it began (chassis.shutdown).
STOP_SECONDS = 30.0


class Program:
    """One ``python -m MODULE`` with a log of its own.

    When the process that called ``start`` ends, it is killed at once: what our
    programs must not lose is in PostgreSQL by then. The kernel ties that to the
    thread which called ``start``: use the main thread.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str],
        clean_statuses: Collection[int] = (0,),
    ) -> None:
        self.name = name
        self._command = [sys.executable, "-m", *command]
        self._log = log
        self._environment = environment
        self._clean_statuses = clean_statuses
        self._process: subprocess.Popen[bytes] | None = None
        self._logged_before = 0

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def status(self) -> int | None:
        """With which status it ended by itself; None while it runs, or after it was ended here."""
        return None if self._process is None else self._process.poll()

    @property
    def pid(self) -> int:
        """The number of the process that was started last."""
        if self._process is None:
            raise RuntimeError(f"{self.name} does not run")
        return self._process.pid

    @property
    def port_was_taken(self) -> bool:
        """Whether it complained of that since its start."""
        return PORT_TAKEN.lower() in self._logged().lower()

    def change_environment(self, changed: Mapping[str, str]) -> None:
        """Let the process find these variables from its next start on."""
        self._environment = {**self._environment, **changed}

    def start(self) -> None:
        """Start the process, without waiting for it to be ready."""
        with self._log.open("ab") as log:
            self._logged_before = log.tell()
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C is for the parent, which stops its programs in its own order.
                start_new_session=True,
                cwd=ROOT,
                env=dict(self._environment),
                preexec_fn=die_with_parent(signal.SIGKILL),  # noqa: PLW1509 - one prctl call, no lock taken
            )

    async def stop(self) -> None:
        """End the process cleanly; once more is no harm.

        Raises:
            RuntimeError: it had to be killed, or it had not ended cleanly.
        """
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            # Waited for in a thread, so that several programs can stop at once.
            status = await asyncio.to_thread(process.wait, STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise RuntimeError(f"{self.name} did not stop and was killed") from None
        if status not in self._clean_statuses:
            raise RuntimeError(f"{self.name} ended with status {status}\n{self.last_lines()}")

    def kill(self) -> None:
        """End the process as a power cut would."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def last_lines(self) -> str:
        """Return what it logged last since its start."""
        return "\n".join(self._logged().splitlines()[-SHOWN_LOG_LINES:])

    def _logged(self) -> str:
        with self._log.open("rb") as log:
            log.seek(self._logged_before)
            return log.read().decode(errors="replace")
