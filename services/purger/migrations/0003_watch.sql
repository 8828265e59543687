-- What the watch over purges has noted: warnings, forecasts, who pulled the brake, what was verified.

CREATE INDEX purges_unfinished ON purges (erase_by) WHERE phase NOT IN ('closed', 'withdrawn');

-- Each warning once for each purge.
CREATE TABLE escalations (
    purge_id uuid NOT NULL REFERENCES purges ON DELETE CASCADE,
    level text NOT NULL,
    noted_at timestamptz NOT NULL,
    PRIMARY KEY (purge_id, level)
);

-- Made a week ahead and then left alone: the brake compares the day with it.
CREATE TABLE forecasts (
    day date PRIMARY KEY,
    tenants bigint NOT NULL,
    made_at timestamptz NOT NULL
);

CREATE TABLE brake_pulls (
    engaged_at timestamptz PRIMARY KEY,
    name text NOT NULL,
    reason text
);

-- Up to which entry the ledger was verified, and when it was last walked from its beginning.
CREATE TABLE ledger_check (
    id boolean PRIMARY KEY DEFAULT true CHECK (id),
    number bigint NOT NULL,
    hash text NOT NULL,
    walked_at timestamptz
);
INSERT INTO ledger_check (number, hash) VALUES (0, repeat('0', 64));
