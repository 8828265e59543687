"""What is an envelope, and what is garbage."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.config.domain import error_envelopes as envelope
from services.config.domain.error_envelopes import BadEnvelope, TooLarge, event_in, split

EVENT_ID = "9ec79c33ec9942ab8353589fcb2e04dc"


def read(body: bytes) -> tuple[dict[str, Any], dict[str, Any] | None]:
    header, items = split(body)
    return header, event_in(items)


@pytest.mark.parametrize(
    ("items", "found"),
    [
        (b'{"type":"event"}\n{"level":"error"}', {"level": "error"}),
        (b'{"type":"event"}\n{"level":"error"}\n', {"level": "error"}),
        (b'{"type":"event","length":17}\n{"level":"error"}\n', {"level": "error"}),
        (b'{"type":"event","length":17}\n{"level":"error"}', {"level": "error"}),
        # A payload of a said length may hold line breaks.
        (b'{"type":"event","length":19}\n{"level":\n"error"\n}', {"level": "error"}),
        (b'{"type":"attachment","length":0}\n\n{"type":"event"}\n{}', {}),
        (b'{"type":"attachment","length":3}\n\n\n\n\n{"type":"event","length":2}\n{}\n', {}),
        (b'{"type":"attachment"}\n\n{"type":"event"}\n{}', {}),
        (b'{"type":"session"}\n{"started":1}\n{"type":"client_report"}\n{}\n', None),
        (b'{"type":"something-new","x":[1]}\nanything at all\n{"type":"event"}\n{}', {}),
        (b'{"type":"event"}\n{"a":1}\n{"type":"event"}\n{"a":2}', {"a": 1}),
        (b"", None),
        (b"\n", None),
    ],
)  # fmt: skip
def test_the_event_is_found_and_every_other_item_passed_over(
    items: bytes, found: dict[str, Any] | None
) -> None:
    header = json.dumps({"event_id": EVENT_ID}).encode()
    assert read(header + b"\n" + items) == ({"event_id": EVENT_ID}, found)


def test_an_envelope_may_have_no_items_at_all() -> None:
    assert read(b"{}") == ({}, None)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\n",
        b"x",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"a":NaN}',
        b'{}\n{"type":"event"}\n',
        b'{}\n{"type":"event"}',
        b'{}\n{"type":"event"}\nnot json',
        b'{}\n{"type":"event"}\n[1]',
        b'{}\n{"type":"event"}\n{"a":Infinity}',
        b'{}\n{"type":"event"}\n{"a":"\xff"}',
        b'{}\n{"type":7}\n{}',
        b'{}\n{"no":"type"}\n{}',
        b"{}\n\n{}",
        b"{}\nrubbish\n{}",
        b'{}\n{"type":"event","length":3}\n{}',
        b'{}\n{"type":"event","length":1}\n{}',
        b'{}\n{"type":"event","length":-1}\n{}',
        b'{}\n{"type":"event","length":true}\n{}',
        b'{}\n{"type":"event","length":"2"}\n{}',
    ],
)
def test_garbage_is_refused(body: bytes) -> None:
    with pytest.raises(BadEnvelope):
        read(body)


def test_limits_are_refused_beyond_and_taken_up_to_their_last_byte() -> None:
    most = envelope.MOST_HEADER_BYTES
    padded = '{"a":"%s"}'
    fits, over = (padded % ("x" * (most - 8 + more)) for more in (0, 1))
    assert len(fits) == most
    assert read(fits.encode())[1] is None
    with pytest.raises(TooLarge):
        read(over.encode())
    with pytest.raises(TooLarge):
        read(b"{}\n" + over.encode() + b"\n{}")
    with pytest.raises(TooLarge):
        read(b"{}" + b"\n" * envelope.MOST_BYTES)

    item = b'\n{"type":"session"}\n{}'
    assert read(b"{}" + item * envelope.MOST_ITEMS)[1] is None
    with pytest.raises(BadEnvelope):
        read(b"{}" + item * (envelope.MOST_ITEMS + 1))


def nested(depth: int) -> bytes:
    return b'{}\n{"type":"event"}\n{"a":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


def test_what_is_nested_too_deep_is_refused_before_it_is_built() -> None:
    assert read(nested(envelope.MOST_DEPTH))[1] is not None
    for depth in (envelope.MOST_DEPTH + 1, 50_000):
        with pytest.raises(BadEnvelope, match="too deep"):
            read(nested(depth))
    with pytest.raises(BadEnvelope, match="too deep"):
        read(b"{}\n" + b'{"type":' * 100)


def test_brackets_in_texts_are_no_depth() -> None:
    event = {"message": "[{" * 500 + '"]\\', "b": {"c": ["]]]]"]}}
    body = b'{}\n{"type":"event"}\n' + json.dumps(event).encode()
    assert read(body)[1] == event


@given(st.binary(max_size=300))
def test_no_bytes_make_anything_but_an_envelope_or_a_refusal(noise: bytes) -> None:
    for body in (noise, b"{}\n" + noise, b'{}\n{"type":"event"}\n' + noise):
        try:
            read(body)
        except (BadEnvelope, TooLarge):
            continue
