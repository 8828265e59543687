"""Usage by tenant for a day, and statistics without any."""

from chassis.migrations import run_sql

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Run the statements of the file beside this one."""
    run_sql(__file__)
