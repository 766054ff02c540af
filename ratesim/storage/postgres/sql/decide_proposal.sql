-- What a row would become: the three figures of acquire_one.sql, the time of the state, requests, the state. A first figure of 3
-- says that the row must be locked first. Requests: 0 adds to the row, 1 replaces it, -1 changes nothing.
CREATE OR REPLACE FUNCTION {{function}}(
  stored float8[], live boolean, cost float8, now float8, consume boolean, skew float8, {{parameters}}
) RETURNS float8[]
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  back boolean;
  at float8;
  room float8;
  fresh float8;
  verdict float8;
  {{variables}}
BEGIN
  {{decide}}
  IF back AND consume THEN
    RETURN ARRAY[3, 0, 0, now, -1]::float8[] || stored;
  ELSIF verdict = 1 THEN
    RETURN {{proposal}};
  ELSIF verdict < 0 THEN
    RETURN ARRAY[verdict, 0, 0];
  ELSIF live THEN
    RETURN ARRAY[verdict, now, 1];
  END IF;
  RETURN ARRAY[verdict, now, 0];
END $$;
