SELECT coalesce(max(pg_relation_size(c.oid)), 0) / current_setting('block_size')::bigint
  FROM (SELECT to_regclass(%(rows)s) AS oid) AS root
  JOIN pg_class AS c ON c.relkind = 'r'
    AND c.oid IN (SELECT i.inhrelid FROM pg_inherits AS i WHERE i.inhparent = root.oid UNION ALL SELECT root.oid)
