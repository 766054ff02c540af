-- Locks in the order in which decisions lock, then deletes.
CREATE OR REPLACE FUNCTION {{function}}(identifiers text[], {{session}}) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
  {{set_session}}
  PERFORM 1 FROM {{table}} AS t WHERE t.identifier = ANY (identifiers) ORDER BY t.identifier, t.name FOR UPDATE;
  DELETE FROM {{table}} AS t WHERE t.identifier = ANY (identifiers);
  PERFORM 1 FROM {{counters}} AS c WHERE c.identifier = ANY (identifiers) ORDER BY c.identifier FOR UPDATE;
  DELETE FROM {{counters}} AS c WHERE c.identifier = ANY (identifiers);
END $$;
