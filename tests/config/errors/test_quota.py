"""How much is let through, and what is left of an address or a browser's id."""

from datetime import UTC, datetime, timedelta

import pytest

from services.config.error_quotas import PERIOD, Buckets, DailySalt, network_of

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


class Stopwatch:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_so_many_are_let_through_and_then_one_after_another() -> None:
    time = Stopwatch()
    buckets = Buckets(3, monotonic=time)
    assert [buckets.take("a") for _ in range(3)] == [0, 0, 0]
    wait = buckets.take("a")
    assert 0 < wait <= PERIOD.total_seconds() / 3 + 1
    assert buckets.take("b") == 0
    time.seconds += wait - 2
    assert buckets.take("a") > 0
    time.seconds += 2
    assert buckets.take("a") == 0
    assert buckets.take("a") > 0
    time.seconds += 10 * PERIOD.total_seconds()
    assert [buckets.take("a") > 0 for _ in range(4)] == [False, False, False, True]


def test_however_many_keys_there_are_only_so_many_are_remembered() -> None:
    buckets = Buckets(1, keys=100)
    for number in range(10_000):
        assert buckets.take(number) == 0
    assert len(buckets._left) == 100
    # The latest is not among those that were forgotten.
    assert buckets.take(9_999) > 0


def test_a_hash_is_the_same_for_a_day_and_cannot_be_made_again() -> None:
    salt, other = DailySalt(), DailySalt()
    first = salt.hashed("tracking", "a", wall=NOW)
    assert len(first) == 16
    assert salt.hashed("tracking", "a", wall=NOW + timedelta(hours=11)) == first
    assert salt.hashed("address", "a", wall=NOW) != first
    assert salt.hashed("tracking", "b", wall=NOW) != first
    assert other.hashed("tracking", "a", wall=NOW) != first
    kept = salt._salt
    salt.renew(wall=NOW + timedelta(hours=12))
    assert salt._salt != kept
    assert salt.hashed("tracking", "a", wall=NOW) != first
    assert salt.hashed("tracking", "half \ud800", wall=NOW)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        (" 192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::9", "2001:db8:1:2::"),
        ("eve:example", ""),
        ("", ""),
    ],
)
def test_of_an_address_there_is_left_who_it_may_be(address: str, network: str) -> None:
    assert network_of(address) == network
