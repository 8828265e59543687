-- By which licence numbers a tenant's support tickets are found, and the erasures that reach them.

CREATE TABLE licences (
    tenant_id uuid PRIMARY KEY,
    numbers text[] NOT NULL
);
CREATE INDEX licences_numbers ON licences USING gin (numbers);

CREATE TABLE tickets (
    tenant_id uuid NOT NULL,
    ticket_id text NOT NULL,
    PRIMARY KEY (tenant_id, ticket_id)
);

CREATE TABLE ticket_erasures (
    purge_id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL,
    state text NOT NULL CHECK (state IN ('open', 'by-hand', 'done')),
    opened_at timestamptz NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL,
    claim_token uuid,
    claimed_until timestamptz,
    trouble text,
    tickets_left integer NOT NULL DEFAULT 0,
    done_at timestamptz,
    done_by text,
    evidence text,
    CHECK ((state = 'done') = (done_at IS NOT NULL)),
    CHECK ((done_by IS NULL) = (evidence IS NULL))
);
CREATE INDEX ticket_erasures_open ON ticket_erasures (next_attempt_at) WHERE state = 'open';
CREATE INDEX ticket_erasures_age ON ticket_erasures (done_at) WHERE state = 'done';

-- Licence numbers were heard and not kept until now: all states are read once more.
DELETE FROM followed_states WHERE topic = 'installer.tenants.v1';
DELETE FROM positions WHERE topic = 'installer.tenants.v1';
