-- Who stands beside which licence by the Marketplace's report, and what orders suppressions as state.

CREATE TABLE licence_reports (
    report_id uuid PRIMARY KEY,
    began_at timestamptz NOT NULL,
    began_wall_at timestamptz NOT NULL,
    updated_since date,
    claimed_until timestamptz NOT NULL,
    rows_read integer NOT NULL DEFAULT 0,
    rows_unreadable integer NOT NULL DEFAULT 0,
    ended_at timestamptz
);

CREATE TABLE licence_contacts (
    tenant_id uuid NOT NULL,
    number text NOT NULL,
    role text NOT NULL CHECK (role IN ('technical', 'billing', 'partner')),
    contact_id uuid NOT NULL,
    report_id uuid NOT NULL,
    PRIMARY KEY (tenant_id, number, role, contact_id)
);
CREATE INDEX licence_contacts_contact ON licence_contacts (tenant_id, contact_id);

ALTER TABLE tenants
    ADD COLUMN reported_in uuid,
    ADD COLUMN licences_changed_at timestamptz;

CREATE SEQUENCE suppression_versions AS bigint;

-- State of no tenant lies in the outbox by its key alone, and only this service has any.
CREATE INDEX outbox_key ON outbox (record_key) WHERE tenant_id IS NULL;
