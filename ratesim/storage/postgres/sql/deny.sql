-- Adds what a node has counted; the caller sorts by key.
INSERT INTO {{denied}} AS d (identifier, name, denials, first_denied, last_denied)
  SELECT q.identifier, q.name, q.denials, statement_timestamp(), statement_timestamp()
  FROM unnest(%(identifiers)s::text[], %(names)s::text[], %(counts)s::bigint[]) AS q (identifier, name, denials)
  ON CONFLICT (identifier, name) DO UPDATE SET
    denials = d.denials + excluded.denials, last_denied = excluded.last_denied
