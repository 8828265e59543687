-- Tenants as far as planning needs them, their purges, the ledger and the brake. Times are passed in.

CREATE TABLE tenants (
    tenant_id uuid PRIMARY KEY,
    epoch bigint NOT NULL,
    n bigint NOT NULL,
    state jsonb NOT NULL
);

CREATE TABLE purges (
    purge_id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL,
    scope text NOT NULL CHECK (scope IN ('everything', 'service-data', 'people')),
    clock text NOT NULL,
    clock_started_at timestamptz NOT NULL,
    rule_version integer NOT NULL,
    deadline timestamptz NOT NULL,
    erase_by timestamptz NOT NULL,
    start_at timestamptz NOT NULL,
    phase text NOT NULL
        CHECK (phase IN ('planned', 'requested', 'erasing', 'erased', 'closed', 'withdrawn')),
    changed_at timestamptz NOT NULL,
    asked_at timestamptz,
    ask_again_at timestamptz,
    times_asked integer NOT NULL DEFAULT 0,
    let_through_at timestamptz,
    receipt_code text UNIQUE,
    traceparent text,
    CHECK (start_at <= erase_by AND erase_by <= deadline)
);
CREATE INDEX purges_tenant ON purges (tenant_id);
CREATE INDEX purges_due ON purges (start_at) WHERE phase = 'planned';
CREATE INDEX purges_asked ON purges (ask_again_at) WHERE phase = 'requested';
CREATE INDEX purges_asked_lately ON purges (asked_at) WHERE asked_at IS NOT NULL;
CREATE INDEX purges_late ON purges (erase_by) WHERE phase = 'erasing';
CREATE INDEX purges_over ON purges (changed_at) WHERE phase IN ('closed', 'withdrawn');

CREATE TABLE steps (
    purge_id uuid NOT NULL REFERENCES purges ON DELETE CASCADE,
    step text NOT NULL,
    ledger_number bigint,
    ask_again_at timestamptz,
    times_asked integer NOT NULL DEFAULT 0,
    counts jsonb,
    data_map_hash text,
    erased_at timestamptz,
    PRIMARY KEY (purge_id, step)
);
CREATE INDEX steps_open ON steps (ask_again_at)
    WHERE ledger_number IS NOT NULL AND erased_at IS NULL;

-- The version of what we last said of a tenant's purges.
CREATE TABLE purge_states (
    tenant_id uuid PRIMARY KEY,
    epoch bigint NOT NULL,
    n bigint NOT NULL,
    forgotten_at timestamptz
);

-- The text of each entry is what was hashed. (purge_id, part) lets nothing be recorded twice.
CREATE TABLE ledger (
    number bigint PRIMARY KEY CHECK (number > 0),
    purge_id uuid NOT NULL,
    part text NOT NULL CHECK (part IN ('wave-1', 'wave-2', 'receipt-erased', 'receipt-closed')),
    receipt_code text,
    entry text NOT NULL,
    UNIQUE (purge_id, part)
);
CREATE INDEX ledger_receipts ON ledger (receipt_code) WHERE receipt_code IS NOT NULL;

CREATE FUNCTION ledger_is_never_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the ledger is never changed, only continued' USING ERRCODE = 'restrict_violation';
END $$;

CREATE TRIGGER ledger_is_never_changed BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_never_changed();

-- Whoever appends holds this row until the commit, so numbers have no gaps and the chain no forks.
CREATE TABLE ledger_head (
    id boolean PRIMARY KEY DEFAULT true CHECK (id),
    number bigint NOT NULL,
    hash text NOT NULL
);
INSERT INTO ledger_head (number, hash) VALUES (0, repeat('0', 64));

CREATE TABLE ledger_publication (
    id boolean PRIMARY KEY DEFAULT true CHECK (id),
    cluster_id text NOT NULL,
    number bigint NOT NULL,
    hash text NOT NULL,
    head_said_at timestamptz
);
INSERT INTO ledger_publication (cluster_id, number, hash) VALUES ('', 0, repeat('0', 64));

CREATE TABLE brake (
    id boolean PRIMARY KEY DEFAULT true CHECK (id),
    engaged_at timestamptz,
    reason text,
    swept_at timestamptz,
    swept_wall_at timestamptz
);
INSERT INTO brake DEFAULT VALUES;

CREATE TABLE brake_releases (
    engaged_at timestamptz NOT NULL,
    person text NOT NULL,
    name text NOT NULL,
    released_at timestamptz NOT NULL,
    PRIMARY KEY (engaged_at, person)
);
