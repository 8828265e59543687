"""The envelope on Kafka, against the CloudEvents project's own library."""

from datetime import UTC, datetime, timedelta, timezone
from random import Random
from uuid import UUID

import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary, to_binary
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from contracts.envelope import Envelope, MalformedEnvelope, from_headers, to_headers

OPTIONAL = ("subject", "partitionkey", "dataschema", "traceparent", "causationid", "correlationid")
AN_ENVELOPE = Envelope(
    id=UUID("0198f2b6-7a40-7c3e-9d21-5b8e4f6a1c07"),
    source="/keepword/installer",
    type="keepword.tenant-installed.v1",
    time=datetime(2026, 8, 31, 23, 30, tzinfo=UTC),
)

nonsense = st.text(max_size=8)
texts = (
    st.text(min_size=1, max_size=40)
    .filter(lambda text: not any(ord(char) < 0x20 or 0x7F <= ord(char) <= 0x9F for char in text))
    .filter(
        lambda text: (
            not any(
                0xD800 <= ord(char) <= 0xDFFF
                or 0xFDD0 <= ord(char) <= 0xFDEF
                or ord(char) & 0xFFFE == 0xFFFE
                for char in text
            )
        )
    )
)
envelopes = st.builds(
    Envelope,
    id=st.uuids(),
    source=texts,
    type=texts,
    time=st.datetimes(
        min_value=datetime(1, 1, 2),  # noqa: DTZ001 - the zone is drawn below
        max_value=datetime(9999, 12, 30),  # noqa: DTZ001 - likewise
        timezones=st.timezones(),
    ),
    **{name: st.none() | texts for name in OPTIONAL},
)


def without(name: str) -> list[tuple[str, bytes | None]]:
    return [(header, value) for header, value in to_headers(AN_ENVELOPE) if header != name]


@given(envelopes)
def test_what_is_written_is_read_again(envelope: Envelope) -> None:
    read = from_headers(to_headers(envelope))

    assert read.time == envelope.time.astimezone(UTC)
    assert read.time.utcoffset() == timedelta(0)
    for name in ("id", "source", "type", *OPTIONAL):
        assert getattr(read, name) == getattr(envelope, name)


@given(envelopes)
def test_the_sdk_reads_what_we_write(envelope: Envelope) -> None:
    key = envelope.partitionkey

    event = from_binary(
        KafkaMessage(headers=dict(to_headers(envelope)), key=key, value=b'{"n": 1}'), JSONFormat()
    )

    assert event.get_id() == str(envelope.id)
    assert event.get_source() == envelope.source
    assert event.get_type() == envelope.type
    assert event.get_time() == envelope.time.astimezone(UTC)
    assert event.get_specversion() == "1.0"
    assert event.get_datacontenttype() == "application/json"
    assert event.get_subject() == envelope.subject
    assert event.get_dataschema() == envelope.dataschema
    for name in ("partitionkey", "traceparent", "causationid", "correlationid"):
        assert event.get_extension(name) == getattr(envelope, name)
    assert event.get_data() == {"n": 1}


@given(envelopes)
def test_we_read_what_the_sdk_writes(envelope: Envelope) -> None:
    attributes = {
        "id": str(envelope.id),
        "source": envelope.source,
        "type": envelope.type,
        "time": envelope.time.astimezone(UTC),
        "datacontenttype": "application/json",
    } | {name: value for name in OPTIONAL if (value := getattr(envelope, name)) is not None}

    message = to_binary(CloudEvent(attributes, {"n": 1}), JSONFormat())

    assert from_headers(list(message.headers.items())) == from_headers(to_headers(envelope))
    assert message.key == envelope.partitionkey


@given(envelopes)
def test_both_write_the_same_headers(envelope: Envelope) -> None:
    event = from_binary(
        KafkaMessage(headers=dict(to_headers(envelope)), key=None, value=b"{}"), JSONFormat()
    )

    assert to_binary(event, JSONFormat()).headers == dict(to_headers(envelope))


def test_no_header_is_written_for_what_is_not_known() -> None:
    assert to_headers(AN_ENVELOPE) == [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"0198f2b6-7a40-7c3e-9d21-5b8e4f6a1c07"),
        ("ce_source", b"/keepword/installer"),
        ("ce_type", b"keepword.tenant-installed.v1"),
        ("ce_time", b"2026-08-31T23:30:00Z"),
        ("content-type", b"application/json"),
    ]


@given(
    st.lists(
        st.tuples(
            nonsense.filter(lambda name: not name.lower().startswith("ce_")),
            st.none() | st.binary(max_size=8),
        )
    ),
    st.randoms(),
)
def test_headers_of_others_may_be_anything(
    foreign: list[tuple[str, bytes | None]], random: Random
) -> None:
    headers = [*to_headers(AN_ENVELOPE), *foreign, *foreign, ("ce_sequence", None)]
    random.shuffle(headers)

    assert from_headers(headers) == AN_ENVELOPE


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                [
                    "ce_id",
                    "CE_Time",
                    "ce_type",
                    "ce_specversion",
                    "ce_source",
                    "content-type",
                    "ce_subject",
                ]
            )
            | nonsense,
            st.none() | st.binary(max_size=40),
        )
    )
)
def test_any_headers_are_either_an_envelope_or_malformed(
    headers: list[tuple[str, bytes | None]],
) -> None:
    try:
        envelope = from_headers(headers)
    except MalformedEnvelope:
        return
    assert from_headers(to_headers(envelope)) == envelope


