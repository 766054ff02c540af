SELECT (SELECT count(*) FROM {{table}} WHERE state <> '{}') + (SELECT count(*) FROM {{counters}})
