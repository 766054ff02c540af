-- Deletes expired rows that lie in some blocks of a table, or of each of its partitions. What a decision has locked stays; what
-- a decision has renewed meanwhile is seen as it is then.
WITH expired AS MATERIALIZED (
  SELECT {{key}} FROM {{rows}} AS t
    WHERE t.ctid >= %(first)s::tid AND t.ctid < %(end)s::tid AND t.expires_at <= to_timestamp({{cleanup_now}})
    LIMIT %(most)s FOR UPDATE SKIP LOCKED
)
DELETE FROM {{rows}} AS t USING expired AS e WHERE ({{key}}) = ({{expired_key}})
