-- Apply consumption decided elsewhere, once however often it is sent (the rule: `unseen` in ratesim/storage/memory.py). All
-- charges are of one node and limit; `counts` says how many entries each has. Answers the merged rows.
CREATE OR REPLACE FUNCTION {{function}}(
  identifiers text[], limit_name text, a text, p float8[], expected int, margin float8, node text,
  epochs bigint[], befores float8[], counts int[], times float8[], costs float8[], requests int[]
) RETURNS TABLE (ord int, algorithm text, state float8[], watermarks jsonb, metadata jsonb, request_count bigint,
                 created_at timestamptz, last_accessed timestamptz)
LANGUAGE plpgsql AS $function$
DECLARE
  item record;
  kept record;
  s float8[];
  at float8;
  cost float8;
  total float8;
  upto float8;
  consumed float8;
  lost float8;
  known_epoch bigint;
  mark jsonb;
  marks jsonb;
  fresh float8;
  added bigint;
  born boolean;
  applied boolean;
  first_ int;
  last_ int;
BEGIN
  FOR item IN
    SELECT i AS position, identifiers[i] AS identifier,
           (SELECT coalesce(sum(counts[j]), 0) FROM generate_series(1, i - 1) AS j)::int AS skipped
    FROM generate_subscripts(identifiers, 1) AS i ORDER BY 2, 1
  LOOP
    first_ := item.skipped + 1;
    last_ := item.skipped + counts[item.position];
    INSERT INTO {{table}} AS t (identifier, name, algorithm, state, created_at, last_accessed, expires_at)
      VALUES (item.identifier, limit_name, a, '{}', to_timestamp(times[first_]), to_timestamp(times[first_]), '-infinity')
      ON CONFLICT DO NOTHING;
    SELECT t.* INTO kept FROM {{table}} t WHERE t.identifier = item.identifier AND t.name = limit_name FOR UPDATE;
    born := NOT (kept.algorithm = a AND cardinality(kept.state) = expected AND kept.expires_at > to_timestamp(times[first_]));
    IF born THEN
      at := times[first_];
      s := {{start}};
      marks := '{}';
    ELSE
      s := kept.state;
      marks := kept.watermarks;
    END IF;
    mark := marks -> node;
    known_epoch := (mark ->> 0)::bigint;
    consumed := (mark ->> 1)::float8;
    total := 0;
    FOR i IN first_..last_ LOOP
      total := total + costs[i];
    END LOOP;
    total := befores[item.position] + total;
    added := 0;
    IF known_epoch IS NULL OR known_epoch < epochs[item.position]
       OR (known_epoch = epochs[item.position] AND consumed < total) THEN
      upto := befores[item.position];
      IF known_epoch IS DISTINCT FROM epochs[item.position] THEN
        consumed := upto;  -- nothing of this epoch is known: all entries are due, and none is lost
      END IF;
      applied := false;
      FOR i IN first_..last_ LOOP
        cost := NULL;
        IF upto >= consumed THEN
          lost := 0;
          IF NOT applied THEN
            lost := greatest(befores[item.position] - consumed, 0);
          END IF;
          cost := costs[i] + lost;
        ELSIF upto + costs[i] > consumed THEN
          cost := upto + costs[i] - consumed;
        END IF;
        IF cost IS NOT NULL THEN
          applied := true;
          at := times[i];
          IF at > s[1] THEN
            s := {{refresh}};
          END IF;
          s := {{charge}};
          added := added + requests[i];
        END IF;
        upto := upto + costs[i];
      END LOOP;
      marks := marks || jsonb_build_object(node, jsonb_build_array(epochs[item.position], total));
    END IF;
    at := greatest(times[last_], s[1]);
    fresh := {{fresh_after}};
    UPDATE {{table}} t SET
      algorithm = a,
      state = s,
      watermarks = marks,
      metadata = CASE WHEN born THEN '{}' ELSE t.metadata END,
      request_count = CASE WHEN born THEN added ELSE t.request_count + added END,
      created_at = CASE WHEN born THEN to_timestamp(times[first_]) ELSE t.created_at END,
      last_accessed = to_timestamp(at),
      expires_at = to_timestamp(at + fresh + margin)
    WHERE t.identifier = item.identifier AND t.name = limit_name
    RETURNING t.algorithm, t.state, t.watermarks, t.metadata, t.request_count, t.created_at, t.last_accessed
    INTO algorithm, state, watermarks, metadata, request_count, created_at, last_accessed;
    ord := item.position;
    RETURN NEXT;
  END LOOP;
END $function$;
