-- The states, one row for each limit of an identifier.
-- Nothing but the primary keys is indexed: with an index on expires_at, which changes with every admitted request, no update
-- could be heap-only (HOT), and every decision would write to both indexes. Cleanup reads the table instead (cleanup.sql).
CREATE {{unlogged}}TABLE {{table}} (
  identifier text COLLATE "C" NOT NULL,
  name text COLLATE "C" NOT NULL DEFAULT '',
  algorithm text NOT NULL,
  state float8[] NOT NULL,                    -- '{}' in a row that was inserted only to be locked
  watermarks jsonb NOT NULL DEFAULT '{}',     -- {node: [epoch, consumed]}
  metadata jsonb NOT NULL DEFAULT '{}',
  request_count bigint NOT NULL DEFAULT 0,
  created_at timestamptz NOT NULL,
  last_accessed timestamptz NOT NULL,
  expires_at timestamptz NOT NULL,
  PRIMARY KEY (identifier, name)
) WITH (fillfactor = 80);  -- room on each page for the next version of its rows, which HOT needs
