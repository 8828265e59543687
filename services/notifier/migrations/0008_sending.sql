-- Mail is claimed in chunks and in two streams, and no domain gets more at once than it should.

-- What is read for a chunk is of many tenants: `app.tenant` may list several, with commas between.
DROP POLICY own_tenant ON contacts;
CREATE POLICY own_tenant ON contacts TO notifier_runtime
    USING (tenant_id = ANY (string_to_array(current_setting('app.tenant', true), ',')::uuid[]));

ALTER TABLE deliveries
    -- What kinds there are is said of campaigns.
    DROP CONSTRAINT IF EXISTS deliveries_kind_check,
    ADD COLUMN has_slot boolean NOT NULL DEFAULT false;

-- Large campaigns are looked through one by one, so that one that is paused lies in nobody's way.
-- The conditions stand in the claim word for word.
CREATE INDEX deliveries_of_large ON deliveries (campaign_id, next_attempt_at)
    WHERE (state = 'planned' OR state = 'uncertain' AND doubts < 2)
      AND kind IN ('policy-change', 'product-update', 'new-product');
CREATE INDEX deliveries_of_small ON deliveries (next_attempt_at)
    WHERE (state = 'planned' OR state = 'uncertain' AND doubts < 2)
      AND kind NOT IN ('policy-change', 'product-update', 'new-product');
CREATE INDEX deliveries_claimed ON deliveries (claimed_until) WHERE state = 'sending';
CREATE INDEX deliveries_doubted ON deliveries (campaign_id) WHERE doubts > 0;
CREATE INDEX deliveries_late ON deliveries (planned_at)
    WHERE kind = 'receipt'
      AND (state IN ('planned', 'sending') OR state = 'uncertain' AND doubts < 2);
DROP INDEX deliveries_open;

CREATE TABLE mail_domains (
    domain_index bytea PRIMARY KEY,
    free_at timestamptz NOT NULL
);
CREATE INDEX mail_domains_age ON mail_domains (free_at);
