"""People's requests about their own data, and who saw a notice in the app."""

from chassis.migrations import run_sql

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Run the statements of the file beside this one."""
    run_sql(__file__)
