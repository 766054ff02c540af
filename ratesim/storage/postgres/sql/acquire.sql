-- Decides requests of one set of limits in turn: MemoryStorage.decide for each. The caller sorts them by identifier, and the
-- limits by name, so that all transactions lock rows in one order and none deadlock.
-- A request is first tried without locks: a peek, or a request that is denied, ends there and writes nothing. One that would
-- be admitted is tried again on locked rows, and that answer holds. So is one whose state is too far ahead: it is brought back to
-- now, which is kept also when the request is denied.
CREATE OR REPLACE FUNCTION {{function}}(
  identifiers text[], costs float8[], nows float8[], consume boolean,
  names text[], algorithms text[], params float8[], lengths int[], sizes int[], periods float8[], {{session}}
) RETURNS TABLE (
  ord int, allowed boolean, decider int, remaining float8, retry_after float8, reset_after float8, rewound int
)
LANGUAGE plpgsql AS $$
DECLARE
  cost float8;
  now float8;
  locked boolean;
  algorithm text;
  p float8[];
  p_end int;
  s float8[];
  live boolean;
  place timestamptz;
  at float8;
  room float8;
  resets float8[];
  settled float8;
  later float8;
  seconds float8;
  micros float8;
  step float8;
  fresh float8;
  states float8[];  -- of all limits, one after another; state i ends at ends[i]
  ends int[];
  olds float8[];  -- the same, as they were stored
  old_ends int[];
  lives boolean[];
  backs boolean[];  -- whether the state was brought back
  ats float8[];
  rooms float8[];
  places timestamptz[];
  inserted boolean;
