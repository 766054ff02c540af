-- Brings the tables to this version. Nodes go on deciding: a lock that stops them is waited for a moment at a time.
DO $$
DECLARE
  known int := (SELECT coalesce(max(version), 1) FROM {{versions}});
  patience text := current_setting('lock_timeout');
BEGIN
  IF known > {{version}} THEN
    RAISE EXCEPTION 'the tables were made by a newer ratesim (schema %, this one knows {{version}}): upgrade ratesim', known;
  END IF;
  -- 1 -> 2
  WHILE NOT EXISTS (
    SELECT FROM pg_catalog.pg_attribute
    WHERE attrelid = pg_catalog.to_regclass('{{table}}') AND attname = 'expected' AND NOT attisdropped
  ) LOOP
    BEGIN
      PERFORM set_config('lock_timeout', '100ms', true);
      ALTER TABLE {{table}} ADD COLUMN expected float8[];
    EXCEPTION WHEN lock_not_available THEN
      PERFORM pg_sleep(0.1 + 0.2 * random());
    END;
  END LOOP;
  PERFORM set_config('lock_timeout', patience, true);
  INSERT INTO {{versions}} (version) VALUES ({{version}}) ON CONFLICT DO NOTHING;
END $$;
