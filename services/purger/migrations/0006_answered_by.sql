-- Whether a person gave their word for a step, where no program could see; never who.

ALTER TABLE steps ADD COLUMN answered_by text;
