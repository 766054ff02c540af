-- The same as far as a role knows it that may not read the views.
SELECT sum(pg_total_relation_size(c.oid))::bigint, sum(pg_table_size(c.oid))::bigint, sum(greatest(c.reltuples, 0))::bigint,
    NULL::bigint, NULL::float8, NULL::bigint
  FROM unnest(ARRAY[to_regclass('{{table}}'), to_regclass('{{counters}}')]) AS root (oid)
  JOIN pg_class AS c ON c.relkind = 'r'
    AND c.oid IN (SELECT i.inhrelid FROM pg_inherits AS i WHERE i.inhparent = root.oid UNION ALL SELECT root.oid)
