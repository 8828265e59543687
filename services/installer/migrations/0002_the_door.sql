-- Aliases, replaced secrets, timelines, licences, and whether a site still lets us in.

ALTER TABLE tenants
    -- When it moved to its platform; null where it began there.
    ADD COLUMN platform_since timestamptz,
    -- The tenant that goes on for this one.
    ADD COLUMN merged_into uuid;

-- What only Connect tenants have.
ALTER TABLE installations
    -- Whether the app is installed by this name: the state of the alias (addon_key, client_key).
    ADD COLUMN present boolean NOT NULL DEFAULT true,
    -- The secret before this one, still accepted for requests that are on their way.
    ADD COLUMN replaced_secret bytea,
    ADD COLUMN replaced_until timestamptz,
    ADD COLUMN entitlement_id text,
    ADD COLUMN entitlement_number text,
    ADD CHECK ((replaced_secret IS NULL) = (replaced_until IS NULL));
UPDATE installations
   SET present = false
  FROM tenants
 WHERE tenants.tenant_id = installations.tenant_id
   AND tenants.status <> 'installed';
CREATE INDEX installations_replaced ON installations (replaced_until)
    WHERE replaced_until IS NOT NULL;
-- Steps of the join with licences; compared without what differs between Atlassian's spellings.
CREATE INDEX installations_entitlement_id ON installations (addon_key, entitlement_id)
    WHERE live AND entitlement_id IS NOT NULL;
CREATE INDEX installations_entitlement_number ON installations (addon_key, entitlement_number)
    WHERE live AND entitlement_number IS NOT NULL;
CREATE INDEX installations_sen
    ON installations (addon_key, regexp_replace(service_entitlement_number, '\D', '', 'g'))
    WHERE live AND service_entitlement_number IS NOT NULL;

-- A tenant's other names: Forge installations, and the ids of its cloud site.
CREATE TABLE aliases (
    tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    kind text NOT NULL CHECK (kind IN ('forge-installation', 'cloud-id')),
    addon_key text NOT NULL,
    name text NOT NULL,
    -- Until its tenant is purging. Nobody is found by a name that is not live any more.
    live boolean NOT NULL,
    -- Whether the app is installed by this name; a cloud id alone installs nothing.
    present boolean NOT NULL,
    heard_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, kind, name)
);
CREATE UNIQUE INDEX aliases_name ON aliases (kind, addon_key, name) WHERE live;

-- What was heard of a tenant, call by call. That it began stands in tenants.created_at.
CREATE TABLE timelines (
    entry_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    at timestamptz NOT NULL,
    what text NOT NULL
);
CREATE INDEX timelines_tenant ON timelines (tenant_id, entry_id);

-- Whether a tenant's site lets us in, asked on a schedule.
CREATE TABLE access_checks (
    tenant_id uuid PRIMARY KEY REFERENCES tenants ON DELETE CASCADE,
    addon_key text NOT NULL,
    due_at timestamptz NOT NULL,
    claim_token uuid,
    claimed_until timestamptz,
    -- When the site was last heard of: an answer, or a call that it signed.
    last_seen_at timestamptz NOT NULL,
    -- Refusals in a row, the first and the last of them.
    losses int NOT NULL DEFAULT 0,
    first_lost_at timestamptz,
    last_lost_at timestamptz,
    -- A person's word that the site is gone.
    confirmed_at timestamptz,
    confirmed_by text,
    -- What the site said of the licence: null where nothing.
    licence_active boolean,
    licence_heard_at timestamptz,
    -- Since when it says that the licence is not active.
    licence_inactive_since timestamptz,
    CHECK ((losses = 0) = (first_lost_at IS NULL)),
    CHECK ((losses = 0) = (last_lost_at IS NULL)),
    CHECK ((confirmed_at IS NULL) = (confirmed_by IS NULL))
);
CREATE INDEX access_checks_due ON access_checks (due_at);
CREATE INDEX access_checks_lost ON access_checks (addon_key, first_lost_at) WHERE losses > 0;

-- Apps of which so many tenants were lost at once that it is our fault, or Atlassian's.
CREATE TABLE access_holds (
    hold_id uuid PRIMARY KEY,
    addon_key text NOT NULL,
    held_at timestamptz NOT NULL,
    losses int NOT NULL,
    asked int NOT NULL,
    released_at timestamptz,
    released_by text,
    CHECK ((released_at IS NULL) = (released_by IS NULL))
);
CREATE UNIQUE INDEX access_holds_open ON access_holds (addon_key) WHERE released_at IS NULL;

-- The licences of the Marketplace's report, by the number that the report gives them.
CREATE TABLE licences (
    addon_key text NOT NULL,
    number text NOT NULL,
    sen text,
    entitlement_id text,
    entitlement_number text,
    hosting text NOT NULL,
    status text NOT NULL,
    licence_type text NOT NULL,
    ends_on date,
    cloud_id text,
    site_host text,
    last_updated date NOT NULL,
    first_seen_at timestamptz NOT NULL,
    heard_at timestamptz NOT NULL,
    -- Whose it is, by which step of the join, and whether that step is a weak one.
    tenant_id uuid REFERENCES tenants ON DELETE CASCADE,
    matched_by text,
    weak boolean NOT NULL DEFAULT false,
    PRIMARY KEY (addon_key, number),
    CHECK ((tenant_id IS NULL) = (matched_by IS NULL))
);
CREATE INDEX licences_tenant ON licences (tenant_id);
-- Those that may still find an installation, and those that may become tenants of their own.
CREATE INDEX licences_joinable ON licences (addon_key, number)
    WHERE tenant_id IS NULL OR weak OR matched_by = 'itself';
CREATE INDEX licences_alone ON licences (first_seen_at) WHERE tenant_id IS NULL;

-- Licences whose tenants were purged, as keyed hashes, so that the report does not bring them back.
CREATE TABLE purged_licences (
    licence_hash bytea PRIMARY KEY,
    purged_at timestamptz NOT NULL
);
CREATE INDEX purged_licences_purged ON purged_licences (purged_at);

-- How far the Marketplace's report was read.
CREATE TABLE licence_reports (
    report_id uuid PRIMARY KEY,
    began_at timestamptz NOT NULL,
    -- Null for a report of everything.
    updated_since date,
    ended_at timestamptz,
    rows_read int NOT NULL DEFAULT 0,
    rows_unreadable int NOT NULL DEFAULT 0,
    -- Wall time, as the Marketplace knows no other: when it began, until when it is being read.
    began_wall_at timestamptz NOT NULL,
    claimed_until timestamptz NOT NULL
);

-- Names of tenants that are purging are looked up too, to tell their callers so.
CREATE INDEX installations_any_name ON installations (addon_key, client_key) WHERE NOT live;
