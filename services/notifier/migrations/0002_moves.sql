-- Tenants for which another one goes on: their people move there before the rest is erased.

CREATE TABLE moves (
    purge_id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL,
    merged_into uuid NOT NULL,
    state text NOT NULL CHECK (state IN ('open', 'moved', 'given-up')),
    noted_at timestamptz NOT NULL
);
CREATE INDEX moves_open ON moves (noted_at) WHERE state = 'open';
