-- Reads states; a row with state '{}' was inserted only to be locked.
CREATE OR REPLACE FUNCTION {{function}}(
  identifiers text[], names text[], nows float8[], {{session}}
) RETURNS TABLE (ord int, {{columns_and_types}})
LANGUAGE plpgsql AS $$
BEGIN
  {{set_session}}
  RETURN QUERY SELECT q.ord::int, {{columns}}
    FROM unnest(identifiers, names, nows) WITH ORDINALITY AS q (identifier, name, now, ord)
    JOIN {{table}} AS t ON t.identifier = q.identifier AND t.name = q.name
    WHERE t.expires_at > to_timestamp({{query_now}}) AND t.state <> '{}';
END $$;
