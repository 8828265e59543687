-- What people were told about their tenant's life.

CREATE TABLE lifecycles (
    tenant_id uuid PRIMARY KEY,
    installed boolean NOT NULL,
    platform text NOT NULL,
    welcomed boolean NOT NULL,
    withdrawn uuid[] NOT NULL DEFAULT '{}'
);
CREATE INDEX lifecycles_to_welcome ON lifecycles (tenant_id) WHERE installed AND NOT welcomed;

CREATE TABLE notices (
    campaign_id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL,
    event text NOT NULL,
    subject text NOT NULL,
    facts jsonb NOT NULL,
    noted_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX notices_tenant ON notices (tenant_id);
CREATE INDEX notices_old ON notices (expires_at);

CREATE TABLE doubted_until (
    id boolean PRIMARY KEY DEFAULT true CHECK (id),
    at timestamptz NOT NULL
);

-- Who is there already is not welcomed years later.
INSERT INTO lifecycles (tenant_id, installed, platform, welcomed)
SELECT tenant_id, false, 'connect', true
  FROM tenants t
 WHERE EXISTS (SELECT 1 FROM audience a WHERE a.tenant_id = t.tenant_id);

-- Whether a tenant is there was heard and not kept until now: all states are read once more.
DELETE FROM followed_states WHERE topic = 'installer.tenants.v1';
DELETE FROM positions WHERE topic = 'installer.tenants.v1';
