-- The versions that the tables have gone through; the highest is theirs. Version 1 had no such table. Every role may read it,
-- so that a role with rights on the tables of an older version can tell that they are older.
CREATE TABLE {{versions}} (
  version int PRIMARY KEY,
  applied_at timestamptz NOT NULL DEFAULT now()
);
GRANT SELECT ON {{versions}} TO PUBLIC;
