"""News of products, as notifier says that it is being sent."""

from contracts.messages import Instant, Message, Pseudonym, Word
from contracts.tenants import AddonKey


class ProductUpdateAnnounced(Message):
    """News that is sent to people from now on; it names nobody, and says none of its words.

    ``addon_key`` is of the app whose people are told, None where it is for more than one.
    """

    campaign_id: Pseudonym
    news_kind: Word
    addon_key: AddonKey | None = None
    announced_at: Instant
