SELECT sum(s.table_bytes + s.index_bytes)::bigint, sum(s.table_bytes)::bigint, sum(s.live_rows)::bigint,
    sum(s.dead_rows)::bigint, max(s.hot_ratio) FILTER (WHERE s.content = 'states'),
    max(s.partitions) FILTER (WHERE s.content = 'states')
  FROM {{sizes}} AS s WHERE s.content <> 'denied'
