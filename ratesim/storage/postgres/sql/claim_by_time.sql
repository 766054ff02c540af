-- Claims names of nodes, as claim.sql, where an INSERT may not choose the partition.
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
    LOOP
      UPDATE {{table}} AS t SET metadata = jsonb_build_object('holder', holders[i]), last_accessed = moment,
          expires_at = moment + make_interval(secs => ttls[i])
        WHERE t.identifier = identifiers[i] AND t.name = ':claim'
          AND (t.expires_at > moment AND t.metadata->>'holder' = holders[i]
            OR t.expires_at <= moment AND t.period = {{current_period}});
      EXIT WHEN FOUND OR EXISTS (
        SELECT FROM {{table}} AS t WHERE t.identifier = identifiers[i] AND t.name = ':claim' AND t.expires_at > moment
      );
      PERFORM {{insert_row}}(identifiers[i], ':claim', '', '{}', moment, moment);
    END LOOP;
    RETURN QUERY SELECT t.metadata->>'holder', extract(epoch FROM t.expires_at - moment)::float8
      FROM {{table}} AS t WHERE t.identifier = identifiers[i] AND t.name = ':claim';
  END LOOP;
END $$;
