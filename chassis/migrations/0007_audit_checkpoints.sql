-- How far the audit had come when months of it went, signed by a key that no database has.
CREATE TABLE audit_checkpoints (
    number bigint PRIMARY KEY,
    token text NOT NULL
);

-- The last entry that a syslog server was given, beside the ends.
ALTER TABLE audit_ends DROP CONSTRAINT audit_ends_id_check;
ALTER TABLE audit_ends ADD CONSTRAINT audit_ends_id_check CHECK (id IN ('head', 'base', 'syslog'));

-- As before, but a month stays until a checkpoint tells of its last entry or of a later one.
CREATE OR REPLACE FUNCTION audit_drop_partitions(before_day date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    part text;
    last_entry bigint;
BEGIN
    FOR part IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
         WHERE i.inhparent = 'public.audit_entries'::regclass
           AND to_date(right(c.relname, 6), 'YYYYMM') + interval '1 month' <= before_day
         ORDER BY c.relname
    LOOP
        EXECUTE format('SELECT max(number) FROM public.%I', part) INTO last_entry;
        EXIT WHEN last_entry > coalesce((SELECT max(number) FROM public.audit_checkpoints), 0);
        EXECUTE format('UPDATE public.audit_ends e SET number = l.number, at = l.at, hash = l.hash
                          FROM (SELECT number, at, hash FROM public.%I ORDER BY number DESC LIMIT 1) l
                         WHERE e.id = ''base''', part);
        EXECUTE format('DROP TABLE public.%I', part);
    END LOOP;
END $$;
