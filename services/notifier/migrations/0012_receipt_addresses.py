"""Whom an administrator named to get receipts."""

from chassis.migrations import run_sql

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Run the statements of the file beside this one."""
    run_sql(__file__)
