-- What a database has to know of its own restores.

ALTER TABLE relay_epochs
    -- Whether it began with the restore of an older copy.
    ADD COLUMN restored boolean NOT NULL DEFAULT false,
    -- When it was last in use: the age of a copy.
    ADD COLUMN alive_at timestamptz;

-- When the restore began that brought back what is erased here.
ALTER TABLE erasures ADD COLUMN restored_at timestamptz;
