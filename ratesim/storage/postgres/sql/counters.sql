-- The plain counters of `increment`.
CREATE {{whole_unlogged}}TABLE {{counters}} (
  identifier text COLLATE "C" NOT NULL,
  count bigint NOT NULL,
  expires_at timestamptz NOT NULL,
{{period_column}}  PRIMARY KEY {{counter_arbiter}}
){{partition_by}}{{whole_storage}};
