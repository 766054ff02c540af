-- The partitions of a table that are not in use any more, or never are: name, whether it is the default one, and whether its
-- span ended a span before the one in use began. The oldest are first.
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname), b.upper IS NULL, b.upper IS NULL OR b.upper <= p.period - p.span
FROM {{periods}} AS p CROSS JOIN pg_inherits AS i
JOIN pg_class AS c ON c.oid = i.inhrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
  SELECT (regexp_match(pg_get_expr(c.relpartbound, c.oid), 'TO \(''(.*)''\)'))[1]::timestamptz
) AS b (upper)
WHERE i.inhparent = to_regclass('{{rows}}') AND (b.upper IS NULL OR b.upper <= p.period)
ORDER BY b.upper
