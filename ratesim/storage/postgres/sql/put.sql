-- Replaces states; the caller sorts them by identifier and name, and gives each row once.
CREATE OR REPLACE FUNCTION {{function}}(
  identifiers text[], names text[], algorithms text[], states text[], watermarks text[], metadata text[],
  requests bigint[], created float8[], accessed float8[], nows float8[], ttls float8[], {{session}}
) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
  {{set_session}}
  INSERT INTO {{table}} AS t (
      identifier, name, algorithm, state, watermarks, metadata, request_count, created_at, last_accessed, expires_at
    )
    SELECT q.identifier, q.name, q.algorithm, q.state::float8[], q.watermarks::jsonb, q.metadata::jsonb, q.requests,
      to_timestamp(q.created), to_timestamp(q.accessed), {{until}}({{query_now}} + q.ttl)
    FROM unnest(
      identifiers, names, algorithms, states, watermarks, metadata, requests, created, accessed, nows, ttls
    ) AS q (identifier, name, algorithm, state, watermarks, metadata, requests, created, accessed, now, ttl)
    ON CONFLICT (identifier, name) DO UPDATE SET
      algorithm = excluded.algorithm, state = excluded.state, watermarks = excluded.watermarks,
      metadata = excluded.metadata, request_count = excluded.request_count, created_at = excluded.created_at,
      last_accessed = excluded.last_accessed, expires_at = excluded.expires_at;
END $$;
