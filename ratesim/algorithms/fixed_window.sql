-- Twin of fixed_window.py: the same float operations in the same order. s and p count from 1 here.
CREATE OR REPLACE FUNCTION ratesim_fixed_window_window(p float8[], now float8) RETURNS float8
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  start float8 := floor(now / p[2]) * p[2];
BEGIN
  IF start > now OR now >= start + p[2] THEN
    RETURN now;
  END IF;
  RETURN start;
END $$;

CREATE OR REPLACE FUNCTION ratesim_fixed_window_start(p float8[], now float8) RETURNS float8[]
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  RETURN ARRAY[ratesim_fixed_window_window(p, now), 0];
END $$;

CREATE OR REPLACE FUNCTION ratesim_fixed_window_refresh(s float8[], p float8[], now float8) RETURNS float8[]
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  IF now >= s[1] + p[2] THEN
    RETURN ARRAY[ratesim_fixed_window_window(p, now), 0];
  END IF;
  RETURN s;
END $$;

CREATE OR REPLACE FUNCTION ratesim_fixed_window_rewind(s float8[], p float8[], now float8) RETURNS float8[]
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  s[1] := ratesim_fixed_window_window(p, now);
  RETURN s;
END $$;

CREATE OR REPLACE FUNCTION ratesim_fixed_window_available(s float8[], p float8[], now float8) RETURNS float8
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  RETURN p[1] - s[2];
END $$;

CREATE OR REPLACE FUNCTION ratesim_fixed_window_charge(s float8[], p float8[], cost float8, now float8) RETURNS float8[]
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  IF now >= s[1] THEN
    s[2] := s[2] + cost;
  END IF;
  RETURN s;
END $$;

CREATE OR REPLACE FUNCTION ratesim_fixed_window_retry_after(s float8[], p float8[], cost float8, now float8) RETURNS float8
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  IF cost > p[1] THEN
    RETURN 'Infinity';
  END IF;
  RETURN s[1] + p[2] - now;
END $$;

CREATE OR REPLACE FUNCTION ratesim_fixed_window_reset_after(s float8[], p float8[], now float8) RETURNS float8
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  IF s[2] = 0 THEN
    RETURN 0;
  END IF;
  RETURN s[1] + p[2] - now;
END $$;
