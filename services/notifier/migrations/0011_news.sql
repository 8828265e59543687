-- News of products: what it says to whom, how far it has come, and who did what with a campaign.

CREATE TABLE product_news (
    campaign_id uuid PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('product-update', 'new-product')),
    version integer NOT NULL CHECK (version >= 1),
    stage text NOT NULL CHECK (stage IN ('draft', 'approved', 'scheduled')),
    subject_en text NOT NULL,
    text_en text NOT NULL,
    subject_de text,
    text_de text,
    addon_key text,
    product text,
    edition text,
    region text,
    changed_at timestamptz NOT NULL,
    send_at timestamptz,
    planned_at timestamptz,
    announced_at timestamptz,
    CHECK ((subject_de IS NULL) = (text_de IS NULL)),
    CHECK ((stage = 'scheduled') = (send_at IS NOT NULL)),
    CHECK (planned_at IS NULL OR stage = 'scheduled')
);
CREATE INDEX product_news_to_plan ON product_news (send_at)
    WHERE stage = 'scheduled' AND planned_at IS NULL;

CREATE TABLE campaign_acts (
    act_id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    campaign_id uuid NOT NULL,
    act text NOT NULL CHECK (act IN ('written', 'approved', 'scheduled', 'paused', 'resumed',
                                     'stopped')),
    by_whom text NOT NULL,
    at timestamptz NOT NULL
);
CREATE INDEX campaign_acts_campaign ON campaign_acts (campaign_id, act_id);
