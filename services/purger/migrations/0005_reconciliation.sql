-- What the comparison of the services with each other found. Times are passed in, and are wall time:
-- two rounds lie hours apart, whatever business time does.

CREATE TABLE differences (
    owner text NOT NULL,
    tenant_id uuid NOT NULL,
    data_class text NOT NULL,
    kind text NOT NULL,
    epoch bigint,
    n bigint,
    first_seen_at timestamptz NOT NULL,
    last_seen_at timestamptz NOT NULL,
    mended_at timestamptz,
    PRIMARY KEY (owner, data_class, tenant_id)
);

CREATE TABLE comparisons (
    owner text PRIMARY KEY,
    census_id uuid NOT NULL,
    open_classes text[] NOT NULL,
    finished_at timestamptz
);

-- Whose data the ledger says is erased; a whole bucket of tenants is asked about at once.
CREATE INDEX ledger_tenants ON ledger ((entry::jsonb ->> 'tenant_id'))
    WHERE part IN ('wave-1', 'wave-2');
