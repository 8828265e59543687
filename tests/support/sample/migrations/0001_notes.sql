CREATE TABLE notes (
    tenant_id uuid NOT NULL,
    note_id uuid PRIMARY KEY,
    text text NOT NULL
);
INSERT INTO notes VALUES ('00000000-0000-0000-0000-000000000000', '00000000-0000-0000-0000-000000000000', 'planted');
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
ALTER TABLE notes FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON notes TO sample_runtime
    USING (tenant_id = NULLIF(current_setting('app.tenant', true), '')::uuid);
CREATE POLICY see_all ON notes FOR SELECT TO sample_eraser USING (true);
CREATE POLICY erase_all ON notes FOR DELETE TO sample_eraser USING (true);
