SELECT q.ord, {{columns}}
FROM unnest(%(identifiers)s::text[], %(names)s::text[], %(nows)s::float8[]) WITH ORDINALITY AS q (identifier, name, now, ord)
JOIN {{table}} AS t ON t.identifier = q.identifier AND t.name = q.name
WHERE t.expires_at > to_timestamp(q.now) AND t.state <> '{}'
