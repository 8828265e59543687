"""The brake in the hands of people: one may pull it, two release it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from chassis.database import Connection
from services.purger.domain.brake import PULLED, RELEASED_BY, same_person
from services.purger.store import brake as store
from services.purger.store.brake import Brake, Pull


@dataclass(frozen=True, slots=True)
class Standing:
    """The brake as people see it: who pulled it, if anybody did, and who wants it released."""

    brake: Brake
    pull: Pull | None
    releases: Sequence[tuple[str, datetime]]

    @property
    def engaged(self) -> bool:
        """Whether no purge may start."""
        return self.brake.engaged_at is not None


async def standing(connection: Connection) -> Standing:
    """Read the brake with what people said about it."""
    brake = await store.read_brake(connection)
    if brake.engaged_at is None:
        return Standing(brake, None, ())
    return Standing(
        brake,
        await store.pull_of(connection, engaged_at=brake.engaged_at),
        await store.releases(connection, engaged_at=brake.engaged_at),
    )


async def pull(connection: Connection, *, name: str, reason: str | None, now: datetime) -> None:
    """Hold purges back on one person's word, from the commit on.

    Where they are held already the holding begins anew: whoever wanted it
    released before did not know of this.
    """
    before = await store.lock_brake(connection)
    if before.engaged_at is not None and before.engaged_at >= now:
        # Two at the same moment are one holding; what names it has to move on.
        now = before.engaged_at + datetime.resolution
    await store.engage_brake(connection, PULLED, now=now)
    await store.note_pull(connection, Pull(now, name.strip(), reason))


async def release(connection: Connection, *, name: str, now: datetime) -> Standing | None:
    """Record that a person wants purges let through; the second one lets them through.

    The same person twice is one person. None where nothing is held; else how it
    stands, not engaged any more once two have signed.
    """
    brake = await store.lock_brake(connection)
    if brake.engaged_at is None:
        return None
    await store.sign_release(
        connection,
        engaged_at=brake.engaged_at,
        person=same_person(name),
        name=name.strip(),
        now=now,
    )
    signed = await standing(connection)
    if len(signed.releases) < RELEASED_BY:
        return signed
    await store.release_brake(connection, now=now)
    return Standing(await store.read_brake(connection), None, signed.releases)
