"""What the comparison of the services with each other found, and how far it has come."""

from chassis.migrations import run_sql

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Run the statements of the file beside this one."""
    run_sql(__file__)
