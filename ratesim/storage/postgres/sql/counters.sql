-- The plain counters of `increment`.
CREATE {{unlogged}}TABLE {{counters}} (
  identifier text COLLATE "C" PRIMARY KEY,
  count bigint NOT NULL,
  expires_at timestamptz NOT NULL
) WITH (fillfactor = 80);
