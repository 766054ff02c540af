-- Twin of leaky_bucket.py: the same float operations in the same order. s and p count from 1 here.
CREATE OR REPLACE FUNCTION ratesim_leaky_bucket_start(p float8[], now float8) RETURNS float8[]
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  RETURN ARRAY[now, 0, p[1]];
END $$;

CREATE OR REPLACE FUNCTION ratesim_leaky_bucket_refresh(s float8[], p float8[], now float8) RETURNS float8[]
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  volume float8 := s[2];
BEGIN
  IF s[3] <> p[1] THEN
    s[3] := p[1];
    IF volume > p[1] THEN
      volume := p[1];
    END IF;
  END IF;
  IF now > s[1] THEN
    volume := volume - (now - s[1]) * p[2];
    s[1] := now;
  END IF;
  IF volume < 0 THEN
    volume := 0;
  END IF;
  s[2] := volume;
  RETURN s;
END $$;

CREATE OR REPLACE FUNCTION ratesim_leaky_bucket_rewind(s float8[], p float8[], now float8) RETURNS float8[]
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  s[1] := now;
  RETURN s;
END $$;

CREATE OR REPLACE FUNCTION ratesim_leaky_bucket_available(s float8[], p float8[], now float8) RETURNS float8
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  RETURN p[1] - s[2];
END $$;

CREATE OR REPLACE FUNCTION ratesim_leaky_bucket_charge(s float8[], p float8[], cost float8, now float8) RETURNS float8[]
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  s[2] := s[2] + cost;
  RETURN s;
END $$;

CREATE OR REPLACE FUNCTION ratesim_leaky_bucket_retry_after(s float8[], p float8[], cost float8, now float8) RETURNS float8
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  IF cost > p[1] THEN
    RETURN 'Infinity';
  END IF;
  RETURN (s[2] - (p[1] - cost)) / p[2];
END $$;

CREATE OR REPLACE FUNCTION ratesim_leaky_bucket_reset_after(s float8[], p float8[], now float8) RETURNS float8
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  RETURN s[2] / p[2];
END $$;
