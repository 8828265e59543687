import gc
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from devstack import jars
from devstack.jars import JarsUnavailableError, classes_of, ensure_jars, locked_jars


@pytest.fixture(scope="module")
def whole() -> Path:
    return ensure_jars()


@pytest.fixture
def cache(whole: Path, tmp_path: Path) -> Path:
    """A cache of our own that is as whole as the user's."""
    shutil.copytree(whole, tmp_path / whole.name, ignore=shutil.ignore_patterns("*.aot"))
    return tmp_path


def test_the_lock_holds_coordinates_and_hashes_and_no_address() -> None:
    lines = jars.LOCK_FILE.read_text().splitlines()

    assert len(lines) == len(set(lines)) == 46
    assert all(re.fullmatch(r"[\w.-]+:[\w.-]+:[\w.-]+ [0-9a-f]{64}", line) for line in lines)


def test_whole_jars_are_taken_as_they_are(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Path:
        raise AssertionError("fetched")

    monkeypatch.setattr(jars, "_fetch", refuse)

    ensure_jars(cache)


@pytest.mark.parametrize("harm", ["cut short", "altered", "missing"])
def test_a_harmed_jar_is_fetched_again(cache: Path, harm: str) -> None:
    jar = min(locked_jars(), key=lambda each: (cache_file(cache, each)).stat().st_size)
    path = cache_file(cache, jar)
    content = path.read_bytes()
    classes_of(path.parent).touch()
    match harm:
        case "cut short":
            path.write_bytes(content[:-1])
        case "altered":
            path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        case _:
            path.unlink()

    folder = ensure_jars(cache)

    assert path.read_bytes() == content
    assert {each.name for each in folder.glob("*.jar")} == {
        each.file_name for each in locked_jars()
    }
    # Java refuses what it learned of other files.
    assert not classes_of(folder).exists()


def test_a_jar_that_is_not_the_locked_one_never_enters_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smallest = "com.fasterxml.jackson.core:jackson-annotations:2.19.0"
    (tmp_path / "jars.lock").write_text(f"{smallest} {'0' * 64}\n")
    monkeypatch.setattr(jars, "LOCK_FILE", tmp_path / "jars.lock")

    with pytest.raises(JarsUnavailableError, match="jackson-annotations"):
        ensure_jars(tmp_path / "cache")

    assert list((tmp_path / "cache").rglob("*.jar")) == []


# jgo leaves the connection of a refused request for Python to close.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_jar_that_nobody_has_is_reported_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "jars.lock").write_text(f"org.apache.kafka:no-such-jar:1.0 {'0' * 64}\n")
    monkeypatch.setattr(jars, "LOCK_FILE", tmp_path / "jars.lock")

    with pytest.raises(JarsUnavailableError, match=r"no-such-jar-1\.0\.jar"):
        ensure_jars(tmp_path / "cache")

    gc.collect()


def test_two_processes_that_fetch_at_once_do_not_collide(cache: Path) -> None:
    for jar in locked_jars()[:4]:
        cache_file(cache, jar).unlink()
    script = "import sys; from pathlib import Path; from devstack.jars import ensure_jars\n"
    script += "ensure_jars(Path(sys.argv[1]))"
    command = [sys.executable, "-c", script, str(cache)]

    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    ends = [(process.communicate()[1], process.returncode) for process in both]

    assert [status for _, status in ends] == [0, 0], ends
    assert all(jar.is_whole(cache_file(cache, jar)) for jar in locked_jars())
    assert not list(cache.glob("fetching-*"))


def cache_file(cache: Path, jar: jars.Jar) -> Path:
    (folder,) = (each for each in cache.iterdir() if each.is_dir())
    return folder / jar.file_name
