-- Who let this service hear again what, and how far that has come.

CREATE TABLE replays (
    replay_id uuid PRIMARY KEY,
    source text NOT NULL CHECK (source IN ('outbox', 'topic', 'restated')),
    types text[] NOT NULL,
    tenant_id uuid,
    since_at timestamptz,
    until_at timestamptz,
    forced boolean NOT NULL,
    by_whom text NOT NULL,
    reason text NOT NULL,
    state text NOT NULL CHECK (state IN ('running', 'paused', 'done')),
    planned bigint NOT NULL,
    sent bigint NOT NULL,
    progress jsonb NOT NULL,
    began_at timestamptz NOT NULL,
    changed_at timestamptz NOT NULL
);
