-- Twin of adaptive.py: the same float operations in the same order. s and p count from 1 here.
CREATE OR REPLACE FUNCTION ratesim_adaptive_window(p float8[], now float8) RETURNS float8
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  start float8 := floor(now / p[2]) * p[2];
BEGIN
  IF start > now OR now >= start + p[2] THEN
    RETURN now;
  END IF;
  RETURN start;
END $$;

CREATE OR REPLACE FUNCTION ratesim_adaptive_adjusted_limit(s float8[], p float8[]) RETURNS float8
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  moving float8 := least(greatest(s[3], p[3]), p[4]);
BEGIN
  IF s[5] > 0 THEN
    IF s[4] >= p[5] THEN
      IF s[6] >= p[7] * moving THEN
        moving := moving + p[8];
      END IF;
    ELSIF s[4] < p[6] THEN
      moving := moving * p[9];
    END IF;
  END IF;
  RETURN least(greatest(moving, p[3]), p[4]);
END $$;

CREATE OR REPLACE FUNCTION ratesim_adaptive_start(p float8[], now float8) RETURNS float8[]
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  RETURN ARRAY[ratesim_adaptive_window(p, now), now, least(greatest(p[1], p[3]), p[4]), 1, 0, 0]
    || array_fill(0::float8, ARRAY[16]);
END $$;

CREATE OR REPLACE FUNCTION ratesim_adaptive_refresh(s float8[], p float8[], now float8) RETURNS float8[]
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  newest float8;
  steps int;
BEGIN
  IF now >= s[2] + 16 * p[2] THEN
    RETURN ratesim_adaptive_start(p, now);
  END IF;
  IF now >= s[1] + p[2] THEN
    newest := ratesim_adaptive_window(p, now);
    steps := least(greatest(floor((newest - s[1]) / p[2] + 0.5), 1), 16)::int;
    s[3] := ratesim_adaptive_adjusted_limit(s, p);
    FOR i IN REVERSE 15..0 LOOP
      IF i >= steps THEN
        s[7 + i] := s[7 + i - steps];
      ELSE
        s[7 + i] := 0;
      END IF;
    END LOOP;
    s[6 + steps] := s[6];
    s[1] := newest;
    s[5] := 0;
    s[6] := 0;
  ELSE
    s[3] := least(greatest(s[3], p[3]), p[4]);
  END IF;
  RETURN s;
END $$;

CREATE OR REPLACE FUNCTION ratesim_adaptive_rewind(s float8[], p float8[], now float8) RETURNS float8[]
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  s[1] := ratesim_adaptive_window(p, now);
  s[2] := least(s[2], now);
  RETURN s;
END $$;

CREATE OR REPLACE FUNCTION ratesim_adaptive_available(s float8[], p float8[], now float8) RETURNS float8
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  used float8 := s[6];
  share float8 := 1 - (now - s[1]) / p[2];
BEGIN
  IF share > 0 THEN
    used := used + s[7] * share;
  END IF;
  RETURN s[3] - used;
END $$;

CREATE OR REPLACE FUNCTION ratesim_adaptive_charge(s float8[], p float8[], cost float8, now float8) RETURNS float8[]
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  steps float8;
BEGIN
  s[2] := greatest(s[2], now);
  IF now >= s[1] THEN
    s[6] := s[6] + cost;
  ELSE
    steps := ceil((s[1] - now) / p[2]);
    IF steps <= 16 THEN
      s[6 + steps::int] := s[6 + steps::int] + cost;
    END IF;
  END IF;
  RETURN s;
END $$;

CREATE OR REPLACE FUNCTION ratesim_adaptive_observe(s float8[], p float8[], score float8, now float8) RETURNS float8[]
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  gap float8 := score - s[4];
BEGIN
  s[2] := greatest(s[2], now);
  IF gap <= -1e-9::float8 OR gap >= 1e-9::float8 THEN
    s[4] := s[4] + p[10] * gap;
  END IF;
  s[5] := s[5] + 1;
  RETURN s;
END $$;

CREATE OR REPLACE FUNCTION ratesim_adaptive_retry_after(s float8[], p float8[], cost float8, now float8) RETURNS float8
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  room float8 := s[3] - s[6];
  moving float8;
BEGIN
  IF room > cost THEN
    RETURN s[1] + (1 - (room - cost) / s[7]) * p[2] - now;
  END IF;
  moving := ratesim_adaptive_adjusted_limit(s, p);
  IF moving - s[6] >= cost THEN
    RETURN s[1] + p[2] - now;
  END IF;
  IF moving >= cost THEN
    RETURN s[1] + (2 - (moving - cost) / s[6]) * p[2] - now;
  END IF;
  IF cost <= least(greatest(p[1], p[3]), p[4]) THEN
    RETURN s[2] + 16 * p[2] - now;
  END IF;
  RETURN 'Infinity';
END $$;

CREATE OR REPLACE FUNCTION ratesim_adaptive_reset_after(s float8[], p float8[], now float8) RETURNS float8
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  IF s[3] <> least(greatest(p[1], p[3]), p[4]) OR s[4] <> 1 OR s[5] > 0 THEN
    RETURN greatest(s[2] + 16 * p[2] - now, 0);
  END IF;
  IF s[6] > 0 THEN
    RETURN s[1] + 2 * p[2] - now;
  END IF;
  IF s[7] > 0 THEN
    RETURN s[1] + p[2] - now;
  END IF;
  RETURN 0;
END $$;
