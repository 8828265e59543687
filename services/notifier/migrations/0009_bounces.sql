-- When a message came back that a mail server had taken.

ALTER TABLE deliveries ADD COLUMN bounced_at timestamptz;
