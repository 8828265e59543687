"""News of products, and who did what with a campaign."""

from chassis.migrations import run_sql

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Run the statements of the file beside this one."""
    run_sql(__file__)
