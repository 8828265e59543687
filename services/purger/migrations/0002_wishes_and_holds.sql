-- Wishes for an early erasure. A purge may take a part of its scope, and may be held.

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
