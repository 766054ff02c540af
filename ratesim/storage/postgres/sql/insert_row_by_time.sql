-- Inserts the row of a key that has none in any partition, into the partition in use; answers whether it did.
-- The primary key holds within one partition. What holds beyond it: whoever inserts shares a lock until his transaction ends,
-- and the partition in use changes only under that lock alone. So all who insert at one time insert into one partition, and
-- what lies in others is committed, and seen by a statement that begins behind the lock.
-- A row that was over when the new one is born, in a partition that is not in use any more, makes room: so what has ended
-- empties by itself, and nobody writes to a partition in which all is over.
CREATE OR REPLACE FUNCTION {{insert_row}}(
  row_identifier text, row_name text, row_algorithm text, row_state float8[], born timestamptz, expires timestamptz,
  requests bigint DEFAULT 0
) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
  in_use timestamptz;
  place timestamptz;
  ends timestamptz;
BEGIN
  {{share_period}}
  in_use := {{current_period}};
  SELECT t.period, t.expires_at INTO place, ends FROM {{table}} AS t
    WHERE t.identifier = row_identifier AND t.name = row_name FOR UPDATE;
  IF FOUND AND (ends > born OR place = in_use) THEN
    RETURN false;
  ELSIF FOUND THEN
    DELETE FROM {{table}} AS t WHERE t.identifier = row_identifier AND t.name = row_name AND t.period = place;
  END IF;
  INSERT INTO {{table}} (identifier, name, algorithm, state, request_count, created_at, last_accessed, expires_at, period)
    VALUES (row_identifier, row_name, row_algorithm, row_state, requests, born, born, expires, in_use)
    ON CONFLICT {{arbiter}} DO NOTHING;
  RETURN FOUND;
END $$;
