-- Tenants for which another one goes on: their content moves there before the rest is erased.

CREATE TABLE moves (
    purge_id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL,
    merged_into uuid NOT NULL,
    state text NOT NULL CHECK (state IN ('open', 'moved', 'given-up')),
    noted_at timestamptz NOT NULL,
    -- How far it has come: moved with the rows, so that none goes twice.
    moved_up_to uuid,
    rows_moved integer NOT NULL DEFAULT 0
);
CREATE INDEX moves_open ON moves (noted_at) WHERE state = 'open';
