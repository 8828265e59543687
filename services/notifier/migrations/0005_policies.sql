-- Revisions of the policy, kept as they are for ever; which of them are being told, and who was told.

CREATE TABLE policy_drafts (
    draft_id integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    follows integer NOT NULL CHECK (follows >= 0),
    text text NOT NULL,
    text_hash text NOT NULL,
    summary_en text NOT NULL,
    summary_de text NOT NULL,
    effective_at timestamptz NOT NULL,
    early_because text,
    drafted_by text NOT NULL,
    drafted_at timestamptz NOT NULL
);

CREATE TABLE policy_revisions (
    number integer PRIMARY KEY CHECK (number >= 1),
    draft_id integer NOT NULL UNIQUE REFERENCES policy_drafts,
    campaign_id uuid NOT NULL UNIQUE,
    approved_by text NOT NULL,
    published_at timestamptz NOT NULL
);

CREATE FUNCTION keep_policies() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'what was written of the policy is kept as it is';
END
$$;
CREATE TRIGGER kept BEFORE UPDATE OR DELETE OR TRUNCATE ON policy_drafts
    FOR EACH STATEMENT EXECUTE FUNCTION keep_policies();
CREATE TRIGGER kept BEFORE UPDATE OR DELETE OR TRUNCATE ON policy_revisions
    FOR EACH STATEMENT EXECUTE FUNCTION keep_policies();

CREATE TABLE policy_plans (
    number integer PRIMARY KEY REFERENCES policy_revisions,
    planned_at timestamptz
);

CREATE TABLE policy_evidence (
    number integer NOT NULL REFERENCES policy_revisions,
    address_index bytea NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('accepted', 'failed', 'uncertain', 'suppressed')),
    status_code integer,
    at timestamptz NOT NULL,
    PRIMARY KEY (number, address_index)
);

ALTER TABLE deliveries
    DROP CONSTRAINT IF EXISTS deliveries_kind_check,
    ADD CONSTRAINT deliveries_kind_check
        CHECK (kind IN ('receipt', 'policy-change', 'product-update', 'new-product', 'welcome',
                        'reminder', 'welcome-back', 'hold', 'early-erasure'));
