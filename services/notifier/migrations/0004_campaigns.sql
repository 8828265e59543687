-- What is said to many, once to each; who may be written to, and who must not.

CREATE TABLE campaigns (
    campaign_id uuid PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('receipt', 'policy-change', 'product-update', 'new-product',
                                       'welcome', 'reminder', 'welcome-back', 'hold',
                                       'early-erasure')),
    state text NOT NULL CHECK (state IN ('waiting', 'sending', 'paused', 'stopped', 'done')),
    noted_at timestamptz NOT NULL
);
CREATE INDEX campaigns_age ON campaigns (noted_at);

CREATE TABLE audience (
    tenant_id uuid NOT NULL,
    contact_id uuid NOT NULL,
    address_index bytea NOT NULL,
    roles text[] NOT NULL,
    language text NOT NULL CHECK (language IN ('en', 'de')),
    since timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, contact_id)
);
CREATE INDEX audience_address ON audience (address_index);

CREATE TABLE suppressions (
    address_index bytea NOT NULL,
    scope text NOT NULL CHECK (scope IN ('everything', 'optional', 'product-update',
                                         'new-product')),
    reason text NOT NULL CHECK (reason IN ('erased', 'bounced', 'complained', 'opted-out')),
    since timestamptz NOT NULL,
    PRIMARY KEY (address_index, scope, reason)
);

ALTER TABLE contacts NO FORCE ROW LEVEL SECURITY;

INSERT INTO audience (tenant_id, contact_id, address_index, roles, language, since)
SELECT tenant_id, contact_id, address_index, '{technical}', 'en', '2026-11-01'
  FROM contacts
 WHERE tenant_id <> '00000000-0000-0000-0000-000000000000';

INSERT INTO campaigns (campaign_id, kind, state, noted_at)
SELECT coalesce(d.purge_id, r.purge_id), 'receipt',
       CASE WHEN r.purge_id IS NULL THEN 'waiting' ELSE 'sending' END,
       coalesce(r.noted_at, d.planned_at)
  FROM (SELECT purge_id, min(planned_at) AS planned_at FROM deliveries GROUP BY purge_id) d
  FULL JOIN receipts r USING (purge_id);

ALTER TABLE deliveries
    DROP CONSTRAINT deliveries_tenant_id_contact_id_fkey,
    DROP CONSTRAINT deliveries_purge_id_contact_id_kind_key,
    DROP CONSTRAINT deliveries_state_check,
    ADD CHECK (state IN ('planned', 'sending', 'sent', 'uncertain', 'failed', 'suppressed')),
    ADD COLUMN address_index bytea,
    DROP COLUMN message_id;
ALTER TABLE deliveries RENAME COLUMN purge_id TO campaign_id;
UPDATE deliveries d
   SET address_index = c.address_index
  FROM contacts c
 WHERE (c.tenant_id, c.contact_id) = (d.tenant_id, d.contact_id);
ALTER TABLE deliveries
    ALTER COLUMN address_index SET NOT NULL,
    ADD UNIQUE (campaign_id, address_index);

ALTER TABLE contacts FORCE ROW LEVEL SECURITY;

ALTER TABLE tenants
    ADD COLUMN product text,
    ADD COLUMN edition text,
    ADD COLUMN region text;
