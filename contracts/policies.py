"""The revisions of the vendor's privacy policy, as notifier tells of them."""

from typing import Annotated

from pydantic import Field

from contracts.classes import FieldClass
from contracts.messages import Instant, Message, Sha256
from contracts.tenants import Version


class PolicyState(Message):
    """One published revision of the policy; it never changes, and the next one has its own key.

    ``text_hash`` is of the text's UTF-8. Of two revisions that are in force by their dates, the
    higher number is.
    """

    number: Annotated[int, Field(ge=1, le=2**31 - 1), FieldClass.PROCESS]
    version: Version
    published_at: Instant
    effective_at: Instant
    text_hash: Sha256
