-- What browsers report of errors, by tenant: a group for each fault, counts by day, and a week's first events.

-- There for every tenant that is known, so that a census finds the class with each. Of those that were told of
-- before it is missing, until reconciliation finds that and has them told of again.
CREATE TABLE error_apps (
    tenant_id uuid PRIMARY KEY,
    app text NOT NULL
);

CREATE TABLE error_groups (
    tenant_id uuid NOT NULL,
    fingerprint bytea NOT NULL,
    app text NOT NULL,
    type text NOT NULL,
    culprit text NOT NULL,
    message text NOT NULL,
    first_seen_at timestamptz NOT NULL,
    last_seen_at timestamptz NOT NULL,
    reports bigint NOT NULL,
    week date NOT NULL,
    reports_of_week bigint NOT NULL,
    PRIMARY KEY (tenant_id, fingerprint)
);
CREATE INDEX error_groups_age ON error_groups (last_seen_at);
CREATE INDEX error_groups_fingerprint ON error_groups (fingerprint);

CREATE TABLE error_counts (
    tenant_id uuid NOT NULL,
    fingerprint bytea NOT NULL,
    day date NOT NULL,
    release text NOT NULL,
    browser text NOT NULL,
    browser_major integer NOT NULL,
    os text NOT NULL,
    reports bigint NOT NULL,
    PRIMARY KEY (tenant_id, fingerprint, day, release, browser, browser_major, os)
) PARTITION BY RANGE (day);
CREATE INDEX error_counts_fingerprint ON error_counts (fingerprint);
CREATE TABLE error_counts_rest PARTITION OF error_counts DEFAULT;

CREATE TABLE error_events (
    tenant_id uuid NOT NULL,
    fingerprint bytea NOT NULL,
    received_at timestamptz NOT NULL,
    event_id uuid NOT NULL,
    occurred_at timestamptz NOT NULL,
    release text NOT NULL,
    level text NOT NULL,
    handled boolean,
    browser text NOT NULL,
    browser_major integer,
    os text NOT NULL,
    os_major integer,
    tracking bytea,
    thrown jsonb NOT NULL,
    PRIMARY KEY (tenant_id, fingerprint, received_at, event_id)
) PARTITION BY RANGE (received_at);
CREATE INDEX error_events_fingerprint ON error_events (fingerprint, received_at);
CREATE TABLE error_events_rest PARTITION OF error_events DEFAULT;

-- The rows of nobody: whoever verifies an erasure must be able to see them, or may be blind to others.
INSERT INTO error_groups
VALUES ('00000000-0000-0000-0000-000000000000', '', '', 'planted', '', '', '1970-01-01Z', '1970-01-01Z', 0,
        '1970-01-01', 0);
INSERT INTO error_counts
VALUES ('00000000-0000-0000-0000-000000000000', '', '1970-01-01', '', 'planted', 0, '', 0);
INSERT INTO error_events
VALUES ('00000000-0000-0000-0000-000000000000', '', '1970-01-01Z', '00000000-0000-0000-0000-000000000000',
        '1970-01-01Z', '', 'error', NULL, 'planted', NULL, '', NULL, NULL, '[]');

-- A batch is of many tenants, and the list of them is taken apart once, not for each row. The worker forgets what
-- is old, and shows it to staff.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['error_groups', 'error_counts', 'error_events'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format(
            'CREATE POLICY own_tenants ON %I TO config_runtime
                 USING (tenant_id = ANY ((SELECT string_to_array(current_setting(''app.tenant'', true), '','')::uuid[])::uuid[]))',
            name);
        EXECUTE format('CREATE POLICY eraser_sees_all ON %I FOR SELECT TO config_eraser USING (true)', name);
        EXECUTE format('CREATE POLICY eraser_erases_all ON %I FOR DELETE TO config_eraser USING (true)', name);
        EXECUTE format('CREATE POLICY worker_sees_all ON %I FOR SELECT TO config_worker USING (true)', name);
        EXECUTE format('CREATE POLICY worker_forgets ON %I FOR DELETE TO config_worker USING (true)', name);
    END LOOP;
END $$;

-- Weeks, each from its Monday on, are made and dropped by the worker, who owns no table. Who asks a partition by its own
-- name finds no right to it: all goes through its table and that one's policies.
CREATE FUNCTION error_reports_make_weeks(first_day date, weeks integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    kept record;
    monday date;
    part text;
    used boolean;
    made integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('error reports', 0));
    FOR kept IN SELECT * FROM (VALUES ('error_events', 'received_at'), ('error_counts', 'day')) AS k(name, key) LOOP
        FOR monday IN SELECT date_trunc('week', first_day)::date + 7 * w FROM generate_series(0, weeks - 1) AS w LOOP
            part := kept.name || '_' || to_char(monday, 'YYYYMMDD');
            CONTINUE WHEN to_regclass('public.' || part) IS NOT NULL;
            EXECUTE format('SELECT EXISTS (SELECT 1 FROM public.%I WHERE %I >= %L AND %I < %L)',
                           kept.name || '_rest', kept.key, monday, kept.key, monday + 7) INTO used;
            CONTINUE WHEN used;
            EXECUTE format('CREATE TABLE public.%I PARTITION OF public.%I FOR VALUES FROM (%L) TO (%L)',
                           part, kept.name, monday, monday + 7);
            made := made + 1;
        END LOOP;
    END LOOP;
    RETURN made;
END $$;

CREATE FUNCTION error_reports_drop_weeks(before_day date) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    part record;
    dropped integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('error reports', 0));
    FOR part IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
         WHERE i.inhparent IN ('public.error_events'::regclass, 'public.error_counts'::regclass)
           AND c.relname ~ '^error_(events|counts)_[0-9]{8}$'
           AND to_date(right(c.relname, 8), 'YYYYMMDD') < before_day
    LOOP
        EXECUTE format('DROP TABLE public.%I', part.relname);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END $$;

REVOKE ALL ON FUNCTION error_reports_make_weeks(date, integer), error_reports_drop_weeks(date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION error_reports_make_weeks(date, integer), error_reports_drop_weeks(date) TO config_worker;
