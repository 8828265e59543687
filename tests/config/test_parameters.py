"""What is a parameter in the text of a query, and what values it may have."""

import json
import time
from typing import Any
from uuid import uuid4

import pytest
from pydantic import ValidationError

from services.config.domain.datasources import DatasourceKind
from services.config.domain.parameters import parameters_in
from services.config.domain.queries import Query
from tests.config.builders import a_query


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("SELECT 1", []),
        ("SELECT :a, :b, :a", ["a", "b"]),
        ("WHERE x=:a AND y IN(:b,:c)", ["a", "b", "c"]),
        ("SELECT ':no', 'it''s :no', :yes", ["yes"]),
        (r"SELECT E'\' :no', :yes", ["yes"]),
        (r"SELECT '\', :yes, ''", ["yes"]),
        ('SELECT "a :no ""b :no", :yes', ["yes"]),
        ("SELECT `a :no`, :yes", ["yes"]),
        ("SELECT 1 -- :no\n, :yes", ["yes"]),
        ("SELECT 1 /* :no /* :no */ :no */, :yes", ["yes"]),
        ("SELECT 1 /* :no", []),
        ("SELECT ':no", []),
        ("SELECT a::text, :yes::int, (:also)::date", ["yes", "also"]),
        ("SELECT a::no, b :: int", []),
        ("SELECT $$ :no $$, $tag$ :no $$ $tag$, :yes", ["yes"]),
        ("SELECT $1, :yes", ["yes"]),
        ("SELECT a[1:2], b[x:no], '12:30', :yes", ["yes"]),
        (r"SELECT \:no, :yes", ["yes"]),
        ("SELECT x := :yes", ["yes"]),
        ("SELECT :1a, :é, :_ok", ["_ok"]),
        (f"SELECT :{'a' * 63}, :{'b' * 64}", ["a" * 63]),
        ("SELECT ':no' /* 🙂 */ , :yes -- שלום :no", ["yes"]),
        (":", []),
        ("", []),
    ],
)
def test_parameters_are_found_in_a_statement(text: str, found: list[str]) -> None:
    assert parameters_in(text, DatasourceKind.SQL) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("/sales", []),
        ("/sales/:region/months?from=:from&to=:to", ["region", "from", "to"]),
        ("/it's/:a--:b", ["a", "b"]),
        ("/at?time=12:30&x=a:b", []),
        ("/a::b", []),
    ],
)
def test_parameters_are_found_in_a_path(text: str, found: list[str]) -> None:
    assert parameters_in(text, DatasourceKind.REST) == found


@pytest.mark.parametrize(
    "text",
    ["$a" * 50_000, "'" * 99_999, "/*" * 50_000, "::" * 50_000, "$$" * 50_000, "\\" * 99_999],
)
def test_a_text_that_was_made_to_take_long_does_not(text: str) -> None:
    began_at = time.monotonic()
    parameters_in(text, DatasourceKind.SQL)
    assert time.monotonic() - began_at < 5


def a_valid_query(**others: Any) -> Query:
    body = json.dumps(a_query(str(uuid4())) | others)
    return Query.model_validate_json(body, strict=True)


def test_what_the_text_has_and_nobody_declares_is_a_text() -> None:
    query = a_valid_query(
        text="SELECT :b, :a", parameters=[{"name": "a", "type": "integer", "default": 1}]
    )
    assert [(each.name, each.type.value, each.default) for each in query.parameters] == [
        ("b", "text", None),
        ("a", "integer", 1),
    ]
    assert query.body()["parameters"] == [
        {"name": "b", "type": "text", "default": None, "allowed": None},
        {"name": "a", "type": "integer", "default": 1, "allowed": None},
    ]


@pytest.mark.parametrize(
    "parameter",
    [
        {"type": "text", "default": "", "allowed": ["", "x"]},
        {"type": "integer", "default": -5},
        {"type": "integer", "default": 5.0},
        {"type": "number", "default": 0.5, "allowed": [0.5, 1]},
        {"type": "boolean", "default": False},
        {"type": "date", "default": "2024-02-29"},
    ],
)
def test_values_of_its_type_are_taken(parameter: dict[str, Any]) -> None:
    query = a_valid_query(text=":a", parameters=[{"name": "a", **parameter}])
    assert query.body()["parameters"][0]["default"] == parameter["default"]


@pytest.mark.parametrize(
    "parameter",
    [
        {"type": "integer", "default": "1"},
        {"type": "integer", "default": 1.5},
        {"type": "integer", "default": True},
        {"type": "integer", "default": 10**30},
        {"type": "number", "default": True},
        {"type": "text", "default": 1},
        {"type": "boolean", "default": 0},
        {"type": "date", "default": "2023-02-29"},
        {"type": "date", "default": "20240229"},
        {"type": "text", "default": "nul\x00"},
        {"type": "text", "default": "c", "allowed": ["a", "b"]},
        {"type": "number", "default": 3, "allowed": [1, 2]},
        {"type": "text", "allowed": []},
        {"type": "text", "allowed": [["a"]]},
        {"type": "money"},
        {"name": "1"},
        {"name": "other"},
    ],
)
def test_values_that_make_no_sense_are_refused(parameter: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        a_valid_query(text=":a", parameters=[{"name": "a", **parameter}])


@pytest.mark.parametrize(
    "wrong",
    [
        {"text": ":a", "parameters": [{"name": "a"}, {"name": "a"}]},
        {"kind": "rest", "text": "sales", "parameters": []},
        {"text": " ".join(f":p{n}" for n in range(101)), "parameters": []},
        {"text": ""},
        {"text": "nul\x00"},
        {"spaces": ["a space"]},
        {"spaces": ["S"] * 501},
        {"datasource_id": "not-an-id"},
        {"tags": ["two\nlines"]},
        {"tags": [" spaced "]},
        {"tags": [str(n) for n in range(21)]},
    ],
)
def test_a_query_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        a_valid_query(**wrong)
