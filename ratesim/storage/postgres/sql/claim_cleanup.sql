INSERT INTO {{counters}} AS c (identifier, count, expires_at)
  VALUES (%(row)s, 0, clock_timestamp() + %(interval)s * interval '1 second')
  ON CONFLICT (identifier) DO UPDATE SET expires_at = excluded.expires_at WHERE c.expires_at <= clock_timestamp()
  RETURNING extract(epoch FROM clock_timestamp())::float8
