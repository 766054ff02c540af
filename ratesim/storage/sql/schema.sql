-- One row is the state of one limit of one identifier. No index but the primary key: every decision moves expires_at, and an
-- index on it would turn each heap-only update into a full one; `cleanup_expired` reads the table once instead.
CREATE {{unlogged}} TABLE IF NOT EXISTS {{table}} (
  identifier text NOT NULL,
  name text NOT NULL DEFAULT '',
  algorithm text NOT NULL,
  state float8[] NOT NULL,
  watermarks jsonb NOT NULL DEFAULT '{}',
  metadata jsonb NOT NULL DEFAULT '{}',
  request_count bigint NOT NULL DEFAULT 0,
  created_at timestamptz NOT NULL,
  last_accessed timestamptz NOT NULL,
  expires_at timestamptz NOT NULL,
  PRIMARY KEY (identifier, name)
) WITH (fillfactor = 80);

CREATE {{unlogged}} TABLE IF NOT EXISTS {{table}}_counters (
  identifier text PRIMARY KEY,
  count bigint NOT NULL,
  expires_at timestamptz NOT NULL
) WITH (fillfactor = 80);
