-- How many days before its start the people of a purge were last reminded of it: 30, then 7.

ALTER TABLE purges ADD COLUMN reminded smallint;
CREATE INDEX purges_to_remind ON purges (start_at)
    WHERE phase = 'planned' AND NOT held AND reminded IS NULL;
CREATE INDEX purges_to_remind_again ON purges (start_at)
    WHERE phase = 'planned' AND NOT held AND reminded = 30;
