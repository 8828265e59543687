-- The audit chain: what members of staff did, entry after entry, each bound to the one before.

CREATE TABLE audit_entries (
    number bigint NOT NULL CHECK (number > 0),
    at timestamptz NOT NULL,
    subject text NOT NULL,
    act text NOT NULL,
    about jsonb NOT NULL,
    previous_hash bytea NOT NULL,
    hash bytea NOT NULL
) PARTITION BY RANGE (at);
CREATE INDEX audit_entries_number ON audit_entries (number);

-- Nobody changes what was written, its owner no more than others.
CREATE FUNCTION audit_refuse() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'entries of the audit are added and never changed' USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER audit_entries_stay BEFORE UPDATE OR DELETE ON audit_entries
   FOR EACH ROW EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_entries_stay_whole BEFORE TRUNCATE ON audit_entries
   FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();

-- The last entry, locked by whoever adds one; and the last of those that are gone.
CREATE TABLE audit_ends (
    id text PRIMARY KEY CHECK (id IN ('head', 'base')),
    number bigint NOT NULL,
    at timestamptz NOT NULL,
    hash bytea NOT NULL
);
INSERT INTO audit_ends VALUES ('head', 0, '-infinity', sha256('')), ('base', 0, '-infinity', sha256(''));

-- Months are made and dropped by the worker, who owns no table.
CREATE FUNCTION audit_make_partitions(first_month date, months integer) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    month date;
    name text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('audit partitions', 0));
    FOR month IN SELECT date_trunc('month', first_month) + make_interval(months => m)
                   FROM generate_series(0, months - 1) AS m LOOP
        name := 'audit_entries_' || to_char(month, 'YYYYMM');
        CONTINUE WHEN to_regclass('public.' || name) IS NOT NULL;
        EXECUTE format('CREATE TABLE public.%I PARTITION OF public.audit_entries FOR VALUES FROM (%L) TO (%L)',
                       name, month, month + interval '1 month');
        -- That of the whole table does not fire for a part of it.
        EXECUTE format('CREATE TRIGGER stays_whole BEFORE TRUNCATE ON public.%I
                        FOR EACH STATEMENT EXECUTE FUNCTION public.audit_refuse()', name);
    END LOOP;
END $$;

-- A month goes when all of it is older, the oldest first, and leaves the hash that the next begins with.
CREATE FUNCTION audit_drop_partitions(before_day date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    part text;
BEGIN
    FOR part IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
         WHERE i.inhparent = 'public.audit_entries'::regclass
           AND to_date(right(c.relname, 6), 'YYYYMM') + interval '1 month' <= before_day
         ORDER BY c.relname
    LOOP
        EXECUTE format('UPDATE public.audit_ends e SET number = l.number, at = l.at, hash = l.hash
                          FROM (SELECT number, at, hash FROM public.%I ORDER BY number DESC LIMIT 1) l
                         WHERE e.id = ''base''', part);
        EXECUTE format('DROP TABLE public.%I', part);
    END LOOP;
END $$;

REVOKE ALL ON FUNCTION audit_make_partitions(date, integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION audit_drop_partitions(date) FROM PUBLIC;
