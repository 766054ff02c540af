-- Deletes expired rows that lie in some blocks of a table, or of each of its partitions; answers their number, and the seconds
-- that it took. What a decision has locked stays; what a decision has renewed meanwhile is seen as it is then.
WITH expired AS MATERIALIZED (
  SELECT {{key}} FROM {{rows}} AS t
    WHERE t.ctid >= %(first)s::tid AND t.ctid < %(end)s::tid AND t.expires_at <= to_timestamp({{cleanup_now}})
    LIMIT %(most)s FOR UPDATE SKIP LOCKED
), gone AS (
  DELETE FROM {{rows}} AS t USING expired AS e WHERE ({{key}}) = ({{expired_key}}) RETURNING 1
)
SELECT count(*), extract(epoch FROM clock_timestamp() - statement_timestamp())::float8 FROM gone
