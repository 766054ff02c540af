-- Twin of first_hit_window.py: the same float operations in the same order. s and p count from 1 here.
CREATE OR REPLACE FUNCTION ratesim_first_hit_window_start(p float8[], now float8) RETURNS float8[]
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  RETURN ARRAY[now, 0];
END $$;

CREATE OR REPLACE FUNCTION ratesim_first_hit_window_refresh(s float8[], p float8[], now float8) RETURNS float8[]
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  IF s[2] = 0 OR now >= s[1] + p[2] THEN
    RETURN ARRAY[now, 0];
  END IF;
  RETURN s;
END $$;

CREATE OR REPLACE FUNCTION ratesim_first_hit_window_rewind(s float8[], p float8[], now float8) RETURNS float8[]
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  s[1] := now;
  RETURN s;
END $$;

CREATE OR REPLACE FUNCTION ratesim_first_hit_window_available(s float8[], p float8[], now float8) RETURNS float8
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  RETURN p[1] - s[2];
END $$;

CREATE OR REPLACE FUNCTION ratesim_first_hit_window_charge(s float8[], p float8[], cost float8, now float8) RETURNS float8[]
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  IF now + p[2] > s[1] THEN
    s[2] := s[2] + cost;
  END IF;
  RETURN s;
END $$;

CREATE OR REPLACE FUNCTION ratesim_first_hit_window_retry_after(s float8[], p float8[], cost float8, now float8) RETURNS float8
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  IF cost > p[1] THEN
    RETURN 'Infinity';
  END IF;
  RETURN s[1] + p[2] - now;
END $$;

CREATE OR REPLACE FUNCTION ratesim_first_hit_window_reset_after(s float8[], p float8[], now float8) RETURNS float8
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  IF s[2] = 0 THEN
    RETURN 0;
  END IF;
  RETURN s[1] + p[2] - now;
END $$;
