import subprocess
import sys
from io import StringIO
from pathlib import Path

from rich.console import Console

from cli.demo import Story
from devstack.programs import ROOT
from tests.support.journey import without_given_servers

COMMAND = "from cli.main import main; main()"


def test_the_demo_keeps_every_promise_and_leaves_nothing_behind(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "demo"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**without_given_servers(), "TMPDIR": str(tmp_path), "COLUMNS": "200"},
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "every promise was kept" in done.stdout
    assert "failed" not in done.stdout
    for told in ("the brake holds it", "Kim Keeper and Robin Reader", "Wave 0", "Wave 1", "Wave 2"):
        assert told in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_one_promise_that_was_not_kept_is_a_failure_and_is_shown() -> None:
    output = StringIO()
    story = Story(Console(file=output, width=100))
    story.check("nothing is left", holds=True)
    assert story.kept()

    story.check("the neighbour kept everything", holds=False, found="3 rows of 12")

    assert not story.kept()
    assert "3 rows of 12" in output.getvalue()
