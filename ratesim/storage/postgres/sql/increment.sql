-- Plain counters that live `windows` seconds from their first hit; the caller sorts them by identifier. One whose end is too
-- late by more than the skew was written by a wrong clock: its end is set anew.
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
    INSERT INTO {{counters}} AS c (identifier, count, expires_at)
      VALUES (identifiers[k], amounts[k], {{until}}(now + windows[k]))
      ON CONFLICT (identifier) DO UPDATE SET
        count = CASE WHEN c.expires_at > to_timestamp(now) THEN c.count ELSE 0 END + excluded.count,
        expires_at = CASE WHEN c.expires_at > to_timestamp(now) AND c.expires_at <= {{until}}(latest)
          THEN c.expires_at ELSE excluded.expires_at END
      RETURNING c.count INTO total;
    RETURN NEXT;
  END LOOP;
END $$;
