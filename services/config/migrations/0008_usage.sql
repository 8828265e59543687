-- Which services are used how much: by tenant for a day, and then without any.

CREATE TABLE usage_counts (
    tenant_id uuid NOT NULL,
    day date NOT NULL,
    feature text NOT NULL,
    app text NOT NULL,
    size text NOT NULL,
    uses integer NOT NULL,
    PRIMARY KEY (tenant_id, day, feature)
);
CREATE INDEX usage_counts_by_day ON usage_counts (day);

CREATE TABLE usage_batches (
    tenant_id uuid NOT NULL,
    batch_id uuid NOT NULL,
    taken_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, batch_id)
);
CREATE INDEX usage_batches_by_age ON usage_batches (taken_at);

CREATE TABLE usage_days (
    day date NOT NULL,
    app text NOT NULL,
    feature text NOT NULL,
    size text NOT NULL,
    tenants bigint NOT NULL,
    uses bigint NOT NULL,
    PRIMARY KEY (day, app, feature, size)
);

-- The rows of nobody.
INSERT INTO usage_counts
VALUES ('00000000-0000-0000-0000-000000000000', '1970-01-01', 'planted', '', '', 0);
INSERT INTO usage_batches
VALUES ('00000000-0000-0000-0000-000000000000', '00000000-0000-0000-0000-000000000000', '1970-01-01Z');

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['usage_counts', 'usage_batches'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format(
            'CREATE POLICY own_tenant ON %I TO config_runtime
                 USING (tenant_id = NULLIF(current_setting(''app.tenant'', true), '''')::uuid)',
            name);
        EXECUTE format('CREATE POLICY eraser_sees_all ON %I FOR SELECT TO config_eraser USING (true)', name);
        EXECUTE format('CREATE POLICY eraser_erases_all ON %I FOR DELETE TO config_eraser USING (true)', name);
        -- The worker makes days that are over statistics, and forgets whose they were.
        EXECUTE format('CREATE POLICY worker_sees_all ON %I FOR SELECT TO config_worker USING (true)', name);
        EXECUTE format('CREATE POLICY worker_forgets ON %I FOR DELETE TO config_worker USING (true)', name);
    END LOOP;
END $$;
