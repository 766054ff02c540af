-- One at a time: nodes that start create under the same lock.
SELECT pg_advisory_xact_lock(hashtextextended('ratesim {{table}}', 0));
-- A table that is there must be cut as the URL says, since `CREATE TABLE IF NOT EXISTS` would not tell.
SELECT set_config('ratesim.bounds', {{bounds}}, true);
DO $$
DECLARE
  found regclass;
BEGIN
  FOREACH found IN ARRAY ARRAY[to_regclass('{{table}}'), to_regclass('{{counters}}')] LOOP
    IF found IS NOT NULL AND (
      coalesce(pg_get_partkeydef(found), 'none') <> '{{cut}}' OR '{{cut}}' <> 'RANGE (period)' AND coalesce((
        SELECT string_agg(pg_get_expr(c.relpartbound, c.oid), ' ' ORDER BY pg_get_expr(c.relpartbound, c.oid) COLLATE "C")
        FROM pg_catalog.pg_inherits AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid WHERE i.inhparent = found
      ), '') <> current_setting('ratesim.bounds')
    ) THEN
      RAISE EXCEPTION 'table % is cut into partitions otherwise than the URL says: give its own partition= to ratesim schema, '
        'or let ratesim repartition convert it', found;
    END IF;
  END LOOP;
END $$;
