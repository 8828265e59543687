-- A purge may take a part of its scope (null where it takes all of it), and may be held.

ALTER TABLE purges ADD COLUMN classes text[];
ALTER TABLE purges ADD COLUMN held boolean NOT NULL DEFAULT false;
