SELECT (SELECT count(*) FROM {{table}} WHERE state <> '{}') + (SELECT count(*) FROM {{counters}} WHERE identifier <> %(row)s),
  pg_total_relation_size(%(table)s::regclass) + pg_total_relation_size(%(counters)s::regclass)
