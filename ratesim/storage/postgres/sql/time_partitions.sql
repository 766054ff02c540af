-- Makes the missing partitions of the span in use or, if that is later, the present one, and of those after it. One whose rows
-- lie in the default partition already cannot be made before they are moved.
DO $$
DECLARE
  length interval := make_interval(secs => {{seconds}});
  start timestamptz;
  bounds text;
BEGIN
  FOR start IN
    SELECT DISTINCT greatest(p.period, {{this_period}} + k * length) FROM {{periods}} AS p, generate_series(0, {{ahead}}) AS k
  LOOP
    bounds := format('FOR VALUES FROM (%L) TO (%L)', start, start + length);
    CONTINUE WHEN EXISTS (
      SELECT FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
      WHERE i.inhparent = to_regclass('{{rows}}') AND pg_get_expr(c.relpartbound, c.oid) = bounds
    ) OR EXISTS (SELECT FROM {{rows}} AS t WHERE t.period >= start AND t.period < start + length);
    EXECUTE format(
      'CREATE {{unlogged}}TABLE %I.%I PARTITION OF {{rows}} %s{{storage}}',
      '{{namespace}}', '{{stem}}_t' || to_char(start AT TIME ZONE 'UTC', '{{name_format}}'), bounds
    );
  END LOOP;
END $$;
