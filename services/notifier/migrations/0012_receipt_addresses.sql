-- Whom a tenant's administrator named to get receipts beside its contacts. Name and address lie, sealed,
-- among the contacts.

CREATE TABLE receipt_addresses (
    tenant_id uuid PRIMARY KEY,
    contact_id uuid,
    address_index bytea,
    language text NOT NULL CHECK (language IN ('en', 'de')),
    named_at timestamptz,
    changes integer NOT NULL,
    counted_from timestamptz NOT NULL,
    CHECK ((contact_id IS NULL) = (address_index IS NULL)),
    CHECK (contact_id IS NULL OR named_at IS NOT NULL)
);
CREATE INDEX receipt_addresses_address ON receipt_addresses (address_index)
    WHERE address_index IS NOT NULL;
