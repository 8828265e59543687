-- Tenants, their installations, and the purges that were accepted.

-- What everybody may know of a tenant; its row's lock is the lock of its state.
CREATE TABLE tenants (
    tenant_id uuid PRIMARY KEY,
    version_epoch bigint NOT NULL,
    version_n bigint NOT NULL,
    status text NOT NULL CHECK (status IN ('installed', 'uninstalled', 'purging', 'purged')),
    classes jsonb NOT NULL,
    platform text NOT NULL,
    addon_key text NOT NULL,
    product_type text NOT NULL,
    created_at timestamptz NOT NULL,
    departed_at timestamptz,
    departed_how text,
    subscription_status text NOT NULL,
    subscription_ended_at timestamptz,
    licence_numbers text[] NOT NULL,
    purge_id uuid,
    CHECK ((departed_at IS NULL) = (departed_how IS NULL))
);

-- What only the installer knows. A tenant has one until it is erased.
CREATE TABLE installations (
    tenant_id uuid PRIMARY KEY REFERENCES tenants ON DELETE CASCADE,
    -- Until its tenant is purging. Nobody is found by a name that is not live any more.
    live boolean NOT NULL,
    addon_key text NOT NULL,
    product_type text NOT NULL,
    client_key text NOT NULL,
    base_url text NOT NULL,
    service_entitlement_number text,
    shared_secret bytea NOT NULL,
    oauth_client_id text
);
CREATE UNIQUE INDEX installations_name ON installations (addon_key, client_key) WHERE live;
CREATE INDEX installations_site ON installations (addon_key, base_url) WHERE live;

-- Purges past the point of no return, by which receipts find their tenant.
CREATE TABLE accepted_purges (
    purge_id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    classes text[] NOT NULL,
    accepted_at timestamptz NOT NULL
);
CREATE INDEX accepted_purges_tenant ON accepted_purges (tenant_id);