BEGIN
  {{set_session}}
  IF consume THEN
    {{share}}
  END IF;
  FOR k IN 1..cardinality(identifiers) LOOP
    cost := costs[k];
    now := {{now}};
    locked := false;
    LOOP
      allowed := true;
      rewound := 0;
      backs := '{}';
      states := '{}';
      ends := '{0}';
      olds := '{}';
      old_ends := '{0}';
      lives := '{}';
      ats := '{}';
      rooms := '{}';
      places := '{}';
      resets := '{}';
      p_end := 0;
      FOR i IN 1..cardinality(names) LOOP
        algorithm := algorithms[i];
        p := params[p_end + 1:p_end + lengths[i]];
        p_end := p_end + lengths[i];
        LOOP
          IF NOT locked THEN
            SELECT t.state, t.algorithm = algorithms[i] AND t.state <> '{}'
                AND (sizes[i] = 0 OR cardinality(t.state) = sizes[i])
                AND t.expires_at > to_timestamp(now), {{place}}
              INTO s, live, place FROM {{table}} AS t
              WHERE t.identifier = identifiers[k] AND t.name = names[i]{{in_use}};
            EXIT;
          END IF;
          SELECT t.state, t.algorithm = algorithms[i] AND t.state <> '{}'
              AND (sizes[i] = 0 OR cardinality(t.state) = sizes[i])
              AND t.expires_at > to_timestamp(now), {{place}}
            INTO s, live, place FROM {{table}} AS t
            WHERE t.identifier = identifiers[k] AND t.name = names[i]{{in_use}} FOR UPDATE;
          EXIT WHEN FOUND;
          inserted := {{insert_row}}(identifiers[k], names[i], algorithms[i], '{}', to_timestamp(now),
            to_timestamp(now + {{margin}}));  -- or another transaction was first: a row is there now
        END LOOP;
        backs := backs || coalesce(live AND s[1] - now > least({{max_clock_skew}}, periods[i]), false);
        IF live THEN
          IF backs[i] THEN
            s := {{rewind}};
            rewound := rewound + 1;
          END IF;
          olds := olds || s;
          at := greatest(now, s[1]);
          s := {{refresh}};
        ELSE
          at := now;
          s := {{start}};
        END IF;
        room := {{available}};
        allowed := allowed AND room >= cost;
        old_ends := old_ends || cardinality(olds);
        states := states || s;
        ends := ends || cardinality(states);
        lives := lives || coalesce(live, false);
        ats := ats || at;
        rooms := rooms || room;
        places := places || place;
      END LOOP;
      EXIT WHEN locked OR NOT consume OR NOT (allowed OR rewound > 0);
      locked := true;
    END LOOP;

    ord := k;
    decider := NULL;
    p_end := 0;
    FOR i IN 1..cardinality(names) LOOP
      algorithm := algorithms[i];
      p := params[p_end + 1:p_end + lengths[i]];
      p_end := p_end + lengths[i];
      s := states[ends[i] + 1:ends[i + 1]];
      at := ats[i];
      room := rooms[i];
      place := places[i];
      IF allowed AND consume THEN
        s := {{charge}};
        room := {{available}};
      END IF;
      fresh := {{reset_after}} + (at - now);
      IF allowed AND consume AND lives[i] THEN
        UPDATE {{table}} AS t SET state = s, request_count = t.request_count + 1,
            last_accessed = to_timestamp(at), expires_at = {{until}}(now + fresh + {{margin}})
          WHERE t.identifier = identifiers[k] AND t.name = names[i]{{in_place}};
      ELSIF allowed AND consume THEN
        UPDATE {{table}} AS t SET algorithm = algorithms[i], state = s, watermarks = '{}', metadata = '{}',
            request_count = 1, created_at = to_timestamp(now),
            last_accessed = to_timestamp(at), expires_at = {{until}}(now + fresh + {{margin}})
          WHERE t.identifier = identifiers[k] AND t.name = names[i]{{in_place}};
      ELSIF consume AND backs[i] THEN
        s := olds[old_ends[i] + 1:old_ends[i + 1]];
        seconds := {{reset_after}};
        UPDATE {{table}} AS t SET state = s,
            last_accessed = to_timestamp(now), expires_at = {{until}}(now + seconds + {{margin}})
          WHERE t.identifier = identifiers[k] AND t.name = names[i]{{in_place}};
      END IF;
      IF room < 0 THEN
        room := 0;
      END IF;
      IF allowed AND (decider IS NULL OR room < remaining) THEN
        decider := i;
        remaining := room;
        reset_after := fresh;
      END IF;
      rooms[i] := room;
      resets[i] := fresh;
    END LOOP;

    -- How long to wait: ratesim/storage/retry_after.py.
    retry_after := 0;
    settled := -1;
    WHILE NOT allowed AND settled < retry_after AND retry_after < 1e12 LOOP
      settled := retry_after;
      p_end := 0;
      FOR i IN 1..cardinality(names) LOOP
        algorithm := algorithms[i];
        p := params[p_end + 1:p_end + lengths[i]];
        p_end := p_end + lengths[i];
        later := now;  -- kept while `now` stands for what start takes
        IF lives[i] THEN
          s := olds[old_ends[i] + 1:old_ends[i + 1]];
          at := greatest(now + retry_after, s[1]);
          s := {{refresh}};
        ELSE
          at := now + retry_after;
          now := at;
          s := {{start}};
          now := later;
        END IF;
        IF {{available}} < cost THEN
          decider := i;
          retry_after := {{retry_after}} + (at - now);
          IF lives[i] AND retry_after < 1e12 THEN
            micros := greatest(ceil(retry_after * 1e6), 1);
            step := 1;
            retry_after := 'Infinity';
            WHILE micros < 1e18 LOOP
              s := olds[old_ends[i] + 1:old_ends[i + 1]];
              at := greatest(now + micros / 1e6, s[1]);
              s := {{refresh}};
              IF {{available}} >= cost THEN
                retry_after := micros / 1e6;
                EXIT;
              END IF;
              seconds := {{retry_after}} + (at - now);
              EXIT WHEN seconds >= 1e12;
              micros := greatest(micros + step, ceil(seconds * 1e6));
              step := step * 2;
            END LOOP;
          END IF;
          EXIT WHEN retry_after >= 1e12;
        END IF;
      END LOOP;
      remaining := rooms[decider];
      reset_after := resets[decider];
    END LOOP;
    IF NOT consume THEN
      rewound := 0;
    END IF;
    RETURN NEXT;
  END LOOP;
END $$;
