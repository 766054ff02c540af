-- Twin of gcra.py: the same float operations in the same order. s and p count from 1 here.
CREATE OR REPLACE FUNCTION ratesim_gcra_start(p float8[], now float8) RETURNS float8[]
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  RETURN ARRAY[now, 0, p[3]];
END $$;

CREATE OR REPLACE FUNCTION ratesim_gcra_refresh(s float8[], p float8[], now float8) RETURNS float8[]
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  backlog float8 := s[2];
BEGIN
  IF s[3] <> p[3] THEN
    s[3] := p[3];
    IF backlog > p[3] THEN
      backlog := p[3];
    END IF;
  END IF;
  IF now > s[1] THEN
    backlog := backlog - (now - s[1]);
    s[1] := now;
  END IF;
  IF backlog < 0 THEN
    backlog := 0;
  END IF;
  s[2] := backlog;
  RETURN s;
END $$;

CREATE OR REPLACE FUNCTION ratesim_gcra_rewind(s float8[], p float8[], now float8) RETURNS float8[]
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  s[1] := now;
  RETURN s;
END $$;

CREATE OR REPLACE FUNCTION ratesim_gcra_available(s float8[], p float8[], now float8) RETURNS float8
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  RETURN p[1] - s[2] / p[2];
END $$;

CREATE OR REPLACE FUNCTION ratesim_gcra_charge(s float8[], p float8[], cost float8, now float8) RETURNS float8[]
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  s[2] := s[2] + cost * p[2];
  RETURN s;
END $$;

CREATE OR REPLACE FUNCTION ratesim_gcra_retry_after(s float8[], p float8[], cost float8, now float8) RETURNS float8
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  IF cost > p[1] THEN
    RETURN 'Infinity';
  END IF;
  RETURN s[2] - (p[1] - cost) * p[2];
END $$;

CREATE OR REPLACE FUNCTION ratesim_gcra_reset_after(s float8[], p float8[], now float8) RETURNS float8
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  RETURN s[2];
END $$;
