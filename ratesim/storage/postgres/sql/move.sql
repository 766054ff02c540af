-- Moves rows from a partition to the one in use; from the default partition, which is never dropped, expired rows are deleted.
-- A decider that waits for a moved row finds it gone, and meets it again where it is now.
WITH gone AS (
  DELETE FROM {{rows}} WHERE ctid = ANY (ARRAY(
    SELECT t.ctid FROM {{rows}} AS t
    WHERE t.ctid > %(after)s::tid AND (%(all)s OR t.expires_at > to_timestamp({{cleanup_now}}))
    LIMIT %(most)s FOR UPDATE SKIP LOCKED
  )) RETURNING ctid AS place, {{moved_columns}}
), moved AS (
  INSERT INTO {{whole}} ({{moved_columns}}, period) SELECT {{moved_columns}}, {{current_period}} FROM gone
  WHERE expires_at > to_timestamp({{cleanup_now}}) RETURNING 1
)
SELECT (SELECT count(*) FROM moved), (SELECT max(place)::text FROM gone)
