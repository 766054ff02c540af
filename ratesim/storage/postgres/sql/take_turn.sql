INSERT INTO {{upkeep}} AS u (taken_until, position)
  VALUES (clock_timestamp() + %(seconds)s * interval '1 second', 0)
  ON CONFLICT (one) DO UPDATE SET taken_until = excluded.taken_until WHERE u.taken_until <= clock_timestamp()
  RETURNING extract(epoch FROM clock_timestamp())::float8, position
