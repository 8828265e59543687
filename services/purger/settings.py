"""What purger reads from its environment, refused where it cannot keep the promise."""

from datetime import timedelta
from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, model_validator

from chassis.settings import PREFIX, ServiceSettings
from services.purger.domain import Retention


class PurgerSettings(ServiceSettings):
    """How the six months are divided, and where the key is that signs the ledger.

    ``backup_retention_days`` is the longest for which any service's backups are
    kept; the residue has to cover it.
    """

    service: ClassVar[str] = "purger"

    ledger_key_file: Path
    checkpoint_file: Path | None = None
    grace_days: int = Field(default=30, ge=0)
    residue_days: int = Field(default=14, ge=0)
    run_margin_days: int = Field(default=14, ge=0)
    backup_retention_days: int = Field(default=14, ge=0)
    sweep_seconds: int = Field(default=5, ge=1)
    ask_again_seconds: int = Field(default=60, ge=1)

    @property
    def retention(self) -> Retention:
        """The same as durations."""
        return Retention(
            grace=timedelta(days=self.grace_days),
            residue=timedelta(days=self.residue_days),
            run_margin=timedelta(days=self.run_margin_days),
        )

    @model_validator(mode="after")
    def _keeps_the_promise(self) -> Self:
        complaints = self.retention.complaints(
            backups_kept=timedelta(days=self.backup_retention_days)
        )
        if complaints:
            raise ValueError(
                f"{PREFIX}GRACE_DAYS, {PREFIX}RESIDUE_DAYS, {PREFIX}RUN_MARGIN_DAYS:"
                f" with these nothing is sure to be gone in six months: {'; '.join(complaints)}"
            )
        return self
