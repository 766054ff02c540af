-- Makes the partitions of the span in use, of the present one, and of those after it.
DO $$
DECLARE
  span interval := make_interval(secs => {{seconds}});
  start timestamptz;
BEGIN
  FOR start IN
    SELECT p.period FROM {{periods}} AS p UNION SELECT {{this_period}} + k * span FROM generate_series(0, {{ahead}}) AS k
  LOOP
    EXECUTE format(
      'CREATE {{unlogged}}TABLE IF NOT EXISTS %I.%I PARTITION OF {{rows}} FOR VALUES FROM (%L) TO (%L){{storage}}',
      '{{namespace}}', '{{stem}}_t' || to_char(start AT TIME ZONE 'UTC', '{{name_format}}'), start, start + span
    );
  END LOOP;
END $$;
