-- The partition in use of tables that are cut by time: one row. New rows get its period, which they keep.
CREATE TABLE IF NOT EXISTS {{periods}} (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  period timestamptz NOT NULL,      -- where the span in use begins
  span interval NOT NULL
);
INSERT INTO {{periods}} (period, span) VALUES ({{this_period}}, make_interval(secs => {{seconds}})) ON CONFLICT DO NOTHING;
