-- Decides one request of one limit: MemoryStorage.decide. Answers (3 or 1, remaining, reset_after) where it is admitted, 3 if its
-- state was brought back; (0, now, 0) where it is denied, or (0, now, 1, the stored state), from which the node computes the
-- figures; (-1, 0, 0) where the state cannot be read.
CREATE OR REPLACE FUNCTION {{function}}(
  key text, cost float8, now float8, consume boolean, limit_name text, seconds float8, {{parameters}}, {{session}}
) RETURNS float8[]
LANGUAGE plpgsql AS $$
DECLARE
  setting text;
  {{decide_variables}}
BEGIN
  {{set_own_session}}
  skew := least({{max_clock_skew}}, seconds);
  {{set_now}}
  {{decide_row}}
  IF verdict = 1 THEN
    IF back AND consume THEN
      verdict := 3;
    END IF;
    RETURN ARRAY[verdict, room, fresh];
  ELSIF verdict < 0 THEN
    RETURN ARRAY[verdict, 0, 0];
  ELSIF live THEN
    RETURN ARRAY[verdict, now, 1] || stored;
  END IF;
  RETURN ARRAY[verdict, now, 0];
END $$;
