"""Wishes for an early erasure, legal holds, purges that take a part of their scope."""

from chassis.migrations import run_sql

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Run the statements of the file beside this one."""
    run_sql(__file__)
