-- Decides requests of one limit for different identifiers, which the caller sorts; answers as acquire_each.sql. All rows are read
-- and decided on without a lock. One INSERT then locks the rows of those that are admitted, in the order of the input, and
-- writes where a row is still what was decided on. The others are decided again, one after the other.
CREATE OR REPLACE FUNCTION {{function}}(
  keys text[], costs float8[], nows float8[], consume boolean, limit_name text, seconds float8, {{parameters}}, {{session}}
) RETURNS float8[]
LANGUAGE plpgsql AS $$
DECLARE
  setting text;
  n int;
  skew float8;
  verdicts float8[];
  rooms float8[];
  resets float8[];
  states float8[];  -- the stored ones of those that are denied
  done text[];
  proposed int;
  answer float8[];
  denied float8[] := '{}';
  place int := 1;
BEGIN
  {{set_own_session}}
  skew := least({{max_clock_skew}}, seconds);
  n := cardinality(keys);
  {{set_nows}}
  IF NOT consume THEN
    WITH seen AS MATERIALIZED (
      {{seen}}
    )
    SELECT array_agg(l.d[1]), array_agg(l.d[2]), array_agg(l.d[3]), (
        SELECT array_agg(u.number) FROM seen AS m CROSS JOIN LATERAL unnest(m.state) AS u (number)
          WHERE m.d[1] = 0 AND m.d[3] = 1
      )
      INTO verdicts, rooms, resets, states FROM seen AS l;
    RETURN verdicts || rooms || resets || states;
  END IF;
  {{share}}
  WITH seen AS MATERIALIZED (
    {{seen}}
  ), written AS (
    INSERT INTO {{table}} AS t (
        identifier, name, algorithm, state, expected, request_count, created_at, last_accessed, expires_at{{and_period}}
      )
      SELECT l.key, limit_name, '{{algorithm}}', l.d[6:], l.state, l.d[5], to_timestamp(l.now), to_timestamp(l.d[4]),
          {{until}}(l.now + l.d[3] + {{margin}}){{and_place}}
        FROM seen AS l WHERE l.d[1] >= 1{{and_writable}} ORDER BY l.ord
      ON CONFLICT {{arbiter}} DO UPDATE SET
        algorithm = excluded.algorithm,
        state = excluded.state,
        watermarks = CASE WHEN excluded.request_count = 0 THEN t.watermarks ELSE '{}' END,
        metadata = CASE WHEN excluded.request_count = 0 THEN t.metadata ELSE '{}' END,
        request_count = CASE WHEN excluded.request_count = 0 THEN t.request_count ELSE 0 END + 1,
        created_at = CASE WHEN excluded.request_count = 0 THEN t.created_at ELSE excluded.created_at END,
        last_accessed = excluded.last_accessed,
        expires_at = excluded.expires_at
      WHERE t.state = excluded.expected AND excluded.request_count >= 0
        AND (t.algorithm = excluded.algorithm AND t.expires_at > excluded.created_at) = (excluded.request_count = 0)
      RETURNING t.identifier, t.expected  -- a row that was deleted meanwhile is inserted with the state that was expected
  )
  SELECT array_agg(l.d[1]), array_agg(l.d[2]), array_agg(l.d[3]), count(*) FILTER (WHERE l.d[1] >= 1), (
      SELECT array_agg(u.number) FROM seen AS m CROSS JOIN LATERAL unnest(m.state) AS u (number)
        WHERE m.d[1] = 0 AND m.d[3] = 1
    ), (SELECT array_agg(w.identifier) FROM written AS w WHERE w.expected IS NULL)
    INTO verdicts, rooms, resets, proposed, states, done FROM seen AS l;
  IF coalesce(cardinality(done), 0) < proposed THEN
    FOR k IN 1..n LOOP
      IF verdicts[k] = 0 AND resets[k] = 1 THEN
        denied := denied || states[place:place + {{size}} - 1];
        place := place + {{size}};
      ELSIF verdicts[k] >= 1 AND (keys[k] = ANY (done)) IS NOT TRUE THEN
        DELETE FROM {{table}} AS t WHERE t.identifier = keys[k] AND t.name = limit_name AND t.expected IS NOT NULL;
        answer := {{acquire_one}}(keys[k], costs[k], nows[k], consume, limit_name, seconds, {{given}}, commits, patience);
        verdicts[k] := answer[1];
        rooms[k] := answer[2];
        resets[k] := answer[3];
        denied := denied || answer[4:];
      END IF;
    END LOOP;
    states := denied;
  END IF;
  RETURN verdicts || rooms || resets || states;
END $$;
