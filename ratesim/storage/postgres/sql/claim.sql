-- Claims names of nodes for some seconds, by the clock of the server, or extends the holder's own claims; answers who holds
-- each name, and for how many seconds more. A claim is a row of the states whose state is '{}', so that nothing else reads it.
CREATE OR REPLACE FUNCTION {{function}}(
  identifiers text[], holders text[], ttls float8[], {{session}}
) RETURNS TABLE (out_holder text, out_seconds float8)
LANGUAGE plpgsql AS $$
DECLARE
  moment timestamptz;
BEGIN
  {{set_session}}
  FOR i IN 1 .. cardinality(identifiers) LOOP
    moment := clock_timestamp();
    INSERT INTO {{table}} AS t (identifier, name, algorithm, state, metadata, created_at, last_accessed, expires_at)
      VALUES (
        identifiers[i], ':claim', '', '{}', jsonb_build_object('holder', holders[i]), moment, moment,
        moment + make_interval(secs => ttls[i])
      )
      ON CONFLICT (identifier, name) DO UPDATE SET
        metadata = excluded.metadata, last_accessed = excluded.last_accessed, expires_at = excluded.expires_at
      WHERE t.metadata->>'holder' = holders[i] OR t.expires_at <= moment;
    RETURN QUERY SELECT t.metadata->>'holder', extract(epoch FROM t.expires_at - moment)::float8
      FROM {{table}} AS t WHERE t.identifier = identifiers[i] AND t.name = ':claim';
  END LOOP;
END $$;
