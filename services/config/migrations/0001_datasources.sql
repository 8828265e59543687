-- Content of customers, each tenant's rows hidden from every other; and whom we serve.

CREATE TABLE tenants (
    tenant_id uuid PRIMARY KEY,
    status text NOT NULL CHECK (status IN ('installed', 'uninstalled', 'purging', 'purged')),
    platform text NOT NULL CHECK (platform IN ('connect', 'forge', 'datacenter')),
    content text NOT NULL CHECK (content IN ('live', 'purging', 'erased'))
);

CREATE TABLE datasources (
    tenant_id uuid NOT NULL,
    datasource_id uuid NOT NULL,
    name text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('sql', 'rest')),
    url text NOT NULL,
    options jsonb NOT NULL,
    username text,
    credentials bytea,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    version integer NOT NULL,
    PRIMARY KEY (tenant_id, datasource_id),
    UNIQUE (tenant_id, name)
);

-- The row of nobody: whoever verifies an erasure must be able to see it, or may be blind to others.
INSERT INTO datasources (tenant_id, datasource_id, name, kind, url, options, created_at, updated_at, version)
VALUES ('00000000-0000-0000-0000-000000000000', '00000000-0000-0000-0000-000000000000', 'planted', 'rest',
        'https://nobody.invalid', '{}', '1970-01-01Z', '1970-01-01Z', 1);

ALTER TABLE datasources ENABLE ROW LEVEL SECURITY;
ALTER TABLE datasources FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON datasources TO config_runtime
    USING (tenant_id = NULLIF(current_setting('app.tenant', true), '')::uuid);
CREATE POLICY eraser_sees_all ON datasources FOR SELECT TO config_eraser USING (true);
CREATE POLICY eraser_erases_all ON datasources FOR DELETE TO config_eraser USING (true);
