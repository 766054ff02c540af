-- The states, one row for each limit of an identifier.
-- Nothing but the primary keys is indexed: with an index on expires_at, which changes with every admitted request, no update
-- could be heap-only (HOT), and every decision would write to both indexes. Cleanup reads the table instead (cleanup.sql).
CREATE {{whole_unlogged}}TABLE {{table}} (
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
  expected float8[],                          -- the state that a proposed row was decided on; NULL in a stored one
{{period_column}}  PRIMARY KEY {{arbiter}}
){{partition_by}}{{whole_storage}};  -- fillfactor: room on each page for the next version of its rows, which HOT needs
