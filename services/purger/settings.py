"""What purger reads from its environment, refused where it cannot keep the promise."""

from datetime import timedelta
from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, model_validator

from chassis.settings import PREFIX, ServiceSettings
from services.purger.domain.dates import Retention


class PurgerSettings(ServiceSettings):
    """How the six months are divided, and where the key is that signs the ledger.

    The residue has to cover the longest for which backups, logs, traces and the mail queue of
    any service remember; each says so with a setting of its own.
    """

    service: ClassVar[str] = "purger"

    ledger_key_file: Path
    checkpoint_file: Path | None = None
    grace_days: int = Field(default=30, ge=0)
    residue_days: int = Field(default=14, ge=0)
    run_margin_days: int = Field(default=14, ge=0)
    backup_retention_days: int = Field(default=14, ge=0)
    log_retention_days: int = Field(default=14, ge=0)
    trace_retention_days: int = Field(default=14, ge=0)
    mail_queue_days: int = Field(default=5, ge=0)
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

    @property
    def copies_kept(self) -> dict[str, timedelta]:
        """How long each kind of store outside the databases remembers."""
        return {
            "backups": timedelta(days=self.backup_retention_days),
            "logs": timedelta(days=self.log_retention_days),
            "traces": timedelta(days=self.trace_retention_days),
            "the mail queue": timedelta(days=self.mail_queue_days),
        }

    @model_validator(mode="after")
    def _keeps_the_promise(self) -> Self:
        complaints = self.retention.complaints(copies_kept=self.copies_kept)
        if complaints:
            raise ValueError(
                f"{PREFIX}GRACE_DAYS, {PREFIX}RESIDUE_DAYS, {PREFIX}RUN_MARGIN_DAYS:"
                f" with these nothing is sure to be gone in six months: {'; '.join(complaints)}"
            )
        return self
