-- Decides requests of one limit in turn, which the caller sorts by identifier. Answers what acquire_one.sql does, in columns: all
-- first figures, all second ones, all third ones, then the stored states of those that are denied.
CREATE OR REPLACE FUNCTION {{function}}(
  keys text[], costs float8[], nows float8[], consume boolean, limit_name text, seconds float8, {{parameters}}, {{session}}
) RETURNS float8[]
LANGUAGE plpgsql AS $$
DECLARE
  setting text;
  {{decide_variables}}
  key text;
  cost float8;
  now float8;
  n int;
  answers float8[];
  denied float8[] := '{}';
BEGIN
  {{set_own_session}}
  skew := least({{max_clock_skew}}, seconds);
  n := cardinality(keys);
  answers := array_fill(0::float8, ARRAY[3 * n]);
  {{share}}
  FOR k IN 1..n LOOP
    key := keys[k];
    cost := costs[k];
    now := nows[k];
    {{set_now}}
    {{decide_row}}
    IF verdict = 1 THEN
      IF back AND consume THEN
        verdict := 3;
      END IF;
      answers[n + k] := room;
      answers[2 * n + k] := fresh;
    ELSIF verdict = 0 THEN
      answers[n + k] := now;
      IF live THEN
        answers[2 * n + k] := 1;
        denied := denied || stored;
      END IF;
    END IF;
    answers[k] := verdict;
  END LOOP;
  RETURN answers || denied;
END $$;
