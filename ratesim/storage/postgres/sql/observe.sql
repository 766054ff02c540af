-- Tells the limits of identifiers how the service behind them is doing: MemoryStorage.learn for each. The caller sorts the
-- scores by identifier, and the limits by name. Returns the number of states that were brought back to now.
CREATE OR REPLACE FUNCTION {{function}}(
  identifiers text[], scores float8[], nows float8[],
  names text[], algorithms text[], params float8[], lengths int[], sizes int[], periods float8[], {{session}}
) RETURNS TABLE (rewound int)
LANGUAGE plpgsql AS $$
DECLARE
  score float8;
  now float8;
  algorithm text;
  p float8[];
  p_end int;
  s float8[];
  live boolean;
  place timestamptz;
  inserted boolean;
  at float8;
BEGIN
  {{set_session}}
  {{share}}
  rewound := 0;
  FOR k IN 1..cardinality(identifiers) LOOP
    score := scores[k];
    now := {{now}};
    p_end := 0;
    FOR i IN 1..cardinality(names) LOOP
      algorithm := algorithms[i];
      p := params[p_end + 1:p_end + lengths[i]];
      p_end := p_end + lengths[i];
      LOOP
        SELECT t.state, t.algorithm = algorithms[i] AND t.state <> '{}'
            AND (sizes[i] = 0 OR cardinality(t.state) = sizes[i])
            AND t.expires_at > to_timestamp(now), {{place}}
          INTO s, live, place FROM {{table}} AS t
          WHERE t.identifier = identifiers[k] AND t.name = names[i]{{in_use}} FOR UPDATE;
        EXIT WHEN FOUND;
        inserted := {{insert_row}}(identifiers[k], names[i], algorithms[i], '{}', to_timestamp(now),
          to_timestamp(now + {{margin}}));
      END LOOP;
      IF live THEN
        IF s[1] - now > least({{max_clock_skew}}, periods[i]) THEN
          s := {{rewind}};
          rewound := rewound + 1;
        END IF;
        at := greatest(now, s[1]);
        s := {{refresh}};
      ELSE
        at := now;
        s := {{start}};
      END IF;
      s := {{observe}};
      UPDATE {{table}} AS t SET
          algorithm = algorithms[i],
          state = s,
          watermarks = CASE WHEN live THEN t.watermarks ELSE '{}' END,
          metadata = CASE WHEN live THEN t.metadata ELSE '{}' END,
          request_count = CASE WHEN live THEN t.request_count ELSE 0 END,
          created_at = CASE WHEN live THEN t.created_at ELSE to_timestamp(now) END,
          last_accessed = to_timestamp(at),
          expires_at = {{until}}(at + {{reset_after}} + {{margin}})
        WHERE t.identifier = identifiers[k] AND t.name = names[i]{{in_place}};
    END LOOP;
  END LOOP;
  RETURN NEXT;
END $$;
