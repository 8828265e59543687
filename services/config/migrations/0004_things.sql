-- All that customers create lies in one table: its kinds differ in their body alone.

CREATE TABLE things (
    tenant_id uuid NOT NULL,
    thing_id uuid NOT NULL,
    kind text NOT NULL,
    name text NOT NULL,
    tags text[] NOT NULL,
    body jsonb NOT NULL,
    credentials bytea,
    -- Among those of its kind, with room between neighbours.
    position bigint NOT NULL,
    version integer NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, thing_id),
    UNIQUE (tenant_id, kind, name)
);
CREATE INDEX things_in_order ON things (tenant_id, kind, position, thing_id);

-- Which thing refers to which: one that is referred to cannot be removed.
CREATE TABLE thing_references (
    tenant_id uuid NOT NULL,
    thing_id uuid NOT NULL,
    field text NOT NULL,
    target_id uuid NOT NULL,
    PRIMARY KEY (tenant_id, thing_id, field),
    FOREIGN KEY (tenant_id, thing_id) REFERENCES things ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, target_id) REFERENCES things
);
CREATE INDEX thing_references_to ON thing_references (tenant_id, target_id);

-- What each thing was before it was changed, without what is sealed.
CREATE TABLE thing_versions (
    tenant_id uuid NOT NULL,
    thing_id uuid NOT NULL,
    version integer NOT NULL,
    name text NOT NULL,
    tags text[] NOT NULL,
    body jsonb NOT NULL,
    made_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, thing_id, version),
    FOREIGN KEY (tenant_id, thing_id) REFERENCES things ON DELETE CASCADE
);

-- How many things there are, so that nobody has to count them.
CREATE TABLE tenant_totals (
    tenant_id uuid PRIMARY KEY,
    things integer NOT NULL,
    changed_at timestamptz NOT NULL
);

-- What was created under which key, as keyed hashes, so that a repeat creates nothing.
CREATE TABLE idempotency_keys (
    tenant_id uuid NOT NULL,
    key bytea NOT NULL,
    fingerprint bytea NOT NULL,
    thing_id uuid NOT NULL,
    made_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, key)
);
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (made_at);

ALTER TABLE datasources NO FORCE ROW LEVEL SECURITY;
INSERT INTO things (tenant_id, thing_id, kind, name, tags, body, credentials, position, version,
                    created_at, updated_at)
SELECT tenant_id, datasource_id, 'datasource', name, '{}',
       jsonb_build_object('kind', kind, 'url', url, 'options', options, 'username', username),
       credentials, 4294967296 * row_number() OVER (PARTITION BY tenant_id ORDER BY datasource_id),
       version, created_at, updated_at
  FROM datasources;
INSERT INTO tenant_totals (tenant_id, things, changed_at)
SELECT tenant_id, count(*), max(created_at) FROM things GROUP BY tenant_id;
DROP TABLE datasources;

-- The row of nobody: whoever verifies an erasure must be able to see it, or may be blind to others.
INSERT INTO thing_references
VALUES ('00000000-0000-0000-0000-000000000000', '00000000-0000-0000-0000-000000000000', 'planted',
        '00000000-0000-0000-0000-000000000000');
INSERT INTO thing_versions
VALUES ('00000000-0000-0000-0000-000000000000', '00000000-0000-0000-0000-000000000000', 0, 'planted',
        '{}', '{}', '1970-01-01Z');
INSERT INTO idempotency_keys
VALUES ('00000000-0000-0000-0000-000000000000', 'planted', 'planted',
        '00000000-0000-0000-0000-000000000000', '9999-01-01Z');

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['things', 'thing_references', 'thing_versions', 'tenant_totals',
                                'idempotency_keys']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format($policy$CREATE POLICY own_tenant ON %I TO config_runtime
            USING (tenant_id = NULLIF(current_setting('app.tenant', true), '')::uuid)$policy$, name);
        EXECUTE format('CREATE POLICY eraser_sees_all ON %I FOR SELECT TO config_eraser USING (true)', name);
        EXECUTE format('CREATE POLICY eraser_erases_all ON %I FOR DELETE TO config_eraser USING (true)', name);
    END LOOP;
END $$;

-- Keys of all tenants end with their day.
CREATE POLICY worker_sees_all ON idempotency_keys FOR SELECT TO config_worker USING (true);
CREATE POLICY worker_forgets ON idempotency_keys FOR DELETE TO config_worker USING (true);
