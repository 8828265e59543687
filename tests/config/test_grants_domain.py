"""Whether a grant opens something, and which reasons are enough: rules alone."""

from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from services.config.domain.grants import (
    LENGTHS,
    BadReason,
    Category,
    Closed,
    Grant,
    Reason,
    may_review,
    may_revoke,
    reason_of,
    why_closed,
)
from tests.config.builders import NOW

HOUR = timedelta(hours=1)
GRANT = Grant(
    grant_id=uuid4(),
    tenant_id=uuid4(),
    subject="sam",
    role="support",
    category=Category.QUESTION,
    reason_hash=b"",
    break_glass=False,
    renews=None,
    granted_at=NOW,
    expires_at=NOW + HOUR,
)
BROKEN = replace(GRANT, break_glass=True)


def closed(grant: Grant | None, *, subject: str = "sam", after: timedelta = HOUR / 2) -> str | None:
    return why_closed(grant, subject=subject, tenant_id=GRANT.tenant_id, now=NOW + after)


def test_a_grant_opens_one_tenant_to_one_person_for_its_time_alone() -> None:
    assert closed(GRANT) is None
    assert closed(GRANT, after=timedelta(0)) is None
    assert closed(GRANT, after=HOUR) is Closed.OVER
    assert closed(GRANT, after=-timedelta(seconds=1)) is Closed.OVER
    assert closed(None) is Closed.NO_GRANT
    assert closed(GRANT, subject="dana") is Closed.NO_GRANT
    assert closed(replace(GRANT, tenant_id=uuid4())) is Closed.NO_GRANT
    revoked = replace(GRANT, revoked_at=NOW, revoked_by="pat")
    assert closed(revoked) is Closed.REVOKED
    assert closed(revoked, subject="dana") is Closed.NO_GRANT


def test_no_grant_lasts_longer_than_an_hour() -> None:
    assert max(LENGTHS) == HOUR
    assert min(LENGTHS) > timedelta(0)


def test_who_holds_a_grant_and_who_watches_over_privacy_end_it_and_nobody_else() -> None:
    now = NOW + HOUR / 2
    assert may_revoke(GRANT, subject="sam", is_privacy=False, now=now)
    assert may_revoke(GRANT, subject="pat", is_privacy=True, now=now)
    assert not may_revoke(GRANT, subject="dana", is_privacy=False, now=now)
    assert not may_revoke(GRANT, subject="sam", is_privacy=True, now=NOW + HOUR)
    over = replace(GRANT, revoked_at=NOW, revoked_by="sam")
    assert not may_revoke(over, subject="sam", is_privacy=True, now=now)


def test_a_broken_glass_is_reviewed_once_and_by_somebody_else() -> None:
    assert may_review(BROKEN, subject="pat")
    assert not may_review(BROKEN, subject="sam")
    assert not may_review(GRANT, subject="pat")
    done = replace(BROKEN, reviewed_at=NOW, reviewed_by="pat", justified=True)
    assert not may_review(done, subject="priya")


@pytest.mark.parametrize("ticket", ["SUP-1", " sup-123 ", "AB2-999999999"])
def test_a_ticket_and_a_category_are_reason_enough(ticket: str) -> None:
    reason = reason_of("question", ticket, "", breaks_glass=False)
    assert reason.ticket == ticket.strip().upper()
    assert not reason.breaks_glass


@pytest.mark.parametrize(
    ("category", "ticket", "told", "breaks_glass"),
    [
        ("question", "", "a good reason", False),
        ("question", "SUP-0", "", False),
        ("question", "123", "", False),
        ("question", "SUP-1 OR 1", "", False),
        ("question", "SUP-1234567890", "", False),
        ("curiosity", "SUP-1", "", False),
        ("", "SUP-1", "", False),
        ("fault", "", "", True),
        ("fault", "", " \n\x00 ", True),
        ("fault", "SUP-1", "there is a ticket after all", True),
        ("fault", "", "x" * 501, True),
    ],
)
def test_what_is_no_reason_is_refused_in_words_that_do_not_repeat_it(
    category: str, ticket: str, told: str, *, breaks_glass: bool
) -> None:
    with pytest.raises(BadReason) as refused:
        reason_of(category, ticket, told, breaks_glass=breaks_glass)
    assert not told or told not in str(refused.value)


def test_the_hash_binds_every_word_and_depends_on_the_salt() -> None:
    one = Reason(Category.FAULT, "SUP-1", "words")
    others = [
        Reason(Category.QUESTION, "SUP-1", "words"),
        Reason(Category.FAULT, None, "words"),
        Reason(Category.FAULT, "SUP-1", "other words"),
    ]
    hashes = {each.hash(b"salt") for each in (one, *others)} | {one.hash(b"other salt")}
    assert len(hashes) == 5
    assert one.hash(b"salt") == replace(one).hash(b"salt")
    assert "words" not in repr(one)
