-- Wishes for an early erasure, and legal holds. A purge may take a part of its scope, and may be held.

-- Null where a purge takes all of its scope.
ALTER TABLE purges ADD COLUMN classes text[];
ALTER TABLE purges ADD COLUMN held boolean NOT NULL DEFAULT false;

-- A wish counts from asked_at on: a customer's at once, the privacy role's when a second person confirms it.
CREATE TABLE wishes (
    wish_id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL,
    made_by text NOT NULL CHECK (made_by IN ('customer', 'privacy')),
    recorded_at timestamptz NOT NULL,
    asked_at timestamptz,
    reason text,
    asked_by text,
    confirmed_by text,
    withdrawal_asked_at timestamptz,
    withdrawn_at timestamptz,
    withdrawn_by text
);
CREATE INDEX wishes_tenant ON wishes (tenant_id);

CREATE TABLE legal_holds (
    hold_id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL,
    classes text[] NOT NULL CHECK (cardinality(classes) > 0),
    basis text NOT NULL,
    reason text NOT NULL,
    placed_by text NOT NULL,
    placed_at timestamptz NOT NULL,
    released_by text,
    release_reason text,
    released_at timestamptz
);
CREATE INDEX legal_holds_tenant ON legal_holds (tenant_id);
CREATE INDEX purges_held ON purges (erase_by) WHERE phase = 'planned' AND held;
