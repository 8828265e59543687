"""Each mistake of others that we know of has a counter, and each counter a test that is there."""

import ast
import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = (ROOT / "docs/mistakes-of-others.md").read_text(encoding="utf-8")
MISTAKES: Final = 17


def rows() -> list[list[str]]:
    """The cells of each mistake."""
    found = [line.strip("|").split("|") for line in PAGE.splitlines() if re.match(r"\| \d", line)]
    return [[cell.strip() for cell in row] for row in found]


def test_each_mistake_has_a_counter_and_a_test() -> None:
    assert [row[0] for row in rows()] == [str(n) for n in range(1, MISTAKES + 1)]
    for _, mistake, counter, tests in rows():
        assert mistake
        assert counter
        assert re.fullmatch(r"(`tests/[\w/]+\.py::test_\w+` ?)+", tests)


def test_every_test_that_is_named_is_there() -> None:
    for path, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE):
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        functions = (ast.FunctionDef, ast.AsyncFunctionDef)
        assert name in {each.name for each in tree.body if isinstance(each, functions)}, name


def test_nobody_else_is_pointed_at() -> None:
    assert "http" not in PAGE
