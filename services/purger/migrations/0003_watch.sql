-- What the watch over purges has noted: warnings, forecasts, who pulled the brake.

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
