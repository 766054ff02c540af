-- Denied requests by key, as nodes have counted them: a decision writes nothing here.
CREATE {{unlogged}}TABLE {{denied}} (
  identifier text COLLATE "C" NOT NULL,
  name text COLLATE "C" NOT NULL,
  denials bigint NOT NULL,
  first_denied timestamptz NOT NULL,
  last_denied timestamptz NOT NULL,
  PRIMARY KEY (identifier, name)
) WITH (fillfactor = 80);
