-- Replaces states in turn, as put.sql, where an INSERT may not choose the partition.
CREATE OR REPLACE FUNCTION {{function}}(
  identifiers text[], names text[], algorithms text[], states text[], watermarks text[], metadata text[],
  requests bigint[], created float8[], accessed float8[], nows float8[], ttls float8[], {{session}}
) RETURNS void
LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
  now float8;
BEGIN
  {{set_session}}
  FOR k IN 1..cardinality(identifiers) LOOP
    now := {{now}};
    LOOP
      UPDATE {{table}} AS t SET
          algorithm = algorithms[k], state = states[k]::float8[], watermarks = watermarks[k]::jsonb,
          metadata = metadata[k]::jsonb, request_count = requests[k], created_at = to_timestamp(created[k]),
          last_accessed = to_timestamp(accessed[k]), expires_at = {{until}}(now + ttls[k])
        WHERE t.identifier = identifiers[k] AND t.name = names[k]{{in_use}};
      EXIT WHEN FOUND;
      PERFORM {{insert_row}}(identifiers[k], names[k], algorithms[k], '{}', to_timestamp(now), to_timestamp(now));
    END LOOP;
  END LOOP;
END $$;
