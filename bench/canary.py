"""Counts where a marker is found that was planted in everything of a tenant, once that was purged.

The four services, the broker and the database run as `keepword up` runs them. What was searched is
counted too, and before anything counts the same search has to find what is there.
"""

import asyncio
import sys
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

import httpx2

from bench.figures import Benchmark, Better, Round
from bench.stack import Stack
from contracts.purges import Phase, Plan
from contracts.topics import SERVICES
from devstack.canary import (
    PLANTED_IN,
    PROOF_IN,
    SEALED,
    Canary,
    Found,
    SealedCopies,
    bare_columns,
    compact_now,
    entrust,
    is_compacted,
    plant,
    search,
)
from devstack.journey import Journey
from devstack.postgres import provision
from devstack.stack import LocalStack, start_local_stack

_DESK: Final = "service desk"
_NEIGHBOUR: Final = "neighbour"
_RELEASED_BY: Final = ("Kim Keeper", "Robin Reader")
_PATIENCE_SECONDS: Final = 180.0
# The broker's cleaner looks every 15 seconds, and a tombstone goes when it looks a second time.
_COMPACTED_WITHIN_SECONDS: Final = 240.0
_FAR_AWAY: Final = timedelta(days=365)


class CannotFindError(Exception):
    """The search does not find what is there, so that what it says would mean nothing."""

    def __init__(self, what: str, where: Collection[str]) -> None:
        super().__init__(f"{what} in {', '.join(sorted(where))}")


async def measure(stack: Stack) -> list[Round]:
    """Purge one tenant, search for what was its, and count where it is found before and after.

    Raises:
        CannotFindError: the search misses what was planted, or what has to stay.
    """
    roles = await provision(stack.postgres.superuser_url(), SERVICES, folder=stack.folder)
    async with (
        await start_local_stack(
            stack.folder / "canary", environment=stack.environment(roles)
        ) as running,
        httpx2.AsyncClient() as http,
    ):
        canary = Canary.hatch()
        leaving = Journey(running, http, canary.site, patience_seconds=_PATIENCE_SECONDS)
        await entrust(Journey(running, http, _NEIGHBOUR), _NEIGHBOUR)
        sweep = _Sweep(running, leaving, canary)
        await sweep.plant(stack)
        copies = await SealedCopies.of(running, leaving.tenant_id)
        before = await sweep.control(copies)
        plan = await sweep.purge()
        return [await sweep.result(plan, copies, before)]


@dataclass(frozen=True, slots=True)
class _Sweep:
    """One tenant with a marker in all that is its, and the searches for it."""

    stack: LocalStack
    leaving: Journey
    canary: Canary

    async def plant(self, stack: Stack) -> None:
        """Let the customer come with the marker in its hands; write it where no door leads."""
        await entrust(self.leaving, self.canary.marker)
        # A secret that was replaced lies beside the present one for a while.
        await self.leaving.install()
        urls = {service: stack.postgres.superuser_url(service) for service in self.stack.databases}
        at = self.stack.now() + _FAR_AWAY
        await plant(urls, self.leaving.tenant_id, self.canary, at=at)
        await self.leaving.open_ticket(self.canary.marker, f"Ada {self.canary.marker}")

    async def control(self, copies: SealedCopies) -> Found:
        """Search before the purge: everything that was planted must be found."""
        bare = await bare_columns(self.stack.databases, self.leaving.tenant_id, self.canary)
        if bare:
            raise CannotFindError("nothing was planted", bare)
        found = await search(self.stack, self.canary)
        await self._search_beside(found, copies)
        wanted = {*PLANTED_IN, _DESK, *(f"sealed {name}" for name in SEALED)}
        if missed := wanted - found.places:
            raise CannotFindError("the marker was planted and is not found", missed)
        return found

    async def purge(self) -> Plan:
        """Let the customer leave, and its time pass."""
        await self.leaving.uninstall()
        plan = await self.leaving.wait_for_plan()
        await self.leaving.move_to(plan.start_at)
        await self.leaving.wait_for_brake()
        await self.leaving.release_brake(*_RELEASED_BY)
        await self.leaving.wait_for_phase(Phase.CLOSED)
        await self.leaving.wait_until_gone()
        return plan

    async def result(self, plan: Plan, copies: SealedCopies, before: Found) -> Round:
        """Search again, when what was overwritten is compacted and old keys are destroyed."""
        await self._require_proof(plan.purge_id)
        await compact_now(self.stack)
        async with asyncio.timeout(_COMPACTED_WITHIN_SECONDS):
            while not await is_compacted(self.stack, self.leaving.tenant_id):
                await asyncio.sleep(1)
        await copies.outlive()
        after = await search(self.stack, self.canary)
        await self._search_beside(after, copies)
        searched = ", ".join(f"{count:,} {what}" for what, count in after.searched.items())
        sys.stderr.write(f"canary: searched {searched}\n")
        if after.places:
            sys.stderr.write(f"canary: found in {', '.join(sorted(after.places))}\n")
        return Round(
            ours=float(after.hits.total()),
            peer=float(before.hits.total()),
            samples={what: [float(count)] for what, count in after.searched.items()},
        )

    async def _search_beside(self, found: Found, copies: SealedCopies) -> None:
        """Search what is no table, topic or log: the service desk, and what keys can open."""
        tickets = await self.leaving.tickets_naming(self.canary.marker)
        found.look(self.canary, _DESK, "tickets", (self.canary.marker.encode() for _ in tickets))
        found.searched["sealed values"] += len(SEALED)
        found.hits.update(f"sealed {name}" for name in copies.readable())

    async def _require_proof(self, purge_id: UUID) -> None:
        """What may stay is found by the same search, in logs and topics that never held the marker."""
        proof = await search(self.stack, Canary.of(str(purge_id)))
        if missed := PROOF_IN - proof.places:
            raise CannotFindError("the purge's id must be there and is not found", missed)


BENCHMARK: Final = Benchmark(
    name="canary",
    question="Where is anything of a tenant left, once it has been purged?",
    ours="hits after the purge",
    peer="hits before it",
    unit="",
    goal=0.0,
    better=Better.LOWER,
    measure=measure,
)
