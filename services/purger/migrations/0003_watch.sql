-- What the watch over purges has noted: which warnings were given.

CREATE INDEX purges_unfinished ON purges (erase_by) WHERE phase NOT IN ('closed', 'withdrawn');

-- Each warning once for each purge.
CREATE TABLE escalations (
    purge_id uuid NOT NULL REFERENCES purges ON DELETE CASCADE,
    level text NOT NULL,
    noted_at timestamptz NOT NULL,
    PRIMARY KEY (purge_id, level)
);
