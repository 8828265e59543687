"""What is given to vegeta, and what is read from it."""

import base64
import json
from pathlib import Path

import pytest

from bench.vegeta import Target, read_results, write_targets

# As vegeta encodes two answers, a refused connection and a worker that found the file at its end.
RESULTS = """\
1700000000000000000,204,3000000,636,0,,,,0,POST,http://127.0.0.1:1/installed,DQo=
1700000000001000000,503,1500000,636,0,,,,1,POST,http://127.0.0.1:1/installed,DQo=
1700000000002000000,0,2000000,0,0,"dial tcp: refused, at once",,,2,POST,http://127.0.0.1:1/,
1700000000009000000,0,2000,0,0,no targets to attack,,,3,,,
"""


def test_a_request_is_one_line_with_its_body_in_it(tmp_path: Path) -> None:
    targets = tmp_path / "targets"
    write_targets(
        targets, [Target("http://127.0.0.1:1/a", {"Authorization": "JWT x"}, b"{\n}")] * 2
    )
    lines = targets.read_text("utf-8").splitlines()
    assert len(lines) == 2
    assert json.loads(lines[0]) == {
        "method": "POST",
        "url": "http://127.0.0.1:1/a",
        "header": {"Authorization": ["JWT x"]},
        "body": base64.b64encode(b"{\n}").decode(),
    }


def test_requests_alone_are_counted_and_the_time_is_from_the_first_to_the_last_answer(
    tmp_path: Path,
) -> None:
    encoded = tmp_path / "results.csv"
    encoded.write_text(RESULTS, "utf-8")
    load = read_results(encoded)
    assert load.statuses == {"204": 1, "503": 1, "0": 1}
    assert load.milliseconds == [3.0, 1.5, 2.0]
    assert load.seconds == 0.004


def test_an_attack_without_a_request_is_no_result(tmp_path: Path) -> None:
    encoded = tmp_path / "results.csv"
    encoded.write_text(RESULTS.splitlines()[-1], "utf-8")
    with pytest.raises(RuntimeError, match="nothing"):
        read_results(encoded)


def test_a_targets_token_is_not_shown() -> None:
    assert "secret" not in repr(
        Target("http://127.0.0.1:1/", {"Authorization": "secret"}, b"secret")
    )
