"""How mail is claimed in chunks, and how fast it goes to each domain."""

from chassis.migrations import run_sql

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Run the statements of the file beside this one."""
    run_sql(__file__)
