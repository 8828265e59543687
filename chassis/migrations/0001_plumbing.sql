-- The plumbing that stands in every service's database. Times are passed in; SQL never asks for its own clock.

CREATE TABLE relay_epochs (
    epoch bigint PRIMARY KEY,
    system_identifier text NOT NULL,
    timeline integer NOT NULL,
    database_oid oid NOT NULL,
    opened_at timestamptz NOT NULL,
    restated_at timestamptz
);

CREATE TABLE relay_cursor (
    epoch bigint PRIMARY KEY REFERENCES relay_epochs,
    xid xid8 NOT NULL,
    position bigint NOT NULL,
    cluster_id text,
    saved_at timestamptz NOT NULL
);

CREATE SEQUENCE outbox_position AS bigint CACHE 1;

CREATE TABLE outbox (
    written_at timestamptz NOT NULL,
    position bigint NOT NULL DEFAULT nextval('outbox_position'),
    epoch bigint NOT NULL,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    topic text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('state', 'command', 'event', 'log')),
    record_key text NOT NULL,
    tenant_id uuid,
    ce_id uuid NOT NULL,
    type text NOT NULL,
    headers jsonb NOT NULL,
    payload bytea,
    data_class text NOT NULL
) PARTITION BY RANGE (written_at);

CREATE INDEX outbox_cursor ON outbox (epoch, xid, position);
CREATE INDEX outbox_tenant ON outbox (tenant_id) WHERE tenant_id IS NOT NULL;

-- Catches what is written while nobody made the day's partition; ordinarily empty.
CREATE TABLE outbox_rest PARTITION OF outbox DEFAULT;

-- Partitions are made and dropped by the worker, who owns no table.
CREATE FUNCTION outbox_make_partitions(first_day date, days integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    day date;
    made integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('outbox partitions', 0));
    FOR day IN SELECT first_day + d FROM generate_series(0, days - 1) AS d LOOP
        CONTINUE WHEN to_regclass('public.outbox_' || to_char(day, 'YYYYMMDD')) IS NOT NULL;
        CONTINUE WHEN EXISTS (SELECT 1 FROM outbox_rest
                               WHERE written_at >= day AND written_at < day + 1);
        EXECUTE format('CREATE TABLE public.%I PARTITION OF public.outbox FOR VALUES FROM (%L) TO (%L)',
                       'outbox_' || to_char(day, 'YYYYMMDD'), day, day + 1);
        made := made + 1;
    END LOOP;
    RETURN made;
END $$;

-- A day is dropped only when all of it has been sent.
CREATE FUNCTION outbox_drop_partitions(before_day date) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    part record;
    unsent boolean;
    dropped integer := 0;
BEGIN
    FOR part IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
         WHERE i.inhparent = 'public.outbox'::regclass AND c.relname ~ '^outbox_[0-9]{8}$'
           AND to_date(right(c.relname, 8), 'YYYYMMDD') < before_day
    LOOP
        EXECUTE format(
            'SELECT EXISTS (SELECT 1 FROM public.%I o LEFT JOIN relay_cursor c USING (epoch)
              WHERE c.epoch IS NULL OR (o.xid, o.position) > (c.xid, c.position))', part.relname)
           INTO unsent;
        CONTINUE WHEN unsent;
        EXECUTE format('DROP TABLE public.%I', part.relname);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END $$;

REVOKE ALL ON FUNCTION outbox_make_partitions(date, integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION outbox_drop_partitions(date) FROM PUBLIC;

CREATE TABLE positions (
    consumer text NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL,
    cluster_id text NOT NULL,
    next_offset bigint NOT NULL,
    PRIMARY KEY (consumer, topic, partition)
);

CREATE TABLE inbox (
    consumer text NOT NULL,
    ce_id uuid NOT NULL,
    tenant_id uuid,
    received_at timestamptz NOT NULL,
    PRIMARY KEY (consumer, ce_id)
);
CREATE INDEX inbox_received ON inbox (received_at);
CREATE INDEX inbox_tenant ON inbox (tenant_id) WHERE tenant_id IS NOT NULL;

CREATE TABLE followed_states (
    consumer text NOT NULL,
    topic text NOT NULL,
    tenant_id uuid NOT NULL,
    epoch bigint NOT NULL,
    n bigint NOT NULL,
    PRIMARY KEY (consumer, topic, tenant_id)
);
CREATE INDEX followed_states_tenant ON followed_states (tenant_id);

CREATE TABLE dead_letters (
    dead_letter_id uuid PRIMARY KEY,
    consumer text NOT NULL,
    handler text NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL,
    record_offset bigint NOT NULL,
    tenant_id uuid,
    ce_id uuid,
    type text,
    purge_id uuid,
    record_key bytea,
    headers jsonb NOT NULL,
    payload bytea,
    reason text NOT NULL,
    error_type text,
    fingerprint text NOT NULL,
    attempts integer NOT NULL,
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'redriving', 'resolved', 'discarded')),
    first_failed_at timestamptz NOT NULL
);
CREATE INDEX dead_letters_tenant ON dead_letters (tenant_id) WHERE tenant_id IS NOT NULL;
CREATE INDEX dead_letters_age ON dead_letters (first_failed_at);

CREATE TABLE erased_tenants (
    tenant_id uuid NOT NULL,
    data_class text NOT NULL,
    ledger_number bigint NOT NULL,
    purge_id uuid NOT NULL,
    erased_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, data_class)
);

CREATE TABLE erasures (
    purge_id uuid NOT NULL,
    step text NOT NULL,
    tenant_id uuid NOT NULL,
    classes text[] NOT NULL,
    ledger_number bigint NOT NULL,
    receipt_code text,
    state text NOT NULL CHECK (state IN ('queued', 'erased')),
    attempts integer NOT NULL DEFAULT 0,
    claim_token uuid,
    claimed_until timestamptz,
    counts jsonb NOT NULL DEFAULT '{}',
    queued_at timestamptz NOT NULL,
    erased_at timestamptz,
    traceparent text,
    PRIMARY KEY (purge_id, step)
);
CREATE INDEX erasures_queued ON erasures (queued_at) WHERE state = 'queued';

CREATE TABLE tenant_keys (
    tenant_id uuid PRIMARY KEY,
    wrapped_key bytea NOT NULL,
    kek_id text NOT NULL,
    made_at timestamptz NOT NULL
);

CREATE TABLE ledger_reader (
    id boolean PRIMARY KEY DEFAULT true CHECK (id),
    applied_number bigint NOT NULL,
    applied_hash text NOT NULL,
    cluster_id text NOT NULL,
    head_number bigint NOT NULL
);
