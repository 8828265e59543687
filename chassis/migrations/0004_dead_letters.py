"""What becomes of a dead letter: parked, edited, tried again, put aside, and by whom."""

from chassis.migrations import run_sql

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Run the statements of the file beside this one."""
    run_sql(__file__)
