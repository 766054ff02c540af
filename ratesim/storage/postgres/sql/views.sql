-- Views for operators. They find the tables of states and counters by name when they are read, so that these may be swapped or
-- dropped below them. What reads states has the rights of the owner, for those who may read the view.
CREATE OR REPLACE FUNCTION {{read_top_keys}}() RETURNS TABLE (
  identifier text, name text, request_count bigint, last_accessed timestamptz, algorithm text
)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT t.identifier, t.name, t.request_count, t.last_accessed, t.algorithm FROM {{table}} AS t
    WHERE t.state <> '{}' AND has_table_privilege(session_user, '{{top_keys}}', 'SELECT')
    ORDER BY t.request_count DESC LIMIT 100
$$;

CREATE OR REPLACE VIEW {{top_keys}} AS
  SELECT identifier, name, request_count, last_accessed, algorithm FROM {{read_top_keys}}();

CREATE OR REPLACE VIEW {{denials}} AS
  SELECT identifier, name, denials, first_denied, last_denied FROM {{denied}} ORDER BY denials DESC;

CREATE OR REPLACE VIEW {{partitions}} AS
  SELECT of.content, c.relname::text AS partition, pg_get_expr(c.relpartbound, c.oid) AS bounds,
    nullif(c.reltuples, -1)::bigint AS rows_estimate,
    pg_table_size(c.oid) AS table_bytes, pg_indexes_size(c.oid) AS index_bytes,
    pg_stat_get_live_tuples(c.oid) AS live_rows, pg_stat_get_dead_tuples(c.oid) AS dead_rows,
    pg_stat_get_tuples_updated(c.oid) AS updates, pg_stat_get_tuples_hot_updated(c.oid) AS hot_updates,
    pg_stat_get_last_vacuum_time(c.oid) AS last_vacuum, pg_stat_get_last_autovacuum_time(c.oid) AS last_autovacuum
  FROM (VALUES
      ('states', to_regclass('{{table}}')), ('counters', to_regclass('{{counters}}')), ('denied', to_regclass('{{denied}}'))
    ) AS of (content, root)
  JOIN pg_class AS c ON c.relkind = 'r'
    AND c.oid IN (SELECT i.inhrelid FROM pg_inherits AS i WHERE i.inhparent = of.root UNION ALL SELECT of.root)
  ORDER BY of.content, c.relname;

CREATE OR REPLACE VIEW {{sizes}} AS
  SELECT content, count(*) AS partitions, sum(rows_estimate)::bigint AS rows_estimate,
    sum(table_bytes)::bigint AS table_bytes, sum(index_bytes)::bigint AS index_bytes,
    sum(live_rows)::bigint AS live_rows, sum(dead_rows)::bigint AS dead_rows,
    sum(updates)::bigint AS updates, sum(hot_updates)::bigint AS hot_updates,
    (sum(hot_updates) / nullif(sum(updates), 0))::float8 AS hot_ratio,
    max(last_vacuum) AS last_vacuum, max(last_autovacuum) AS last_autovacuum
  FROM {{partitions}} GROUP BY content ORDER BY content;
