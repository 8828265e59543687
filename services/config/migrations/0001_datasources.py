"""Datasources and the tenants who keep them."""

from chassis.migrations import run_sql

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Run the statements of the file beside this one."""
    run_sql(__file__)
