-- Twin of sliding_window.py: the same float operations in the same order. s and p count from 1 here.
CREATE OR REPLACE FUNCTION ratesim_sliding_window_window(p float8[], now float8) RETURNS float8
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  start float8 := floor(now / p[2]) * p[2];
BEGIN
  IF start > now OR now >= start + p[2] THEN
    RETURN now;
  END IF;
  RETURN start;
END $$;

CREATE OR REPLACE FUNCTION ratesim_sliding_window_start(p float8[], now float8) RETURNS float8[]
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  RETURN ratesim_sliding_window_window(p, now) || array_fill(0::float8, ARRAY[p[3]::int + 1]);
END $$;

CREATE OR REPLACE FUNCTION ratesim_sliding_window_refresh(s float8[], p float8[], now float8) RETURNS float8[]
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  newest float8;
  oldest int := p[3]::int + 2;
  steps int;
BEGIN
  IF now >= s[1] + p[2] THEN
    newest := ratesim_sliding_window_window(p, now);
    steps := least(greatest(floor((newest - s[1]) / p[2] + 0.5), 1), oldest - 1)::int;
    FOR i IN REVERSE oldest..2 LOOP
      IF i - steps > 1 THEN
        s[i] := s[i - steps];
      ELSE
        s[i] := 0;
      END IF;
    END LOOP;
    s[1] := newest;
  END IF;
  RETURN s;
END $$;

CREATE OR REPLACE FUNCTION ratesim_sliding_window_rewind(s float8[], p float8[], now float8) RETURNS float8[]
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  s[1] := ratesim_sliding_window_window(p, now);
  RETURN s;
END $$;

CREATE OR REPLACE FUNCTION ratesim_sliding_window_available(s float8[], p float8[], now float8) RETURNS float8
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  oldest int := p[3]::int + 2;
  used float8 := 0;
  share float8 := 1 - (now - s[1]) / p[2];
BEGIN
  FOR i IN 2..oldest - 1 LOOP
    used := used + s[i];
  END LOOP;
  IF share > 0 THEN
    used := used + s[oldest] * share;
  END IF;
  RETURN p[1] - used;
END $$;

CREATE OR REPLACE FUNCTION ratesim_sliding_window_charge(s float8[], p float8[], cost float8, now float8) RETURNS float8[]
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  steps float8;
BEGIN
  IF now >= s[1] THEN
    s[2] := s[2] + cost;
  ELSE
    steps := ceil((s[1] - now) / p[2]);
    IF steps <= p[3] THEN
      s[2 + steps::int] := s[2 + steps::int] + cost;
    END IF;
  END IF;
  RETURN s;
END $$;

CREATE OR REPLACE FUNCTION ratesim_sliding_window_retry_after(s float8[], p float8[], cost float8, now float8) RETURNS float8
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  oldest int := p[3]::int + 2;
  used float8;
  fading float8;
BEGIN
  IF cost > p[1] THEN
    RETURN 'Infinity';
  END IF;
  FOR roll IN 0..oldest - 2 LOOP
    used := 0;
    FOR i IN 2..oldest - 1 - roll LOOP
      used := used + s[i];
    END LOOP;
    IF p[1] - used >= cost THEN
      fading := s[oldest - roll];
      IF p[1] - (used + fading) >= cost THEN
        RETURN s[1] + roll * p[2] - now;
      END IF;
      RETURN s[1] + (roll + 1 - (p[1] - used - cost) / fading) * p[2] - now;
    END IF;
  END LOOP;
  RETURN s[1] + (oldest - 1) * p[2] - now;
END $$;

CREATE OR REPLACE FUNCTION ratesim_sliding_window_reset_after(s float8[], p float8[], now float8) RETURNS float8
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  oldest int := p[3]::int + 2;
BEGIN
  FOR i IN 2..oldest LOOP
    IF s[i] > 0 THEN
      RETURN s[1] + (oldest + 1 - i) * p[2] - now;
    END IF;
  END LOOP;
  RETURN 0;
END $$;
