-- Twin of token_bucket.py: the same float operations in the same order. s and p count from 1 here.
CREATE OR REPLACE FUNCTION ratesim_token_bucket_start(p float8[], now float8) RETURNS float8[]
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  RETURN ARRAY[now, p[1]];
END $$;

CREATE OR REPLACE FUNCTION ratesim_token_bucket_refresh(s float8[], p float8[], now float8) RETURNS float8[]
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  tokens float8 := s[2];
BEGIN
  IF now > s[1] THEN
    tokens := tokens + (now - s[1]) * p[2];
    s[1] := now;
  END IF;
  IF tokens > p[1] THEN
    tokens := p[1];
  END IF;
  s[2] := tokens;
  RETURN s;
END $$;

CREATE OR REPLACE FUNCTION ratesim_token_bucket_rewind(s float8[], p float8[], now float8) RETURNS float8[]
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  s[1] := now;
  RETURN s;
END $$;

CREATE OR REPLACE FUNCTION ratesim_token_bucket_available(s float8[], p float8[], now float8) RETURNS float8
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  RETURN s[2];
END $$;

CREATE OR REPLACE FUNCTION ratesim_token_bucket_charge(s float8[], p float8[], cost float8, now float8) RETURNS float8[]
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  s[2] := s[2] - cost;
  RETURN s;
END $$;

CREATE OR REPLACE FUNCTION ratesim_token_bucket_retry_after(s float8[], p float8[], cost float8, now float8) RETURNS float8
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  IF cost > p[1] THEN
    RETURN 'Infinity';
  END IF;
  RETURN (cost - s[2]) / p[2];
END $$;

CREATE OR REPLACE FUNCTION ratesim_token_bucket_reset_after(s float8[], p float8[], now float8) RETURNS float8
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  RETURN (p[1] - s[2]) / p[2];
END $$;
