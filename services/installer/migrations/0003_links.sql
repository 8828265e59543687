-- Persons' word that a tenant goes on for the one whose site it replaced.

CREATE TABLE links (
    link_id uuid PRIMARY KEY,
    -- Who goes on: the record is kept for as long as it is.
    tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    -- For whom, as a pseudonym alone: nothing else is left of it soon.
    old_tenant_id uuid NOT NULL,
    linked_at timestamptz NOT NULL,
    linked_by text NOT NULL,
    reason text NOT NULL,
    -- When the old one came back before anything had moved.
    undone_at timestamptz
);
CREATE INDEX links_tenant ON links (tenant_id);
CREATE UNIQUE INDEX links_old_tenant ON links (old_tenant_id) WHERE undone_at IS NULL;

-- Whether a tenant still awaits the data of others.
CREATE INDEX tenants_merged ON tenants (merged_into) WHERE merged_into IS NOT NULL;
