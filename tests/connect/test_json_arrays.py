"""An array comes out as it went in, however its bytes are cut, and is never silently shortened."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connect.json_arrays import ArrayReader, BrokenArray

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


def _read(pieces: list[bytes], max_item_chars: int = 10_000) -> list[Any]:
    reader = ArrayReader(max_item_chars)
    items = [item for piece in pieces for item in reader.feed(piece)]
    reader.close()
    return items


def _cut(raw: bytes, cuts: list[int]) -> list[bytes]:
    borders = [0, *sorted(cut % (len(raw) + 1) for cut in cuts), len(raw)]
    return [raw[start:end] for start, end in pairwise(borders)]


@given(
    st.lists(VALUES, max_size=6),
    st.lists(st.integers(min_value=0), max_size=8),
    st.sampled_from([None, 2]),
    st.booleans(),
)
def test_an_array_reads_the_same_however_it_is_cut(
    items: list[Any], cuts: list[int], indent: int | None, ascii_only: bool
) -> None:
    raw = json.dumps(items, indent=indent, ensure_ascii=ascii_only).encode()

    assert _read(_cut(raw, cuts)) == items


@given(st.lists(VALUES, max_size=4), st.data())
def test_an_array_that_ends_early_is_never_taken_for_a_whole(
    items: list[Any], data: st.DataObject
) -> None:
    raw = json.dumps(items).encode()
    end = data.draw(st.integers(min_value=0, max_value=len(raw) - 1))

    with pytest.raises(BrokenArray):
        _read([raw[:end]])


@pytest.mark.parametrize(
    "raw", [b"", b" ", b"{}", b"<html>", b"1", b"[1 2]", b"[1,]", b"[,]", b"[}", b'["a" "b"]']
)
def test_what_is_no_array_is_refused(raw: bytes) -> None:
    with pytest.raises(BrokenArray):
        _read([raw])


def test_an_item_is_given_as_soon_as_it_is_whole() -> None:
    reader = ArrayReader(100)

    assert reader.feed(b"\xef\xbb\xbf [1") == []
    assert reader.feed(b"2") == []
    assert reader.feed(b"3,{") == [123]
    assert reader.feed(b'"a":1}') == []
    assert reader.feed(b"]") == [{"a": 1}]


def test_an_item_beyond_the_limit_does_not_fill_the_memory() -> None:
    reader = ArrayReader(1000)
    reader.feed(b'[{"a": "')

    with pytest.raises(BrokenArray):
        _feed_forever(reader)


def _feed_forever(reader: ArrayReader) -> None:
    while True:
        reader.feed(b"x" * 100)


def test_many_small_items_are_no_large_one() -> None:
    assert _read([b"[" + b"1," * 5000 + b"1]"], max_item_chars=10) == [1] * 5001


def test_endless_nesting_is_refused() -> None:
    with pytest.raises(BrokenArray):
        _read([b"[" * 100_000], max_item_chars=1_000_000)


def test_a_byte_of_another_encoding_costs_a_character_only() -> None:
    assert _read([b'["M\xfcller", "ok"]']) == ["M\ufffdller", "ok"]
