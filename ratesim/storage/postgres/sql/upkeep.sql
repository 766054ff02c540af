-- Whose turn upkeep is, and how far it has come: one row.
CREATE {{unlogged}}TABLE {{upkeep}} (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  taken_until timestamptz NOT NULL,
  position bigint NOT NULL          -- the block from which expired rows are looked for next
);
