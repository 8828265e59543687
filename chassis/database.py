"""Opens pools of connections to a service's own PostgreSQL database."""

import asyncio
import json
from typing import TypeAlias

import asyncpg
import structlog
from asyncpg.pool import PoolConnectionProxy

log = structlog.get_logger(__name__)

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

# An open writing transaction holds back every relay of the server (reference: PostgreSQL's
# pg_snapshot_xmin), so none may stay open for long. Milliseconds.
_LIMITS = {
    "timezone": "UTC",
    "idle_in_transaction_session_timeout": "30000",
    "transaction_timeout": "120000",
    "lock_timeout": "20000",
}

# What PostgreSQL and the network do when the database is away, going or coming back, or when two
# transactions met: the same work is tried again, nobody's message is to blame.
TRANSIENT_ERRORS: tuple[type[BaseException], ...] = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.TransactionRollbackError,
    asyncpg.LockNotAvailableError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    ConnectionError,
    TimeoutError,
    OSError,
)


# What a server says to whom it will never let in: neither waiting nor another try mends it.
REFUSALS: tuple[type[BaseException], ...] = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
)

_LONGEST_PAUSE_SECONDS = 5.0


async def prepare_connection(connection: Connection) -> None:
    """Teach a new connection to give and take JSON as Python values."""
    for name in ("json", "jsonb"):
        await connection.set_type_codec(
            name, encoder=json.dumps, decoder=json.loads, schema="pg_catalog"
        )


async def connect(url: str, *, name: str) -> "asyncpg.Connection[asyncpg.Record]":
    """Open one connection of its own, for what must not share (a leader's lock)."""
    connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(
        url, server_settings={**_LIMITS, "application_name": name}
    )
    await prepare_connection(connection)
    return connection


async def _leave_as_it_is(_: Connection) -> None:
    """Reset nothing: all that our transactions set ends with them, and a reset is a round trip."""


async def open_pool(url: str, *, name: str, max_size: int = 10) -> Pool:
    """Open a pool whose sessions speak UTC and JSON and leave no transaction open.

    Raises what asyncpg raises when the database is away or refuses the role.
    """
    return await asyncpg.create_pool(
        url,
        min_size=1,
        max_size=max_size,
        init=prepare_connection,
        reset=_leave_as_it_is,
        server_settings={**_LIMITS, "application_name": name},
        command_timeout=60,
    )


async def open_pool_patiently(
    url: str, *, name: str, max_size: int = 10, pause_seconds: float = 0.5
) -> Pool:
    """Open a pool as soon as the database answers, and say while it does not, ever less often.

    A wrong password or a missing database is not waited out: it raises one of ``REFUSALS`` at once.
    """
    while True:
        try:
            return await open_pool(url, name=name, max_size=max_size)
        except (asyncpg.CannotConnectNowError, ConnectionError, OSError, TimeoutError) as error:
            log.warning("database away, waiting for it", pool=name, error=type(error).__name__)
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, _LONGEST_PAUSE_SECONDS)
