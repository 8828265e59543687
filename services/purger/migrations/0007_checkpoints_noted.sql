-- Up to which entry checkpoints were left in the file, so that a file that is gone or was cut off is missed.

ALTER TABLE ledger_check ADD COLUMN checkpoint_number bigint NOT NULL DEFAULT 0;
