"""Kills a service exactly in one of its commits, which PostgreSQL holds meanwhile; then it stands or is lost.

Triggers that are made here hold a commit as long as somebody else has a lock; nothing of ours knows.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from uuid import UUID

import asyncpg

from devstack.stack import LocalStack

HELD_WITHIN_SECONDS = 60.0
LOOK_EVERY_SECONDS = 0.05

# Both names of a lock are hashes, so that there is one for each commit of each tenant. The key space
# of two numbers is not the one in which services lock tenants.
_FUNCTIONS = """
    CREATE FUNCTION hold(commit text, whose text) RETURNS void LANGUAGE sql AS $$
        SELECT pg_advisory_xact_lock_shared(hashtext(commit), hashtext(whose))
    $$;

    CREATE FUNCTION hold_row() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        written jsonb := CASE TG_OP WHEN 'DELETE' THEN to_jsonb(OLD) ELSE to_jsonb(NEW) END;
    BEGIN
        PERFORM hold(TG_ARGV[0], written ->> TG_ARGV[1]);
        RETURN NULL;
    END $$;

    -- The relay notes how far it has come when Kafka has it all.
    CREATE FUNCTION hold_said() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM hold('said ' || split_part(type, '.', 2), tenant_id::text)
           FROM outbox
          WHERE epoch = NEW.epoch AND tenant_id IS NOT NULL
            AND (xid, position) > (OLD.xid, OLD.position)
            AND (xid, position) <= (NEW.xid, NEW.position);
        RETURN NULL;
    END $$;

    CREATE FUNCTION hold_published() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM hold('published ' || part, purge_id::text)
           FROM ledger
          WHERE number > OLD.number AND number <= NEW.number;
        RETURN NULL;
    END $$;
"""


class Fate(Enum):
    """What becomes of the commit in which a service is killed."""

    LOST = "lost"
    STANDS = "stands"


@dataclass(frozen=True)
class Commit:
    """A commit of a service, known by a row of the tenant's that it writes (``INSERT ON table``)."""

    service: str
    name: str
    write: str
    when: str = "true"
    # The column that says whose it is.
    column: str = "tenant_id"
    function: str = "hold_row"

    def __str__(self) -> str:
        """Say which it is."""
        return f"{self.service}: {self.name}"


def said(service: str, message: str) -> Commit:
    """The relay's note that Kafka has a message about the tenant."""
    return Commit(service, f"said {message}", "UPDATE ON relay_cursor", function="hold_said")


def published(part: str) -> Commit:
    """Purger's note that it has said an entry of the ledger."""
    return Commit(
        "purger",
        f"published {part}",
        "UPDATE ON ledger_publication",
        column="purge_id",
        function="hold_published",
    )


class NeverReachedError(AssertionError):
    """The service never came to the commit in which it was to be killed."""


@dataclass(frozen=True)
class Held:
    """A commit that will be held, of one tenant."""

    stack: LocalStack
    connection: "asyncpg.Connection[asyncpg.Record]"
    commit: Commit
    whose: UUID

    async def kill(self, fate: Fate) -> None:
        """Kill the service in the commit, as soon as it comes there, and start it again."""
        waiting = await self._wait()
        self.stack.kill(self.commit.service)
        if fate is Fate.LOST:
            for pid in waiting:
                await self.connection.execute("SELECT pg_terminate_backend($1, 10000)", pid)
        await self.connection.execute("SELECT pg_advisory_unlock_all()")
        # The server notices that nobody is there any more when it has committed.
        while await self.connection.fetchval(
            "SELECT true FROM pg_stat_activity WHERE pid = ANY($1::integer[]) LIMIT 1", waiting
        ):
            await asyncio.sleep(LOOK_EVERY_SECONDS)
        await self.stack.start(self.commit.service)

    async def _wait(self) -> list[int]:
        try:
            async with asyncio.timeout(HELD_WITHIN_SECONDS):
                while True:
                    rows = await self.connection.fetch(
                        """
                        SELECT pid FROM pg_locks
                         WHERE locktype = 'advisory' AND objsubid = 2 AND NOT granted
                           AND classid = hashtext($1)::oid AND objid = hashtext($2)::oid
                        """,
                        self.commit.name,
                        str(self.whose),
                    )
                    if rows:
                        return [row["pid"] for row in rows]
                    await asyncio.sleep(LOOK_EVERY_SECONDS)
        except TimeoutError:
            raise NeverReachedError(f"{self.commit} was never reached") from None


@dataclass(frozen=True)
class Cuts:
    """A stack whose services can be killed in their commits."""

    stack: LocalStack
    superuser_urls: Mapping[str, str]

    async def prepare(self, commits: Collection[Commit]) -> None:
        """Make the triggers; they hold nothing yet."""
        for service, url in self.superuser_urls.items():
            connection = await asyncpg.connect(url)
            try:
                await connection.execute(_FUNCTIONS)
                own = [each for each in commits if each.service == service]
                for number, commit in enumerate(own):
                    await connection.execute(
                        f"""
                        CREATE CONSTRAINT TRIGGER hold_{number} AFTER {commit.write}
                        DEFERRABLE INITIALLY DEFERRED
                        FOR EACH ROW WHEN ({commit.when})
                        EXECUTE FUNCTION {commit.function}('{commit.name}', '{commit.column}')
                        """
                    )
            finally:
                await connection.close()

    @asynccontextmanager
    async def holding(self, commit: Commit, whose: UUID) -> AsyncIterator[Held]:
        """Hold this commit as soon as the service comes there; ``whose`` is tenant or purge."""
        connection = await asyncpg.connect(self.superuser_urls[commit.service])
        try:
            await connection.execute(
                "SELECT pg_advisory_lock(hashtext($1), hashtext($2))", commit.name, str(whose)
            )
            yield Held(self.stack, connection, commit, whose)
        finally:
            await connection.close()
