"""What is kept of an event, and which events are the same fault."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.config.domain import error_reports as limits
from services.config.domain.error_reports import Agent, Report, agent_of, fingerprint_of, report_of
from tests.config.errors.events import CHROME, PERSON, an_event

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
APP = "com.example.reports"


def read(event: dict[str, Any], event_id: UUID | None = None) -> Report:
    return report_of(
        event,
        event_id=event_id,
        agent=agent_of(CHROME),
        received_at=NOW,
        anonymise=lambda told: f"hashed {len(told)}".encode(),
    )


def test_exactly_what_the_policy_names_is_kept_and_no_person() -> None:
    event = an_event(timestamp=(NOW - timedelta(seconds=2)).timestamp())
    kept = read(event)
    assert kept.event_id == UUID(event["event_id"])
    assert kept.occurred_at == NOW - timedelta(seconds=2)
    assert (kept.release, kept.level, kept.handled) == ("reports@2.4.1", "error", False)
    assert kept.agent == Agent("Chrome", 141, "Linux", None)
    assert kept.tracking == b"hashed 32"
    (thrown,) = kept.thrown
    assert (thrown.type, thrown.value) == ("TypeError", "Cannot read properties of [email]")
    assert [(f.function, f.file, f.line, f.column, f.in_app) for f in thrown.frames] == [
        ("load", "/js/main.4f9d1c2e.js", 7, 1200, True),
        ("render", "/js/main.4f9d1c2e.js", 7, 1200, True),
    ]
    assert kept.culprit == "render in /js/main.4f9d1c2e.js"
    everything = repr([getattr(kept, name) for name in Report.__slots__]) + repr(thrown.value)
    for told in (PERSON, "eve", "customer.example", "app.example", "192.0.2.7", "0f0f"):
        assert told not in everything


def test_the_envelopes_id_comes_before_the_events() -> None:
    wins = UUID(int=7)
    assert read(an_event(), wins).event_id == wins
    assert read(an_event(event_id="no id")).event_id.version == 4


def test_what_a_browser_says_of_the_time_is_believed_within_a_day() -> None:
    for odd in (0, 1e300, -1e300, True, "2026-11-23T12:00:00Z", None, NOW.timestamp() + 90_000):
        assert read(an_event(timestamp=odd)).occurred_at == NOW


def test_causes_are_kept_and_what_was_thrown_is_the_last() -> None:
    values = [{"type": f"E{n}", "value": "x"} for n in range(9)]
    kept = read(an_event(exception={"values": values}))
    assert [each.type for each in kept.thrown] == ["E4", "E5", "E6", "E7", "E8"]
    assert kept.handled is None


def test_of_a_deep_stack_the_innermost_calls_are_kept() -> None:
    frames = [{"function": f"f{n}", "filename": "a.js", "lineno": -1} for n in range(80)]
    values = [{"type": "E", "value": "x", "stacktrace": {"frames": frames}}]
    (thrown,) = read(an_event(exception={"values": values})).thrown
    assert len(thrown.frames) == limits.MOST_FRAMES
    assert (thrown.frames[-1].function, thrown.frames[-1].line) == ("f79", None)


@pytest.mark.parametrize("told", ["lost bob@example.com", {"formatted": "lost bob@example.com"}])
def test_words_without_an_exception_are_an_error_too(told: object) -> None:
    (thrown,) = read({"message": told}).thrown
    assert (thrown.type, thrown.value, thrown.frames) == ("Message", "lost [email]", ())


def test_a_release_is_a_package_and_its_version_and_never_an_address() -> None:
    for told, kept in (
        ("reports@2.4.1-rc.1", "reports@2.4.1-rc.1"),
        ("2.4", "2.4"),
        ("bob@example.com", "[email]"),
        ("bob@1.example.com", "[email]"),
        ("", ""),
        (7, ""),
    ):
        assert read(an_event(release=told)).release == kept


SHAPES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "exception",
                    "values",
                    "stacktrace",
                    "frames",
                    "type",
                    "value",
                    "function",
                    "filename",
                    "lineno",
                    "mechanism",
                    "handled",
                    "user",
                    "id",
                    "level",
                    "release",
                    "timestamp",
                    "message",
                    "formatted",
                    "in_app",
                ]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=30,
)


@given(st.dictionaries(st.sampled_from([*an_event(), "timestamp", "message"]), SHAPES))
def test_whatever_shape_an_event_has_something_within_the_limits_is_kept(
    event: dict[str, Any],
) -> None:
    kept = read(event)
    assert kept.level in limits.LEVELS
    assert 1 <= len(kept.thrown) <= limits.MOST_CAUSES
    for thrown in kept.thrown:
        assert len(thrown.value) <= limits.MOST_VALUE
        assert len(thrown.frames) <= limits.MOST_FRAMES
    assert len(fingerprint_of(APP, kept)) == 16


# -- fingerprint -------------------------------------------------------------------------------


def group(app: str = APP, **frame: Any) -> bytes:
    frames = [
        {"function": "load", "filename": "https://a.example/lib.js", "in_app": False},
        {"function": "render", "filename": "https://a.example/main.4f9d1c2e.js"} | frame,
    ]
    values = [{"type": "TypeError", "value": "x", "stacktrace": {"frames": frames}}]
    return fingerprint_of(app, read(an_event(exception={"values": values})))


def test_the_same_fault_in_another_release_is_the_same_group() -> None:
    assert group() == group()
    for name in (
        "https://b.example/main.4f9d1c2e.js?v=2",
        "https://a.example/main.77aa31b0.js",
        "https://a.example/main-BX3kd92q.js",
        f"https://a.example/main.{'0a' * 16}.js",
    ):
        assert group(filename=name) == group(), name
    assert group(lineno=9, colno=9) == group()
    assert group(filename="/v1.2.3/m.js") == group(filename="/v1.10.0/m.js")


def test_another_function_file_type_or_app_is_another_group() -> None:
    groups = {
        group(),
        group("com.example.other"),
        group(function="draw"),
        group(filename="https://a.example/other.js"),
    }
    assert len(groups) == 4


def test_calls_of_others_tell_only_where_the_app_has_none() -> None:
    theirs = group(in_app=False)
    assert theirs != group()
    assert theirs != group(in_app=False, function="draw")


def test_words_are_one_group_whatever_numbers_are_in_them() -> None:
    one, two, other = (
        fingerprint_of(APP, read({"message": told}))
        for told in ("lost 3 of 10", "lost 4 of 12", "found")
    )
    assert one == two != other


# -- browsers ----------------------------------------------------------------------------------

WEBKIT = "AppleWebKit/605.1.15 (KHTML, like Gecko)"
MOBILE = "Version/18.1 Mobile/15E148 Safari/604.1"


@pytest.mark.parametrize(
    ("header", "agent"),
    [
        (CHROME, Agent("Chrome", 141, "Linux", None)),
        (CHROME.replace("Chrome/", "HeadlessChrome/"), Agent("Chrome", 141, "Linux", None)),
        (f"{CHROME} Edg/141.0.0.0", Agent("Edge", 141, "Linux", None)),
        (f"{CHROME} OPR/124.0", Agent("Opera", 124, "Linux", None)),
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:144.0) Gecko/20100101 Firefox/144.0",
            Agent("Firefox", 144, "Windows", 10),
        ),
        (
            f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {WEBKIT} Version/18.1 Safari/605.1.15",
            Agent("Safari", 18, "macOS", 10),
        ),
        (
            f"Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) {WEBKIT} {MOBILE}",
            Agent("Safari", 18, "iOS", 18),
        ),
        (
            f"Mozilla/5.0 (Linux; Android 14; SM-S921B) SamsungBrowser/26.0 {CHROME[-34:]}",
            Agent("Samsung Internet", 26, "Android", 14),
        ),
        ("bob@example.com", Agent("Other", None, "Other", None)),
        ("", Agent("Other", None, "Other", None)),
    ],
)
def test_of_a_browser_its_family_and_major_version_are_kept(header: str, agent: Agent) -> None:
    assert agent_of(header) == agent


def test_a_report_says_nothing_of_its_contents_when_it_is_printed() -> None:
    kept = replace(read(an_event()), release="x")
    assert "Cannot read" not in repr(kept)