@pytest.mark.parametrize("name", ["specversion", "id", "source", "type", "time"])
@pytest.mark.parametrize(
    ("value", "reason"),
    [(None, "empty or no text"), (b"", "empty or no text"), (b"\xff", "empty or no text")],
)
def test_a_required_attribute_has_to_be_text(name: str, value: bytes | None, reason: str) -> None:
    with pytest.raises(MalformedEnvelope, match=f"^{name} is {reason}$"):
        from_headers([*without(f"ce_{name}"), (f"ce_{name}", value)])


@pytest.mark.parametrize("name", ["specversion", "id", "source", "type", "time"])
def test_a_required_attribute_has_to_be_there(name: str) -> None:
    with pytest.raises(MalformedEnvelope, match=f"^{name} is missing$"):
        from_headers(without(f"ce_{name}"))


@pytest.mark.parametrize("name", ["specversion", "id", "source", "type", "time"])
def test_a_required_attribute_given_twice_must_agree_with_itself(name: str) -> None:
    headers = to_headers(AN_ENVELOPE)
    same = dict(headers)[f"ce_{name}"]

    assert from_headers([*headers, (f"ce_{name}", same)]) == AN_ENVELOPE
    with pytest.raises(MalformedEnvelope, match=f"^{name} is given twice$"):
        from_headers([*headers, (f"ce_{name}", same + b"x")])


@pytest.mark.parametrize(
    ("header", "value", "reason"),
    [
        ("ce_specversion", b"0.3", "specversion is not 1.0"),
        ("ce_id", b"4711", "id is no UUID"),
        ("ce_time", b"yesterday", "time is no RFC 3339 instant"),
        ("ce_time", b"2026-08-31T23:30:00", "time has no zone"),
        ("ce_time", b"2026-08-31", "time has no zone"),
        ("ce_time", b"0001-01-01T00:00:00+14:00", "time is no RFC 3339 instant"),
        ("content-type", b"application/cloudevents+json", "content-type is not application/json"),
        ("content-type", b"text/plain", "content-type is not application/json"),
    ],
)
def test_a_wrong_value_is_refused_with_its_reason(header: str, value: bytes, reason: str) -> None:
    with pytest.raises(MalformedEnvelope) as caught:
        from_headers([*without(header), (header, value)])

    assert caught.value.reason == reason


@pytest.mark.parametrize("value", [b"application/json; charset=utf-8", b"Application/JSON", None])
def test_json_may_be_spelt_otherwise_or_not_at_all(value: bytes | None) -> None:
    assert from_headers([*without("content-type"), ("content-type", value)]) == AN_ENVELOPE
    assert from_headers(without("content-type")) == AN_ENVELOPE


@pytest.mark.parametrize("name", OPTIONAL)
@pytest.mark.parametrize("value", [None, b"", b"\xff\xfe", b"a\x00b"])
def test_an_optional_attribute_that_cannot_be_read_counts_as_absent(
    name: str, value: bytes | None
) -> None:
    assert from_headers([*to_headers(AN_ENVELOPE), (f"ce_{name}", value)]) == AN_ENVELOPE


@pytest.mark.parametrize("name", OPTIONAL)
def test_of_two_optional_values_neither_is_believed(name: str) -> None:
    headers = [*to_headers(AN_ENVELOPE), (f"ce_{name}", b"one"), (f"ce_{name}", b"two")]

    assert getattr(from_headers(headers), name) is None
    assert getattr(from_headers([*headers, (f"ce_{name}", b"two")]), name) is None


def test_another_zone_is_the_same_instant() -> None:
    headers = [*without("ce_time"), ("ce_time", b"2026-09-01T01:30:00+02:00")]

    assert from_headers(headers) == AN_ENVELOPE


@pytest.mark.parametrize(
    "wrong",
    [
        {"source": ""},
        {"type": "a\nb"},
        {"subject": ""},
        {"subject": "\ud800"},
        {"subject": "\ufffe"},
        {"time": datetime(2026, 8, 31)},  # noqa: DTZ001 - the missing zone is the subject
    ],
)
def test_an_envelope_that_cloudevents_does_not_allow_is_never_made(wrong: dict[str, str]) -> None:
    good = {name: getattr(AN_ENVELOPE, name) for name in ("id", "source", "type", "time")}

    with pytest.raises(ValueError, match=next(iter(wrong))):
        Envelope(**{**good, **wrong})


def test_a_time_is_written_in_utc() -> None:
    tokyo = datetime(2026, 9, 1, 8, 30, tzinfo=timezone(timedelta(hours=9)))
    envelope = Envelope(id=AN_ENVELOPE.id, source="/a", type="b", time=tokyo)

    assert ("ce_time", b"2026-08-31T23:30:00Z") in to_headers(envelope)


def test_the_case_of_a_header_name_does_not_matter() -> None:
    shouted = [(header.upper(), value) for header, value in to_headers(AN_ENVELOPE)]

    assert from_headers(shouted) == AN_ENVELOPE
