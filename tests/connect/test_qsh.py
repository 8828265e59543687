"""The query string hash agrees with the published vectors, ours, and its own algebra."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connect.jwt import Algorithm, find_token, parse
from connect.qsh import canonical_request, query_string_hash

OURS = json.loads((Path(__file__).parent / "vectors" / "canonical-requests.json").read_text())
OFFICIAL = Path(__file__).parents[2].parent / "shared" / "vectors" / "jwt-signed-urls.json"

Pairs = list[tuple[str, str]]
pairs = st.lists(st.tuples(st.text(max_size=4), st.text(max_size=6)), max_size=6).map(
    lambda drawn: [(name, value) for name, value in drawn if name != "jwt"]
)


def _official() -> list[Any]:
    if not OFFICIAL.exists():
        absent = pytest.mark.skip(reason="Atlassian's interoperability vectors are not here")
        return [pytest.param({}, marks=absent)]
    return [
        pytest.param(case, id=case["name"]) for case in json.loads(OFFICIAL.read_text())["tests"]
    ]


def _every_byte_encoded(given_pairs: Pairs) -> str:
    def encoded(text: str) -> str:
        return "".join(f"%{byte:02x}" for byte in text.encode())

    return "&".join(f"{encoded(name)}={encoded(value)}" for name, value in given_pairs)


@pytest.mark.parametrize("case", _official())
def test_every_official_signed_url_has_this_canonical_form_and_hash(case: dict[str, str]) -> None:
    target = "/" + case["signedUrl"].split("://", 1)[1].partition("/")[2]
    path, _, query = target.partition("?")

    claimed = parse(find_token(raw_query=query), Algorithm.HS256).payload["qsh"]

    assert canonical_request("GET", path, query) == case["canonicalUrl"]
    assert query_string_hash("GET", path, query) == claimed


@pytest.mark.parametrize("case", OURS["requests"], ids=lambda case: case["name"])
def test_every_vector_of_ours_has_this_canonical_form_and_hash(case: dict[str, str]) -> None:
    request = (case["method"], case["raw_path"], case["raw_query"], case["base_path"])

    assert canonical_request(*request) == case["canonical"]
    assert query_string_hash(*request) == case["qsh"]


def test_bytes_and_text_are_the_same_request() -> None:
    assert canonical_request("GET", b"/a%20b", b"q=%C3%A9") == canonical_request(
        "GET", "/a%20b", "q=%C3%A9"
    )


def test_half_a_surrogate_pair_does_not_make_it_fail() -> None:
    assert len(query_string_hash("GET", "/\ud800", "q=\ud800")) == 64


@given(path=st.binary(max_size=20), query=st.binary(max_size=40))
def test_no_bytes_on_the_wire_make_it_fail(path: bytes, query: bytes) -> None:
    assert len(query_string_hash("GET", path, query)) == 64


@given(path=st.text(max_size=20), query=st.text(max_size=40))
def test_no_text_makes_it_fail(path: str, query: str) -> None:
    assert len(query_string_hash("GET", path, query, path[:3])) == 64


@given(pairs)
def test_how_a_query_is_encoded_does_not_matter(given_pairs: Pairs) -> None:
    assert canonical_request("GET", "/", urlencode(given_pairs)) == canonical_request(
        "GET", "/", _every_byte_encoded(given_pairs)
    )


@given(pairs.flatmap(lambda drawn: st.tuples(st.just(drawn), st.permutations(drawn))))
def test_the_order_of_parameters_does_not_matter(orders: tuple[Pairs, Pairs]) -> None:
    first, second = orders

    assert canonical_request("GET", "/", urlencode(first)) == canonical_request(
        "GET", "/", urlencode(second)
    )


@given(pairs, st.text(max_size=10))
def test_the_token_itself_does_not_matter(given_pairs: Pairs, token: str) -> None:
    assert canonical_request("GET", "/", urlencode([*given_pairs, ("jwt", token)])) == (
        canonical_request("GET", "/", urlencode(given_pairs))
    )


@given(st.dictionaries(st.text(max_size=4).filter(lambda name: name != "jwt"), st.text(max_size=6)))
def test_a_canonical_query_without_repeats_is_its_own_canonical_form(query: dict[str, str]) -> None:
    canonical = canonical_request("GET", "/", urlencode(query)).split("&", 2)[2]

    assert canonical_request("GET", "/", canonical).split("&", 2)[2] == canonical


@given(pairs, pairs)
def test_two_queries_that_say_different_things_differ(first: Pairs, second: Pairs) -> None:
    def said(given_pairs: Pairs) -> dict[str, list[str]]:
        values = defaultdict(list)
        for name, value in given_pairs:
            if name or value:  # the wire has no way to write a pair of nothing
                values[name].append(value)
        return {name: sorted(found) for name, found in values.items()}

    same = canonical_request("GET", "/", _wire(first)) == canonical_request(
        "GET", "/", _wire(second)
    )

    assert same == (said(first) == said(second))


def _wire(given_pairs: Pairs) -> str:
    return urlencode([(name, value) for name, value in given_pairs if name or value])
