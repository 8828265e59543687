-- Under which grant a member of staff may look at what a customer keeps: ids, times and a hash alone,
-- so that it can outlive the customer.

CREATE TABLE access_grants (
    grant_id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL,
    subject text NOT NULL,
    role text NOT NULL,
    category text NOT NULL,
    reason_hash bytea NOT NULL,
    break_glass boolean NOT NULL,
    renews uuid,
    granted_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz,
    revoked_by text,
    reviewed_at timestamptz,
    reviewed_by text,
    justified boolean,
    CONSTRAINT an_hour_at_most CHECK (expires_at > granted_at
                                      AND expires_at <= granted_at + interval '60 minutes'),
    CONSTRAINT revoked_by_somebody CHECK ((revoked_at IS NULL) = (revoked_by IS NULL)),
    CONSTRAINT reviewed_by_another CHECK (reviewed_by <> subject),
    CONSTRAINT reviewed_whole CHECK (num_nulls(reviewed_at, reviewed_by, justified) IN (0, 3))
);
CREATE INDEX access_grants_of ON access_grants (tenant_id, subject, expires_at);
CREATE INDEX access_grants_by_age ON access_grants (granted_at, grant_id);
CREATE INDEX access_grants_to_review ON access_grants (granted_at) WHERE break_glass AND reviewed_at IS NULL;

-- Why, in words: they may be about the customer, and go with it. Without the salt the hash tells nothing.
CREATE TABLE access_reasons (
    tenant_id uuid NOT NULL,
    grant_id uuid NOT NULL,
    salt bytea NOT NULL,
    ticket text,
    told text NOT NULL,
    given_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, grant_id)
);
CREATE INDEX access_reasons_by_age ON access_reasons (given_at);

-- What was shown to whom, for the customer to see.
CREATE TABLE looks (
    tenant_id uuid NOT NULL,
    look_id uuid NOT NULL,
    grant_id uuid NOT NULL,
    looked_at timestamptz NOT NULL,
    kind text NOT NULL,
    thing_id uuid,
    name text,
    PRIMARY KEY (tenant_id, look_id)
);
CREATE INDEX looks_latest ON looks (tenant_id, looked_at DESC, look_id DESC);
CREATE INDEX looks_by_age ON looks (looked_at);

-- The rows of nobody.
INSERT INTO access_reasons
VALUES ('00000000-0000-0000-0000-000000000000', '00000000-0000-0000-0000-000000000000', 'planted', NULL,
        'planted', '9999-01-01Z');
INSERT INTO looks
VALUES ('00000000-0000-0000-0000-000000000000', '00000000-0000-0000-0000-000000000000',
        '00000000-0000-0000-0000-000000000000', '9999-01-01Z', 'planted');

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['access_reasons', 'looks']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format($policy$CREATE POLICY own_tenant ON %I TO config_runtime
            USING (tenant_id = NULLIF(current_setting('app.tenant', true), '')::uuid)$policy$, name);
        EXECUTE format('CREATE POLICY eraser_sees_all ON %I FOR SELECT TO config_eraser USING (true)', name);
        EXECUTE format('CREATE POLICY eraser_erases_all ON %I FOR DELETE TO config_eraser USING (true)', name);
        -- What is old enough of all tenants is forgotten with the tickets of exports.
        EXECUTE format('CREATE POLICY worker_sees_all ON %I FOR SELECT TO config_worker USING (true)', name);
        EXECUTE format('CREATE POLICY worker_forgets ON %I FOR DELETE TO config_worker USING (true)', name);
    END LOOP;
END $$;
