"""Texts of a small policy, and what brings them out, for tests."""

from datetime import timedelta

from services.notifier import policies
from services.notifier.domain.people import Language
from services.notifier.domain.policies import NOTICE, Revision
from services.notifier.store import policies as store
from tests.notifier.builders import NOW, Notifier

FIRST = """# What we keep

We keep your **name** and your address for six months.

* Errors of browsers, for 90 days.
* Nothing else.

Ask [our desk](https://desk.vendor.example/ask) or <mailto:privacy@vendor.example>.
"""
SECOND = (
    FIRST.replace("six months", "five months")
    .replace("* Nothing else.\n", "")
    .replace("Ask [our", "Where it lies: San Francisco.\n\nAsk [our")
)
SUMMARY = {
    Language.ENGLISH: "We keep less & for a shorter time.",
    Language.GERMAN: "Wir speichern weniger, und kürzer.",
}
IN_TIME = (NOW + timedelta(days=31)).date()


def wanted(text: str | bytes = FIRST, **others: object) -> policies.Wanted:
    given: dict[str, object] = {
        "text": text.encode() if isinstance(text, str) else text,
        "summary": SUMMARY,
        "effective_on": IN_TIME,
        "early_because": None,
        "drafted_by": "Kim Keeper",
    }
    return policies.Wanted(**(given | others))  # type: ignore[arg-type]


async def draft(notifier: Notifier, text: str | bytes = FIRST, **others: object) -> int:
    async with notifier.units.begin() as uow:
        kept = await policies.draft(uow, wanted(text, **others), notice=NOTICE)
    return kept.draft_id


async def approve(notifier: Notifier, draft_id: int, by: str = "Robin Reader") -> Revision:
    async with notifier.units.begin() as uow:
        return await policies.approve(uow, draft_id, approved_by=by, notice=NOTICE)


async def publish(notifier: Notifier, text: str = FIRST, **others: object) -> Revision:
    return await approve(notifier, await draft(notifier, text, **others))


async def publish_in_force(notifier: Notifier, text: str = FIRST) -> Revision:
    """Publish what is in force from today on."""
    today = notifier.clock.now().date()
    return await publish(notifier, text, effective_on=today, early_because="The law demands it.")


async def kept_revisions(notifier: Notifier) -> list[Revision]:
    async with notifier.runtime.acquire() as connection:
        return await store.revisions(connection)
