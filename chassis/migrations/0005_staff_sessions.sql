-- Sessions of staff: begun at an identity provider, and kept by a hash of what the browser holds.

-- A sign-on that was begun. Its row is taken away by the answer, so that none counts twice.
CREATE TABLE staff_sign_ons (
    state_hash bytea PRIMARY KEY,
    browser_hash bytea NOT NULL,
    return_to text NOT NULL,
    silent boolean NOT NULL,
    began_at timestamptz NOT NULL
);
CREATE INDEX staff_sign_ons_age ON staff_sign_ons (began_at);

CREATE TABLE staff_sessions (
    session_hash bytea PRIMARY KEY,
    subject text NOT NULL,
    name text NOT NULL,
    roles text[] NOT NULL,
    provider_session text,
    began_at timestamptz NOT NULL,
    seen_at timestamptz NOT NULL
);
CREATE INDEX staff_sessions_subject ON staff_sessions (subject);
CREATE INDEX staff_sessions_provider ON staff_sessions (provider_session)
 WHERE provider_session IS NOT NULL;
CREATE INDEX staff_sessions_age ON staff_sessions (began_at);
