-- Twin of sliding_log.py: the same float operations in the same order. s and p count from 1 here, and s is the stored form:
-- its time, the sum, then time and cost of each entry, oldest first.
CREATE OR REPLACE FUNCTION ratesim_sliding_log_start(p float8[], now float8) RETURNS float8[]
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  RETURN ARRAY[now, 0];
END $$;

CREATE OR REPLACE FUNCTION ratesim_sliding_log_refresh(s float8[], p float8[], now float8) RETURNS float8[]
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  length int := cardinality(s);
  first int := 3;
BEGIN
  s[1] := now;
  WHILE first < length AND now >= s[first] + p[2] LOOP
    s[2] := s[2] - s[first + 1];
    first := first + 2;
  END LOOP;
  IF first > length AND length > 2 THEN
    s[2] := 0;
  END IF;
  IF first > 3 THEN
    RETURN s[1:2] || s[first:length];
  END IF;
  RETURN s;
END $$;

CREATE OR REPLACE FUNCTION ratesim_sliding_log_rewind(s float8[], p float8[], now float8) RETURNS float8[]
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  place int := cardinality(s) + 1;
  cost float8 := 0;
BEGIN
  s[1] := now;
  WHILE place > 3 LOOP
    EXIT WHEN s[place - 2] < now;
    place := place - 2;
    cost := s[place + 1] + cost;
  END LOOP;
  IF place > cardinality(s) THEN
    RETURN s;
  END IF;
  RETURN s[:place - 1] || ARRAY[now, cost];
END $$;

CREATE OR REPLACE FUNCTION ratesim_sliding_log_available(s float8[], p float8[], now float8) RETURNS float8
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  RETURN p[1] - s[2];
END $$;

CREATE OR REPLACE FUNCTION ratesim_sliding_log_charge(s float8[], p float8[], cost float8, now float8) RETURNS float8[]
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  place int := cardinality(s) + 1;
BEGIN
  IF cost = 0 OR now + p[2] <= s[1] THEN
    RETURN s;
  END IF;
  s[2] := s[2] + cost;
  WHILE place > 3 LOOP
    EXIT WHEN s[place - 2] <= now;
    place := place - 2;
  END LOOP;
  IF place > 3 AND s[place - 2] = now THEN
    s[place - 1] := s[place - 1] + cost;
    RETURN s;
  END IF;
  RETURN s[:place - 1] || ARRAY[now, cost] || s[place:];
END $$;

CREATE OR REPLACE FUNCTION ratesim_sliding_log_retry_after(s float8[], p float8[], cost float8, now float8) RETURNS float8
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  length int := cardinality(s);
  used float8 := s[2];
BEGIN
  IF cost > p[1] THEN
    RETURN 'Infinity';
  END IF;
  FOR i IN 3..length - 1 BY 2 LOOP
    used := used - s[i + 1];
    IF i + 1 = length OR p[1] - used >= cost THEN
      RETURN s[i] + p[2] - now;
    END IF;
  END LOOP;
  RETURN 0;
END $$;

CREATE OR REPLACE FUNCTION ratesim_sliding_log_reset_after(s float8[], p float8[], now float8) RETURNS float8
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  IF cardinality(s) = 2 THEN
    RETURN 0;
  END IF;
  RETURN s[cardinality(s) - 1] + p[2] - now;
END $$;
