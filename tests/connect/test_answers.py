"""When a host wants us back, whatever it writes."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connect.answers import (
    DEFAULT_RETRY_AFTER,
    MAX_RETRY_AFTER,
    MIN_RETRY_AFTER,
    retry_after,
)

NOW = 1_795_000_000.0  # Wed, 18 Nov 2026 11:06:40 GMT


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7),
        (" 90 ", 90),
        ("0", 1),
        ("999999999", 3600),
        ("Wed, 18 Nov 2026 11:08:40 GMT", 120),
        ("Wed, 18 Nov 2026 11:08:40 -0000", 120),
        ("Wed, 18 Nov 2026 12:08:40 +0100", 120),
        ("Tue, 17 Nov 2026 11:06:40 GMT", 1),
        ("Sun, 31 Dec 9999 23:59:59 GMT", 3600),
    ],
)
def test_seconds_and_dates_are_heeded_within_bounds(header: str, seconds: int) -> None:
    assert retry_after(header, NOW) == timedelta(seconds=seconds)


@pytest.mark.parametrize("header", [None, "", "soon", "-5", "1.5", "1e3", "٣", "9" * 10])
def test_what_cannot_be_read_means_a_minute(header: str | None) -> None:
    assert retry_after(header, NOW) == DEFAULT_RETRY_AFTER


@given(st.text(max_size=60))
def test_no_header_is_a_fault_or_an_endless_wait(header: str) -> None:
    assert MIN_RETRY_AFTER <= retry_after(header, NOW) <= MAX_RETRY_AFTER
