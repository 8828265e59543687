"""The audit chain: what members of staff did, entry after entry, each bound to the one before."""

from chassis.migrations import run_sql

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Run the statements of the file beside this one."""
    run_sql(__file__)
