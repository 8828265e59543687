"""Error reports of browsers: their groups, counts and first events."""

from chassis.migrations import run_sql

revision = "0010"
down_revision = "0003"


def upgrade() -> None:
    """Run the statements of the file beside this one."""
    run_sql(__file__)
