WITH gone AS (
  DELETE FROM {{rows}} WHERE ctid = ANY (ARRAY(
    SELECT t.ctid FROM {{rows}} AS t
    WHERE t.ctid > %(after)s::tid AND t.expires_at <= to_timestamp({{cleanup_now}})
    LIMIT %(most)s FOR UPDATE SKIP LOCKED
  )) RETURNING ctid
)
SELECT count(*), max(ctid)::text FROM gone
