-- A time as timestamptz; what lies beyond the type's range (the year 294276) never comes.
CREATE OR REPLACE FUNCTION {{until}}(seconds float8) RETURNS timestamptz
LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE WHEN seconds < 9e12 THEN to_timestamp(seconds) ELSE 'infinity' END
$$;
