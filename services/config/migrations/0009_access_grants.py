"""Grants under which staff look at what a customer keeps, their reasons, and each look."""

from chassis.migrations import run_sql

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Run the statements of the file beside this one."""
    run_sql(__file__)
