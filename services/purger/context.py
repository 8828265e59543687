"""What purger's handlers and jobs need besides a transaction."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias

from chassis.unit_of_work import UnitOfWork
from services.purger.domain.dates import Retention
from services.purger.ledger_key import LedgerKey


@dataclass(frozen=True, slots=True)
class Context:
    """The settings of the promise, and the key of the ledger, which may change at any time.

    ``silence`` is how long an answer may take before we ask again.
    """

    retention: Retention
    ledger_key: Callable[[], LedgerKey]
    silence: timedelta


Work: TypeAlias = UnitOfWork[Context]
