INSERT INTO {{table}} (identifier, name, algorithm, state, watermarks, metadata, request_count, created_at, last_accessed, expires_at)
SELECT q.identifier, q.name, q.algorithm, q.state::float8[], q.watermarks::jsonb, q.metadata::jsonb, q.request_count,
  to_timestamp(q.created_at), to_timestamp(q.last_accessed), ratesim_until(q.expires_at)
FROM unnest(
  %(identifiers)s::text[], %(names)s::text[], %(algorithms)s::text[], %(states)s::text[], %(watermarks)s::text[],
  %(metadata)s::text[], %(request_counts)s::bigint[], %(created)s::float8[], %(accessed)s::float8[], %(expires)s::float8[]
) AS q (identifier, name, algorithm, state, watermarks, metadata, request_count, created_at, last_accessed, expires_at)
ON CONFLICT (identifier, name) DO UPDATE SET
  algorithm = excluded.algorithm, state = excluded.state, watermarks = excluded.watermarks, metadata = excluded.metadata,
  request_count = excluded.request_count, created_at = excluded.created_at, last_accessed = excluded.last_accessed,
  expires_at = excluded.expires_at
