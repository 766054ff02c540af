-- Inserts the row of a key that has none; answers whether it did.
CREATE OR REPLACE FUNCTION {{insert_row}}(
  row_identifier text, row_name text, row_algorithm text, row_state float8[], born timestamptz, expires timestamptz,
  requests bigint DEFAULT 0
) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO {{table}} (identifier, name, algorithm, state, request_count, created_at, last_accessed, expires_at)
    VALUES (row_identifier, row_name, row_algorithm, row_state, requests, born, born, expires)
    ON CONFLICT {{arbiter}} DO NOTHING;
  RETURN FOUND;
END $$;
