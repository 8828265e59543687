-- People's requests about their own data, what they had corrected, and who saw a notice in the app.

CREATE TABLE person_requests (
    request_id uuid PRIMARY KEY,
    address_index bytea NOT NULL,
    kind text NOT NULL CHECK (kind IN ('access', 'correction', 'erasure', 'objection')),
    received_at timestamptz NOT NULL,
    due_on date NOT NULL,
    by_staff boolean NOT NULL,
    answered_at timestamptz,
    answered_by text CHECK (answered_by IN ('person', 'privacy', 'support')),
    fetched text[] NOT NULL DEFAULT '{}',
    CHECK ((answered_at IS NULL) = (answered_by IS NULL))
);
CREATE INDEX person_requests_address ON person_requests (address_index);
CREATE INDEX person_requests_received ON person_requests (received_at);

ALTER TABLE contacts ADD COLUMN corrected boolean NOT NULL DEFAULT false;
ALTER TABLE audience ADD COLUMN language_chosen boolean NOT NULL DEFAULT false;

CREATE TABLE policy_sights (
    tenant_id uuid NOT NULL,
    number integer NOT NULL REFERENCES policy_revisions,
    seen_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, number)
);
CREATE INDEX policy_sights_revision ON policy_sights (number);
