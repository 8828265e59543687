"""When a message came back that a mail server had taken."""

from chassis.migrations import run_sql

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Run the statements of the file beside this one."""
    run_sql(__file__)
