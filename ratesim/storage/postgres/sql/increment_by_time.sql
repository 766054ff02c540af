-- Plain counters, as increment.sql, where an INSERT may not choose the partition.
CREATE OR REPLACE FUNCTION {{function}}(
  identifiers text[], amounts bigint[], windows float8[], nows float8[], {{session}}
) RETURNS TABLE (ord int, total bigint)
LANGUAGE plpgsql AS $$
DECLARE
  now float8;
  latest float8;
BEGIN
  {{set_session}}
  FOR k IN 1..cardinality(identifiers) LOOP
    ord := k;
    now := {{now}};
    latest := now + windows[k] + least({{max_clock_skew}}, windows[k]);
    LOOP
      UPDATE {{counters}} AS c SET
          count = CASE WHEN c.expires_at > to_timestamp(now) THEN c.count ELSE 0 END + amounts[k],
          expires_at = CASE WHEN c.expires_at > to_timestamp(now) AND c.expires_at <= {{until}}(latest)
            THEN c.expires_at ELSE {{until}}(now + windows[k]) END
        WHERE c.identifier = identifiers[k]{{counter_in_use}}
        RETURNING c.count INTO total;
      EXIT WHEN FOUND;
      total := amounts[k];
      EXIT WHEN {{insert_counter}}(identifiers[k], amounts[k], {{until}}(now + windows[k]), to_timestamp(now));
    END LOOP;
    RETURN NEXT;
  END LOOP;
END $$;
