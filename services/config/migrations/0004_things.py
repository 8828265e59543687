"""Queries, converters and templates beside datasources, with what they have in common."""

from chassis.migrations import run_sql

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Run the statements of the file beside this one."""
    run_sql(__file__)
