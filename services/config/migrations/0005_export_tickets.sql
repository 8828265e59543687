-- By which a browser may fetch an export: once, within a minute. Kept as keyed hashes.

CREATE TABLE export_tickets (
    tenant_id uuid NOT NULL,
    ticket bytea NOT NULL,
    ends_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, ticket)
);
CREATE INDEX export_tickets_by_end ON export_tickets (ends_at);

-- The row of nobody.
INSERT INTO export_tickets VALUES ('00000000-0000-0000-0000-000000000000', 'planted', '9999-01-01Z');

ALTER TABLE export_tickets ENABLE ROW LEVEL SECURITY;
ALTER TABLE export_tickets FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON export_tickets TO config_runtime
    USING (tenant_id = NULLIF(current_setting('app.tenant', true), '')::uuid);
CREATE POLICY eraser_sees_all ON export_tickets FOR SELECT TO config_eraser USING (true);
CREATE POLICY eraser_erases_all ON export_tickets FOR DELETE TO config_eraser USING (true);
-- Tickets of all tenants that nobody used are forgotten with the idempotency keys.
CREATE POLICY worker_sees_all ON export_tickets FOR SELECT TO config_worker USING (true);
CREATE POLICY worker_forgets ON export_tickets FOR DELETE TO config_worker USING (true);
