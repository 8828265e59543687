"""Servers of the laptop stack: child processes that do not outlive their parent."""

import contextlib
import ctypes
import fcntl
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

LOOPBACK = "127.0.0.1"
FIRST_PORT, PORTS = 12_000, 19_000
PR_SET_PDEATHSIG = 1
POLL_SECONDS = 0.02
START_SECONDS = 60.0
STOP_SECONDS = 20.0
SHOWN_LOG_LINES = 25
PORT_TAKEN = "Address already in use"


class StartFailedError(Exception):
    """A server did not come up; the message ends with the last lines of its log."""


class PortTakenError(StartFailedError):
    """Somebody else took the port between its choice and its use."""


class FolderInUseError(Exception):
    """Another server still works on the folder."""


@dataclass(frozen=True, slots=True)
class User:
    """The user and group that a process runs as, by number."""

    uid: int
    gid: int


def on_fresh_ports(start: Callable[[], None]) -> None:
    """Call ``start``, which chooses ports, again as long as its ports are taken from it."""
    for _ in range(2):
        with contextlib.suppress(PortTakenError):
            return start()
    return start()


def free_port() -> int:
    """Return a port of the loopback address that nobody listens on now.

    It lies below the range from which the system takes ports for outgoing
    connections: there a client that reconnects to a server under restart could
    be given the server's own port, and the server would not come back.
    """
    while True:
        port = FIRST_PORT + secrets.randbelow(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            return port


class Child:
    """A server in a folder of its own: at most one at a time works there.

    It is sent ``stop_signal`` when this process ends, however it ends. The
    kernel ties that to the thread which called ``start``: use the main thread.
    """

    def __init__(
        self, name: str, folder: Path, *, stop_signal: signal.Signals, clean_status: int
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._lock = folder / f"{name}.lock"
        self._stop_signal = stop_signal
        self._clean_status = clean_status
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The number of the process that was started last."""
        if self._process is None:
            raise RuntimeError(f"{self.name} was never started")
        return self._process.pid

    def start(
        self,
        command: Sequence[str | Path],
        *,
        prepare: Callable[[], None],
        is_ready: Callable[[str], bool],
        user: User | None = None,
    ) -> None:
        """Start the server and wait until ``is_ready`` says yes to what it logged since.

        ``prepare`` is called before, when nobody else works on the folder.

        Raises:
            StartFailedError: it ended, or was not ready after a minute.
            PortTakenError: it ended because of that.
            FolderInUseError: the last one on this folder does not end.
        """
        with contextlib.ExitStack() as cleanup:
            lock = self._take_folder()
            cleanup.callback(os.close, lock)
            prepare()
            log = cleanup.enter_context(self.log.open("ab"))
            logged_before = log.tell()
            self._process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # The lock goes with the child and its children, and is free when all are gone.
                pass_fds=[lock],
                # Ctrl-C is for the parent, which stops the servers in its own order.
                start_new_session=True,
                cwd="/",
                user=user.uid if user else None,
                group=user.gid if user else None,
                extra_groups=[] if user else None,
                preexec_fn=die_with_parent(self._stop_signal),  # noqa: PLW1509 - one prctl call, no lock taken
            )
        self._wait_until_ready(is_ready, logged_before)

    def stop(self) -> None:
        """End the server cleanly; once more is no harm.

        Raises:
            RuntimeError: it had to be killed, or it had not ended cleanly.
        """
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(self._stop_signal)
        try:
            status = process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise RuntimeError(f"{self.name} did not stop and was killed") from None
        if status != self._clean_status:
            raise RuntimeError(f"{self.name} ended with status {status}\n{self._last_lines(0)}")

    def kill(self) -> None:
        """End the server as a power cut would."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def _take_folder(self) -> int:
        return lock_folder(self._lock, who=self.name, patience_seconds=STOP_SECONDS)

    def _wait_until_ready(self, is_ready: Callable[[str], bool], logged_before: int) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not is_ready(self._logged_since(logged_before)):
            if not self.alive:
                self._process = None
                reason = "ended while it started"
            elif time.monotonic() > deadline:
                self.kill()
                reason = f"was not ready after {START_SECONDS:.0f} s"
            else:
                time.sleep(POLL_SECONDS)
                continue
            taken = PORT_TAKEN in self._logged_since(logged_before)
            error = PortTakenError if taken else StartFailedError
            raise error(f"{self.name} {reason}\n{self._last_lines(logged_before)}")

    def _logged_since(self, offset: int) -> str:
        with self.log.open("rb") as log:
            log.seek(offset)
            return log.read().decode(errors="replace")

    def _last_lines(self, offset: int) -> str:
        lines = self._logged_since(offset).splitlines()
        return "\n".join(lines[-SHOWN_LOG_LINES:])


def lock_folder(lock: Path, *, who: str, patience_seconds: float) -> int:
    """Lock a folder by a file in it; the lock is held until the returned descriptor is closed.

    Raises:
        FolderInUseError: somebody held it all the time.
    """
    descriptor = os.open(lock, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(descriptor)
                raise FolderInUseError(
                    f"another {who} works on {lock.parent}; is it running already?"
                ) from None
            time.sleep(POLL_SECONDS)
        else:
            return descriptor


def die_with_parent(death_signal: signal.Signals) -> Callable[[], None] | None:
    """Return what a child does before it becomes the server; None where no kernel offers it."""
    if sys.platform != "linux":
        return None
    # Loaded here: between fork and exec the child may take no lock.
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def bind_to_parent() -> None:
        prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != parent:  # it was gone before the kernel knew of our wish
            os._exit(1)

    return bind_to_parent
