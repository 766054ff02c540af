-- The first span from the present one on that has a partition in both tables.
SELECT q.start FROM {{periods}} AS p CROSS JOIN LATERAL (
  SELECT {{this_period}} + k * p.span AS start FROM generate_series(0, {{ahead}}) AS k
) AS q
WHERE (
  SELECT count(*) FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
  WHERE i.inhparent IN (to_regclass('{{table}}'), to_regclass('{{counters}}'))
    AND pg_get_expr(c.relpartbound, c.oid) = 'FOR VALUES FROM (' || quote_literal(q.start) || ') TO (' || quote_literal(q.start + p.span) || ')'
) = 2
ORDER BY q.start LIMIT 1
