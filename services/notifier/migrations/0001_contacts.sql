-- People, sealed and each tenant's hidden from every other; what is mailed to them; and whom we know.

CREATE TABLE tenants (
    tenant_id uuid PRIMARY KEY,
    addon_key text NOT NULL,
    contacts text NOT NULL CHECK (contacts IN ('live', 'purging', 'erased'))
);

CREATE TABLE contacts (
    tenant_id uuid NOT NULL,
    contact_id uuid NOT NULL,
    name bytea NOT NULL,
    address bytea NOT NULL,
    address_index bytea NOT NULL,
    PRIMARY KEY (tenant_id, contact_id),
    UNIQUE (tenant_id, address_index)
);

-- The row of nobody: whoever verifies an erasure must be able to see it, or may be blind to others.
INSERT INTO contacts (tenant_id, contact_id, name, address, address_index)
VALUES ('00000000-0000-0000-0000-000000000000', '00000000-0000-0000-0000-000000000000', '', '', '');

ALTER TABLE contacts ENABLE ROW LEVEL SECURITY;
ALTER TABLE contacts FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON contacts TO notifier_runtime
    USING (tenant_id = NULLIF(current_setting('app.tenant', true), '')::uuid);
CREATE POLICY eraser_sees_all ON contacts FOR SELECT TO notifier_eraser USING (true);
CREATE POLICY eraser_erases_all ON contacts FOR DELETE TO notifier_eraser USING (true);

CREATE TABLE deliveries (
    delivery_id uuid PRIMARY KEY,
    purge_id uuid NOT NULL,
    tenant_id uuid NOT NULL,
    contact_id uuid NOT NULL,
    kind text NOT NULL CHECK (kind IN ('receipt')),
    state text NOT NULL CHECK (state IN ('planned', 'sending', 'sent', 'uncertain', 'failed')),
    attempts integer NOT NULL DEFAULT 0,
    doubts integer NOT NULL DEFAULT 0,
    claim_token uuid,
    claimed_until timestamptz,
    next_attempt_at timestamptz NOT NULL,
    message_id text NOT NULL,
    status_code integer,
    planned_at timestamptz NOT NULL,
    accepted_at timestamptz,
    UNIQUE (purge_id, contact_id, kind),
    FOREIGN KEY (tenant_id, contact_id) REFERENCES contacts
);
CREATE INDEX deliveries_open ON deliveries (next_attempt_at)
    WHERE state IN ('planned', 'sending', 'uncertain');
CREATE INDEX deliveries_contact ON deliveries (tenant_id, contact_id);

CREATE TABLE receipts (
    purge_id uuid PRIMARY KEY,
    receipt_code text NOT NULL,
    steps jsonb NOT NULL,
    noted_at timestamptz NOT NULL
);
CREATE INDEX receipts_age ON receipts (noted_at);
