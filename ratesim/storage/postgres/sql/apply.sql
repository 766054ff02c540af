-- Applies consumption decided elsewhere, in turn: MemoryStorage.charge_nowait and `undelivered_part` for each charge. The caller sorts the
-- charges by identifier and limit. Entries of charge k: the next counts[k] of times, costs and requests. By the server's clock
-- the entries are moved by as much as the sender's clock, in sents, differs from it.
CREATE OR REPLACE FUNCTION {{function}}(
  identifiers text[], names text[], params float8[], lengths int[], sizes int[],
  nodes text[], epochs bigint[], befores float8[], totals float8[],
  counts int[], times float8[], costs float8[], requests bigint[], sents float8[], {{session}}
) RETURNS TABLE (ord int, {{columns_and_types}})
LANGUAGE plpgsql AS $$
DECLARE
  p float8[];
  p_end int := 0;
  s float8[];
  live boolean;
  place timestamptz;
  inserted boolean;
  marks jsonb;
  known_epoch bigint;
  known float8;
  e int := 0;  -- entries before this charge's
  now float8;
  cost float8;
  upto float8;
  missing float8;
  seen boolean;  -- whether the entries so far had all been applied before
  merged bigint;
  at float8;
  moved float8;
BEGIN
  {{set_session}}
  {{share}}
  FOR k IN 1..cardinality(identifiers) LOOP
    p := params[p_end + 1:p_end + lengths[k]];
    p_end := p_end + lengths[k];
    moved := {{moved}};
    now := times[e + 1] + moved;
    LOOP
      SELECT t.state, t.watermarks, t.algorithm = '{{algorithm}}' AND t.state <> '{}'
          AND (sizes[k] = 0 OR cardinality(t.state) = sizes[k])
          AND t.expires_at > to_timestamp(now), {{place}}
        INTO s, marks, live, place FROM {{table}} AS t
        WHERE t.identifier = identifiers[k] AND t.name = names[k]{{in_use}} FOR UPDATE;
      EXIT WHEN FOUND;
      inserted := {{insert_row}}(identifiers[k], names[k], '{{algorithm}}', '{}', to_timestamp(now),
        to_timestamp(now + {{margin}}));
    END LOOP;
    IF live IS NOT TRUE THEN
      live := false;
      s := {{start}};
      marks := '{}';
    END IF;

    known_epoch := (marks -> nodes[k] ->> 0)::bigint;
    known := (marks -> nodes[k] ->> 1)::float8;
    IF known_epoch IS NULL OR known_epoch < epochs[k] THEN
      seen := false;
      known := NULL;
    ELSE
      seen := true;
    END IF;
    merged := 0;
    IF known IS NULL OR (known_epoch = epochs[k] AND known < totals[k]) THEN
      upto := befores[k];
      FOR j IN e + 1..e + counts[k] LOOP
        now := times[j] + moved;
        cost := costs[j];
        IF seen THEN
          missing := NULL;
          IF upto >= known THEN  -- the first that is new: with it what was lost below the charge
            missing := cost + greatest(befores[k] - known, 0);
          ELSIF upto + cost > known THEN
            missing := upto + cost - known;
          END IF;
          upto := upto + cost;
          CONTINUE WHEN missing IS NULL;
          cost := missing;
          seen := false;
        END IF;
        IF now > s[1] THEN
          at := now;
          s := {{refresh}};
        END IF;
        at := now;
        s := {{charge}};
        merged := merged + requests[j];
      END LOOP;
      marks := jsonb_set(marks, ARRAY[nodes[k]], jsonb_build_array(epochs[k], totals[k]));
    END IF;

    at := greatest(times[e + counts[k]] + moved, s[1]);
    UPDATE {{table}} AS t SET
        algorithm = '{{algorithm}}',
        state = s,
        watermarks = marks,
        metadata = CASE WHEN live THEN t.metadata ELSE '{}' END,
        request_count = CASE WHEN live THEN t.request_count ELSE 0 END + merged,
        created_at = CASE WHEN live THEN t.created_at ELSE to_timestamp(times[e + 1] + moved) END,
        last_accessed = to_timestamp(at),
        expires_at = {{until}}(at + {{reset_after}} + {{margin}})
      WHERE t.identifier = identifiers[k] AND t.name = names[k]{{in_place}}
      RETURNING {{columns}} INTO {{outputs}};
    ord := k;
    RETURN NEXT;
    e := e + counts[k];
  END LOOP;
END $$;
