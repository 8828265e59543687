"""What the board says of one purge: nothing that was not answered counts as done."""

import pytest

from contracts.purges import Phase
from services.purger.board import shown
from services.purger.domain.dates import Retention
from services.purger.domain.plans import plan_purges
from services.purger.domain.watch import Level
from services.purger.store.board import OpenPurge
from tests.purger.builders import DAY, LEFT_AT, a_tenant


@pytest.mark.parametrize(
    ("phase", "open_steps", "done"),
    [
        (Phase.PLANNED, [], 0),
        (Phase.REQUESTED, [], 0),
        (Phase.ERASING, ["erase-config"], 3),
        (Phase.CLOSED, [], 4),
        (Phase.WITHDRAWN, [], 0),
    ],
)
def test_steps_are_done_when_they_are_answered(
    phase: Phase, open_steps: list[str], done: int
) -> None:
    tenant = a_tenant(left_at=LEFT_AT)
    (plan,) = plan_purges(tenant, Retention())
    purge = OpenPurge(tenant.tenant_id, plan.model_copy(update={"phase": phase}), open_steps, None)

    told = shown(purge, now=plan.erase_by - 6 * DAY)

    assert (told.steps_done, told.steps) == (done, 4)
    over = phase in {Phase.CLOSED, Phase.WITHDRAWN}
    assert told.level is (None if over else Level.SEVEN_DAYS)
