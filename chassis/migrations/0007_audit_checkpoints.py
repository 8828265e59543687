"""Checkpoints of the audit: a month goes once its end is signed."""

from chassis.migrations import run_sql

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Run the statements of the file beside this one."""
    run_sql(__file__)
