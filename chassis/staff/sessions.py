"""Sessions of staff in a service's database; of what a browser holds only a hash is kept."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final

from chassis.database import Pool
from chassis.staff.people import Person, Role
from chassis.staff.provider import SignedOn, SignedOut

LONGEST: Final = timedelta(hours=8)
IDLE: Final = timedelta(minutes=30)
SIGN_ON_LASTS: Final = timedelta(minutes=10)
# A page with many parts is one visit, and one write.
_NOTED_EVERY: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Begun:
    """A sign-on whose answer has come: where the person wanted to be, and whether they were asked."""

    return_to: str
    silent: bool


async def begin_sign_on(
    pool: Pool, *, state: str, browser: str, begun: Begun, wall: datetime
) -> None:
    """Remember that a browser was sent to the provider."""
    await pool.execute(
        """
        INSERT INTO staff_sign_ons (state_hash, browser_hash, return_to, silent, began_at)
        VALUES ($1, $2, $3, $4, $5)
        """,
        _hash(state),
        _hash(browser),
        begun.return_to,
        begun.silent,
        wall,
    )


async def take_sign_on(pool: Pool, *, state: str, browser: str, wall: datetime) -> Begun | None:
    """Take the sign-on that an answer belongs to; None where this browser began none, or long ago.

    It is gone afterwards: an answer that comes twice is none the second time.
    """
    row = await pool.fetchrow(
        """
        DELETE FROM staff_sign_ons
         WHERE state_hash = $1 AND browser_hash = $2 AND began_at > $3
        RETURNING return_to, silent
        """,
        _hash(state),
        _hash(browser),
        wall - SIGN_ON_LASTS,
    )
    return Begun(row["return_to"], row["silent"]) if row else None


async def begin(pool: Pool, session: str, signed_on: SignedOn, *, wall: datetime) -> None:
    """Let a session begin."""
    person = signed_on.person
    await pool.execute(
        """
        INSERT INTO staff_sessions
               (session_hash, subject, name, roles, provider_session, began_at, seen_at)
        VALUES ($1, $2, $3, $4, $5, $6, $6)
        """,
        _hash(session),
        person.subject,
        person.name,
        sorted(person.roles),
        signed_on.provider_session,
        wall,
    )


async def person_of(pool: Pool, session: str, *, visits: bool, wall: datetime) -> Person | None:
    """Say whose session it is, and where the person ``visits`` note that; None once it is over.

    A session lasts eight hours, and thirty minutes without a visit.
    """
    row = await pool.fetchrow(
        """
        SELECT subject, name, roles, seen_at
          FROM staff_sessions
         WHERE session_hash = $1 AND began_at > $2 AND seen_at > $3
        """,
        _hash(session),
        wall - LONGEST,
        wall - IDLE,
    )
    if row is None:
        return None
    if visits and row["seen_at"] < wall - _NOTED_EVERY:
        await pool.execute(
            "UPDATE staff_sessions SET seen_at = $2 WHERE session_hash = $1", _hash(session), wall
        )
    return Person(row["subject"], row["name"], frozenset(map(Role, row["roles"])))


async def end(pool: Pool, session: str) -> None:
    """End one session; nothing happens where there is none."""
    await pool.execute("DELETE FROM staff_sessions WHERE session_hash = $1", _hash(session))


async def end_all(pool: Pool, whose: SignedOut) -> None:
    """End the sessions that the provider says are over."""
    await pool.execute(
        """
        DELETE FROM staff_sessions
         WHERE ($1::text IS NULL OR subject = $1)
           AND ($2::text IS NULL OR provider_session = $2)
           AND ($1::text IS NOT NULL OR $2::text IS NOT NULL)
        """,
        whose.subject,
        whose.provider_session,
    )


async def tidy(pool: Pool, *, wall: datetime) -> None:
    """Forget sessions that are over, and sign-ons that nobody ended."""
    await pool.execute(
        "DELETE FROM staff_sessions WHERE began_at <= $1 OR seen_at <= $2",
        wall - LONGEST,
        wall - IDLE,
    )
    await pool.execute("DELETE FROM staff_sign_ons WHERE began_at <= $1", wall - SIGN_ON_LASTS)


def _hash(value: str) -> bytes:
    return sha256(value.encode()).digest()
