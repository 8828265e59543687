"""What people were told about their tenant's life."""

from chassis.migrations import run_sql

revision = "0008"
down_revision = "0004"


def upgrade() -> None:
    """Run the statements of the file beside this one."""
    run_sql(__file__)
