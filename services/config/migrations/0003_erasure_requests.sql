-- What purger says of a tenant's purges, and that its customer asks for erasure before its time.

CREATE TABLE purge_states (
    tenant_id uuid PRIMARY KEY,
    state jsonb NOT NULL
);

-- The latest request of a tenant; heard once purger has named it among what stands.
CREATE TABLE erasure_requests (
    tenant_id uuid PRIMARY KEY,
    wish_id uuid NOT NULL,
    asked_at timestamptz NOT NULL,
    heard boolean NOT NULL,
    withdrawn_at timestamptz
);
