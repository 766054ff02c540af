-- Inserts the counter of an identifier that has none; answers whether it did.
CREATE OR REPLACE FUNCTION {{insert_counter}}(
  row_identifier text, amount bigint, expires timestamptz, born timestamptz
) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO {{counters}} (identifier, count, expires_at) VALUES (row_identifier, amount, expires)
    ON CONFLICT {{counter_arbiter}} DO NOTHING;
  RETURN FOUND;
END $$;
