"""Sessions of staff: begun at an identity provider, and kept by a hash of what the browser holds."""

from chassis.migrations import run_sql

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Run the statements of the file beside this one."""
    run_sql(__file__)
