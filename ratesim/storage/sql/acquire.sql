-- Admit each item's cost under all limits and charge them, or deny it and change nothing. {{start}} and the like stand for
-- the rules of the algorithms that this function can run (ratesim/storage/postgres.py).
-- Items are taken in the order of their identifiers, so that two batches never wait for each other.
CREATE OR REPLACE FUNCTION {{function}}(
  identifiers text[], costs float8[], nows float8[], consume boolean,
  names text[], algorithms text[], lengths int[], parameters float8[], expected int[], margin float8
) RETURNS TABLE (ord int, allowed boolean, decider int, remaining float8, retry_after float8, reset_after float8)
LANGUAGE plpgsql AS $function$
DECLARE
  item record;
  kept record;
  limits int := cardinality(names);
  a text;
  s float8[];
  p float8[];
  at float8;
  now float8;
  cost float8;
  spare float8;
  retry float8;
  fresh float8;
  admit boolean;
  offset_ int;
  states float8[];  -- the worked-on states of all limits, one after the other
  sizes int[];
  reached int;
  ats float8[];
  lefts float8[];
  born boolean[];
  k int;
BEGIN
  FOR item IN
    SELECT i AS position, identifiers[i] AS identifier FROM generate_subscripts(identifiers, 1) AS i ORDER BY 2, 1
  LOOP
    now := nows[item.position];
    cost := costs[item.position];
    admit := true;
    states := '{}';
    sizes := '{}';
    ats := '{}';
    lefts := '{}';
    born := '{}';
    offset_ := 0;
    FOR k IN 1..limits LOOP
      a := algorithms[k];
      p := parameters[offset_ + 1 : offset_ + lengths[k]];
      offset_ := offset_ + lengths[k];
      IF consume THEN
        SELECT t.algorithm, t.state, t.expires_at INTO kept FROM {{table}} t
          WHERE t.identifier = item.identifier AND t.name = names[k] FOR UPDATE;
        IF NOT FOUND THEN
          -- A row without a state: something to lock, which says nothing yet.
          INSERT INTO {{table}} (identifier, name, algorithm, state, created_at, last_accessed, expires_at)
            VALUES (item.identifier, names[k], a, '{}', to_timestamp(now), to_timestamp(now), to_timestamp(now))
            ON CONFLICT DO NOTHING;
          SELECT t.algorithm, t.state, t.expires_at INTO kept FROM {{table}} t
            WHERE t.identifier = item.identifier AND t.name = names[k] FOR UPDATE;
        END IF;
      ELSE
        SELECT t.algorithm, t.state, t.expires_at INTO kept FROM {{table}} t
          WHERE t.identifier = item.identifier AND t.name = names[k];
      END IF;
      IF FOUND AND kept.algorithm = a AND cardinality(kept.state) = expected[k] AND kept.expires_at > to_timestamp(now) THEN
        s := kept.state;
        at := greatest(now, s[1]);
        s := {{refresh}};
        born := born || false;
      ELSE
        at := now;
        s := {{start}};
        born := born || true;
      END IF;
      spare := {{available}};
      admit := admit AND spare >= cost;
      states := states || s;
      sizes := sizes || cardinality(s);
      ats := ats || at;
      lefts := lefts || spare;
    END LOOP;

    ord := item.position;
    allowed := admit;
    decider := NULL;
    offset_ := 0;
    reached := 0;
    FOR k IN 1..limits LOOP
      a := algorithms[k];
      p := parameters[offset_ + 1 : offset_ + lengths[k]];
      offset_ := offset_ + lengths[k];
      s := states[reached + 1 : reached + sizes[k]];
      reached := reached + sizes[k];
      at := ats[k];
      spare := lefts[k];
      retry := 0;
      IF admit AND consume THEN
        s := {{charge}};
        spare := {{available}};
      ELSIF spare < cost THEN
        retry := {{retry_after}} + (at - now);
        IF retry < 1e12 THEN
          retry := ceil(retry * 1e6) / 1e6;
        END IF;
      END IF;
      fresh := {{fresh_after}} + (at - now);
      IF admit AND consume THEN
        UPDATE {{table}} t SET
          algorithm = a,
          state = s,
          request_count = CASE WHEN born[k] THEN 1 ELSE t.request_count + 1 END,
          watermarks = CASE WHEN born[k] THEN '{}' ELSE t.watermarks END,
          metadata = CASE WHEN born[k] THEN '{}' ELSE t.metadata END,
          created_at = CASE WHEN born[k] THEN to_timestamp(now) ELSE t.created_at END,
          last_accessed = to_timestamp(at),
          expires_at = to_timestamp(now + fresh + margin)
        WHERE t.identifier = item.identifier AND t.name = names[k];
      END IF;
      spare := greatest(spare, 0);
      IF decider IS NULL OR retry > retry_after OR (retry = retry_after AND retry = 0 AND spare < remaining) THEN
        decider := k - 1;
        remaining := spare;
        retry_after := retry;
        reset_after := fresh;
      END IF;
    END LOOP;
    RETURN NEXT;
  END LOOP;
END $function$;
