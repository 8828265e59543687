"""Business time can be moved, wall time cannot."""

import os
import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from chassis import clock
from chassis.clock import Clock, ManualClock, OffsetClock, SystemClock

SPRING = datetime(2027, 3, 1, tzinfo=UTC)


def write(path: Path, text: str) -> None:
    beside = path.with_suffix(".new")
    beside.write_text(text)
    beside.replace(path)


@pytest.fixture
def attentive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "LOOK_EVERY_SECONDS", 0.0)


def offset_of(moved: OffsetClock) -> float:
    return (moved.now() - moved.wall()).total_seconds()


def test_every_clock_tells_time_in_utc(tmp_path: Path) -> None:
    clocks: list[Clock] = [SystemClock(), OffsetClock(tmp_path / "none"), ManualClock(SPRING)]
    for each in clocks:
        assert each.now().utcoffset() == timedelta()
        assert each.wall().utcoffset() == timedelta()


def test_a_missing_or_empty_file_means_no_offset(tmp_path: Path, attentive: None) -> None:
    path = tmp_path / "offset"
    moved = OffsetClock(path)
    assert offset_of(moved) == pytest.approx(0, abs=0.01)
    write(path, "")
    assert offset_of(moved) == pytest.approx(0, abs=0.01)


def test_moving_the_file_moves_business_time_and_not_wall_time(
    tmp_path: Path, attentive: None
) -> None:
    path = tmp_path / "offset"
    moved = OffsetClock(path)
    write(path, "86400\n")
    assert offset_of(moved) == pytest.approx(86400, abs=0.01)
    assert abs((moved.wall() - datetime.now(UTC)).total_seconds()) < 1
    write(path, "-1.5")
    assert offset_of(moved) == pytest.approx(-1.5, abs=0.01)
    path.unlink()
    assert offset_of(moved) == pytest.approx(0, abs=0.01)


def test_an_unchanged_file_is_not_read_again(tmp_path: Path, attentive: None) -> None:
    path = tmp_path / "offset"
    path.write_text("60")
    moved = OffsetClock(path)
    assert offset_of(moved) == pytest.approx(60, abs=0.01)
    before = path.stat()
    path.write_text("90")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert offset_of(moved) == pytest.approx(60, abs=0.01)


def test_the_file_is_looked_at_no_more_than_every_50_ms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = OffsetClock(tmp_path / "offset")
    looks = 0
    really_look = moved._look

    def counted() -> None:
        nonlocal looks
        looks += 1
        really_look()

    monkeypatch.setattr(moved, "_look", counted)
    began_at = time.monotonic()
    for _ in range(10_000):
        moved.now()
    assert looks <= 1 + (time.monotonic() - began_at) / clock.LOOK_EVERY_SECONDS


def test_a_file_without_a_number_keeps_the_last_offset_and_is_logged(
    tmp_path: Path, attentive: None
) -> None:
    path = tmp_path / "offset"
    write(path, "60")
    moved = OffsetClock(path)
    moved.now()
    with capture_logs() as logged:
        for nonsense in ("tomorrow", "1e400", "nan"):
            write(path, nonsense)
            assert offset_of(moved) == pytest.approx(60, abs=0.01)
    assert len(logged) == 3


def test_a_manual_clock_stands_still_until_it_is_moved() -> None:
    still = ManualClock(SPRING)
    assert still.now() == still.wall() == SPRING
    still.advance(timedelta(days=2))
    assert still.now() == still.wall() == SPRING + timedelta(days=2)
    still.set(datetime(2027, 3, 1, 2, tzinfo=timezone(timedelta(hours=2))))
    assert still.now() == SPRING


def test_a_moment_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        ManualClock(datetime(2027, 3, 1))  # noqa: DTZ001 - the very thing refused
