-- Inserts the counter of an identifier that has none in any partition, as insert_row_by_time.sql does a state.
CREATE OR REPLACE FUNCTION {{insert_counter}}(row_identifier text, amount bigint, expires timestamptz) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
  {{share_period}}
  IF EXISTS (SELECT FROM {{counters}} AS c WHERE c.identifier = row_identifier) THEN
    RETURN false;
  END IF;
  INSERT INTO {{counters}} (identifier, count, expires_at, period)
    VALUES (row_identifier, amount, expires, {{current_period}})
    ON CONFLICT {{counter_arbiter}} DO NOTHING;
  RETURN FOUND;
END $$;
