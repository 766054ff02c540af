-- Inserts the counter of an identifier that has none in any partition, as insert_row_by_time.sql does a state.
CREATE OR REPLACE FUNCTION {{insert_counter}}(
  row_identifier text, amount bigint, expires timestamptz, born timestamptz
) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
  in_use timestamptz;
  place timestamptz;
  ends timestamptz;
BEGIN
  {{share_period}}
  in_use := {{current_period}};
  SELECT c.period, c.expires_at INTO place, ends FROM {{counters}} AS c WHERE c.identifier = row_identifier FOR UPDATE;
  IF FOUND AND (ends > born OR place = in_use) THEN
    RETURN false;
  ELSIF FOUND THEN
    DELETE FROM {{counters}} AS c WHERE c.identifier = row_identifier AND c.period = place;
  END IF;
  INSERT INTO {{counters}} (identifier, count, expires_at, period) VALUES (row_identifier, amount, expires, in_use)
    ON CONFLICT {{counter_arbiter}} DO NOTHING;
  RETURN FOUND;
END $$;
