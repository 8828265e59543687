-- When a tenant's export was fetched: in the app, or by the link in the reminder of a purge.

CREATE TABLE export_uses (
    tenant_id uuid NOT NULL,
    use_id uuid NOT NULL,
    used_at timestamptz NOT NULL,
    purge_id uuid,
    PRIMARY KEY (tenant_id, use_id)
);
CREATE INDEX export_uses_by_age ON export_uses (used_at);

-- The row of nobody.
INSERT INTO export_uses
VALUES ('00000000-0000-0000-0000-000000000000', '00000000-0000-0000-0000-000000000000', '9999-01-01Z');

ALTER TABLE export_uses ENABLE ROW LEVEL SECURITY;
ALTER TABLE export_uses FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON export_uses TO config_runtime
    USING (tenant_id = NULLIF(current_setting('app.tenant', true), '')::uuid);
CREATE POLICY eraser_sees_all ON export_uses FOR SELECT TO config_eraser USING (true);
CREATE POLICY eraser_erases_all ON export_uses FOR DELETE TO config_eraser USING (true);
-- Those of all tenants that are a year old are forgotten with the tickets.
CREATE POLICY worker_sees_all ON export_uses FOR SELECT TO config_worker USING (true);
CREATE POLICY worker_forgets ON export_uses FOR DELETE TO config_worker USING (true);
