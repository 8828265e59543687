"""Who opens an app's page: the tenant whose site signed the request."""

import time
from collections.abc import Awaitable, Callable
from typing import Final

from chassis.database import TRANSIENT_ERRORS
from chassis.unit_of_work import Units
from connect.calls import Refused, VerifiedCall
from connect.signed_requests import SignedRequests
from contracts.tenants import DepartureKind
from services.installer.callers import Caller, Callers, PastReturn, find_caller, note_life
from services.installer.domain.visits import Refusal, refusal_of
from services.installer.door import Door, Overtaken

Proof = Callable[[SignedRequests], Awaitable[VerifiedCall]]
"""Shows a request to the gate, in one of the gate's two ways; raises ``Refused``."""

_NOT_NOW: Final[tuple[type[BaseException], ...]] = (Overtaken, *TRANSIENT_ERRORS)


class NoSession(Exception):  # noqa: N818 - names what is so
    """This visitor gets none; ``refusal`` says why."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.value)
        self.refusal = refusal


async def admit(units: Units[Door], addon_key: str, prove: Proof) -> Caller:
    """Give the tenant that a request is proven to come from, and that may have a session.

    What is proven is a sign of life, and brings back a tenant that was lost.
    Of one that is purging no key is touched: whoever names it is told so.

    Raises:
        NoSession: the request proves nothing, or the tenant gets no session.
    """
    try:
        caller = await _proven(units, addon_key, prove)
    except PastReturn:
        raise NoSession(Refusal.GONE) from None
    except Refused:
        raise NoSession(Refusal.UNPROVEN) from None
    except _NOT_NOW:
        raise NoSession(Refusal.NOT_NOW) from None
    refusal = refusal_of(caller.status, caller.platform)
    if refusal is not None:
        raise NoSession(refusal)
    return caller


async def _proven(units: Units[Door], addon_key: str, prove: Proof) -> Caller:
    callers = Callers(units, addon_key)
    # Tokens are Atlassian's, so their times are of the real world, whatever business time is.
    call = await prove(SignedRequests(callers.secrets, now=time.time))
    caller = callers.found
    assert caller is not None
    await note_life(units, caller)
    if caller.departed_how is DepartureKind.ACCESS_LOST:
        return await find_caller(units, addon_key, call.client_key) or caller
    return caller
