"""Who must not be written to, as keyed hashes that only their owner can compare with an address."""

from typing import Annotated

from pydantic import Field

from contracts.messages import Instant, Message, Sha256, Word
from contracts.tenants import Version


class Suppression(Message):
    """Why messages of this scope are kept back, and since when."""

    scope: Word
    reason: Word
    since: Instant


class SuppressionState(Message):
    """All that stands against writing to one address; a tombstone once nothing does.

    ``recipient_index`` is a hash under a key of the owner's. Nobody else can tell
    whose address it is, nor try addresses out.
    """

    recipient_index: Sha256
    version: Version
    suppressions: Annotated[tuple[Suppression, ...], Field(min_length=1)]
