-- What version 1 made for the table "limits": its tables, and the functions of increment and of fixed_window.
-- The states, one row for each limit of an identifier.
-- Nothing but the primary keys is indexed: with an index on expires_at, which changes with every admitted request, no update
-- could be heap-only (HOT), and every decision would write to both indexes. Cleanup reads the table instead (cleanup.sql).
CREATE TABLE IF NOT EXISTS "public"."limits" (
  identifier text COLLATE "C" NOT NULL,
  name text COLLATE "C" NOT NULL DEFAULT '',
  algorithm text NOT NULL,
  state float8[] NOT NULL,                    -- '{}' in a row that was inserted only to be locked
  watermarks jsonb NOT NULL DEFAULT '{}',     -- {node: [epoch, consumed]}
  metadata jsonb NOT NULL DEFAULT '{}',
  request_count bigint NOT NULL DEFAULT 0,
  created_at timestamptz NOT NULL,
  last_accessed timestamptz NOT NULL,
  expires_at timestamptz NOT NULL,
  PRIMARY KEY (identifier, name)
) WITH (fillfactor = 80);  -- room on each page for the next version of its rows, which HOT needs

-- The plain counters of `increment`.
CREATE TABLE IF NOT EXISTS "public"."limits_counters" (
  identifier text COLLATE "C" PRIMARY KEY,
  count bigint NOT NULL,
  expires_at timestamptz NOT NULL
) WITH (fillfactor = 80);

-- A time as timestamptz; what lies beyond the type's range (the year 294276) never comes.
CREATE OR REPLACE FUNCTION "public"."limits_until_3c799ea251"(seconds float8) RETURNS timestamptz
LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE WHEN seconds < 9e12 THEN to_timestamp(seconds) ELSE 'infinity' END
$$;

-- Plain counters that live `windows` seconds from their first hit; the caller sorts them by identifier. One whose end is too
-- late by more than the skew was written by a wrong clock: its end is set anew.
CREATE OR REPLACE FUNCTION "public"."limits_increment_e258f6b2aa"(
  identifiers text[], amounts bigint[], windows float8[], nows float8[], commits text, patience text
) RETURNS TABLE (ord int, total bigint)
LANGUAGE plpgsql AS $$
DECLARE
  now float8;
  latest float8;
BEGIN
  commits := pg_catalog.set_config('synchronous_commit', commits, true);
  patience := pg_catalog.set_config('lock_timeout', patience, true);
  patience := pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  FOR k IN 1..cardinality(identifiers) LOOP
    ord := k;
    now := nows[k];
    latest := now + windows[k] + least(5.0::float8, windows[k]);
    INSERT INTO "public"."limits_counters" AS c (identifier, count, expires_at)
      VALUES (identifiers[k], amounts[k], "public"."limits_until_3c799ea251"(now + windows[k]))
      ON CONFLICT (identifier) DO UPDATE SET
        count = CASE WHEN c.expires_at > to_timestamp(now) THEN c.count ELSE 0 END + excluded.count,
        expires_at = CASE WHEN c.expires_at > to_timestamp(now) AND c.expires_at <= "public"."limits_until_3c799ea251"(latest)
          THEN c.expires_at ELSE excluded.expires_at END
      RETURNING c.count INTO total;
    RETURN NEXT;
  END LOOP;
END $$;

CREATE OR REPLACE FUNCTION "public"."limits_fixed_window_window_d1b35249c1"(p float8[], now float8) RETURNS float8
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  start float8 := floor(now / p[2]) * p[2];
BEGIN
  IF start > now OR now >= start + p[2] THEN
    RETURN now;
  END IF;
  RETURN start;
END $$;

CREATE OR REPLACE FUNCTION "public"."limits_fixed_window_start_e61dd46cc7"(p float8[], now float8) RETURNS float8[]
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  RETURN ARRAY["public"."limits_fixed_window_window_d1b35249c1"(p, now), 0];
END $$;

CREATE OR REPLACE FUNCTION "public"."limits_fixed_window_refresh_ad84c90d42"(s float8[], p float8[], now float8) RETURNS float8[]
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  IF now >= s[1] + p[2] THEN
    RETURN ARRAY["public"."limits_fixed_window_window_d1b35249c1"(p, now), 0];
  END IF;
  RETURN s;
END $$;

CREATE OR REPLACE FUNCTION "public"."limits_fixed_window_rewind_fca6b79f05"(s float8[], p float8[], now float8) RETURNS float8[]
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  s[1] := "public"."limits_fixed_window_window_d1b35249c1"(p, now);
  RETURN s;
END $$;

CREATE OR REPLACE FUNCTION "public"."limits_fixed_window_available_c80a14fed5"(s float8[], p float8[], now float8) RETURNS float8
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  RETURN p[1] - s[2];
END $$;

CREATE OR REPLACE FUNCTION "public"."limits_fixed_window_charge_2739f59d01"(s float8[], p float8[], cost float8, now float8) RETURNS float8[]
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  IF now >= s[1] THEN
    s[2] := s[2] + cost;
  END IF;
  RETURN s;
END $$;

CREATE OR REPLACE FUNCTION "public"."limits_fixed_window_retry_after_97a56bf654"(s float8[], p float8[], cost float8, now float8) RETURNS float8
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  IF cost > p[1] THEN
    RETURN 'Infinity';
  END IF;
  RETURN s[1] + p[2] - now;
END $$;

CREATE OR REPLACE FUNCTION "public"."limits_fixed_window_reset_after_8ed583322d"(s float8[], p float8[], now float8) RETURNS float8
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  IF s[2] = 0 THEN
    RETURN 0;
  END IF;
  RETURN s[1] + p[2] - now;
END $$;

-- Decides requests of one set of limits in turn: MemoryStorage.decide for each. The caller sorts them by identifier, and the
-- limits by name, so that all transactions lock rows in one order and none deadlock.
-- A request is first tried without locks: a peek, or a request that is denied, ends there and writes nothing. One that would
-- be admitted is tried again on locked rows, and that answer holds. So is one whose state is too far ahead: it is brought back to
-- now, which is kept also when the request is denied.
CREATE OR REPLACE FUNCTION "public"."limits_acquire_fixed_window_be59617c6f"(
  identifiers text[], costs float8[], nows float8[], consume boolean,
  names text[], algorithms text[], params float8[], lengths int[], sizes int[], periods float8[], commits text, patience text
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
BEGIN
  commits := pg_catalog.set_config('synchronous_commit', commits, true);
  patience := pg_catalog.set_config('lock_timeout', patience, true);
  patience := pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  FOR k IN 1..cardinality(identifiers) LOOP
    cost := costs[k];
    now := nows[k];
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
      resets := '{}';
      p_end := 0;
      FOR i IN 1..cardinality(names) LOOP
        algorithm := algorithms[i];
        p := params[p_end + 1:p_end + lengths[i]];
        p_end := p_end + lengths[i];
        LOOP
          IF NOT locked THEN
            SELECT t.state, t.algorithm = algorithms[i] AND (sizes[i] = 0 OR cardinality(t.state) = sizes[i])
                AND t.expires_at > to_timestamp(now)
              INTO s, live FROM "public"."limits" AS t
              WHERE t.identifier = identifiers[k] AND t.name = names[i];
            EXIT;
          END IF;
          SELECT t.state, t.algorithm = algorithms[i] AND (sizes[i] = 0 OR cardinality(t.state) = sizes[i])
              AND t.expires_at > to_timestamp(now)
            INTO s, live FROM "public"."limits" AS t
            WHERE t.identifier = identifiers[k] AND t.name = names[i] FOR UPDATE;
          EXIT WHEN FOUND;
          INSERT INTO "public"."limits" (identifier, name, algorithm, state, created_at, last_accessed, expires_at)
            VALUES (identifiers[k], names[i], algorithms[i], '{}', to_timestamp(now), to_timestamp(now),
              to_timestamp(now + 1.0))
            ON CONFLICT DO NOTHING;
          EXIT WHEN FOUND;  -- else another transaction was first: its row is there now
        END LOOP;
        backs := backs || coalesce(live AND s[1] - now > least(5.0::float8, periods[i]), false);
        IF live THEN
          IF backs[i] THEN
            s := "public"."limits_fixed_window_rewind_fca6b79f05"(s, p, now);
            rewound := rewound + 1;
          END IF;
          olds := olds || s;
          at := greatest(now, s[1]);
          s := "public"."limits_fixed_window_refresh_ad84c90d42"(s, p, at);
        ELSE
          at := now;
          s := "public"."limits_fixed_window_start_e61dd46cc7"(p, now);
        END IF;
        room := "public"."limits_fixed_window_available_c80a14fed5"(s, p, at);
        allowed := allowed AND room >= cost;
        old_ends := old_ends || cardinality(olds);
        states := states || s;
        ends := ends || cardinality(states);
        lives := lives || coalesce(live, false);
        ats := ats || at;
        rooms := rooms || room;
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
      IF allowed AND consume THEN
        s := "public"."limits_fixed_window_charge_2739f59d01"(s, p, cost, at);
        room := "public"."limits_fixed_window_available_c80a14fed5"(s, p, at);
      END IF;
      fresh := "public"."limits_fixed_window_reset_after_8ed583322d"(s, p, at) + (at - now);
      IF allowed AND consume AND lives[i] THEN
        UPDATE "public"."limits" AS t SET state = s, request_count = t.request_count + 1,
            last_accessed = to_timestamp(at), expires_at = "public"."limits_until_3c799ea251"(now + fresh + 1.0)
          WHERE t.identifier = identifiers[k] AND t.name = names[i];
      ELSIF allowed AND consume THEN
        UPDATE "public"."limits" AS t SET algorithm = algorithms[i], state = s, watermarks = '{}', metadata = '{}',
            request_count = 1, created_at = to_timestamp(now),
            last_accessed = to_timestamp(at), expires_at = "public"."limits_until_3c799ea251"(now + fresh + 1.0)
          WHERE t.identifier = identifiers[k] AND t.name = names[i];
      ELSIF consume AND backs[i] THEN
        s := olds[old_ends[i] + 1:old_ends[i + 1]];
        seconds := "public"."limits_fixed_window_reset_after_8ed583322d"(s, p, at);
        UPDATE "public"."limits" AS t SET state = s,
            last_accessed = to_timestamp(now), expires_at = "public"."limits_until_3c799ea251"(now + seconds + 1.0)
          WHERE t.identifier = identifiers[k] AND t.name = names[i];
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
          s := "public"."limits_fixed_window_refresh_ad84c90d42"(s, p, at);
        ELSE
          at := now + retry_after;
          now := at;
          s := "public"."limits_fixed_window_start_e61dd46cc7"(p, now);
          now := later;
        END IF;
        IF "public"."limits_fixed_window_available_c80a14fed5"(s, p, at) < cost THEN
          decider := i;
          retry_after := "public"."limits_fixed_window_retry_after_97a56bf654"(s, p, cost, at) + (at - now);
          IF lives[i] AND retry_after < 1e12 THEN
            micros := greatest(ceil(retry_after * 1e6), 1);
            step := 1;
            retry_after := 'Infinity';
            WHILE micros < 1e18 LOOP
              s := olds[old_ends[i] + 1:old_ends[i + 1]];
              at := greatest(now + micros / 1e6, s[1]);
              s := "public"."limits_fixed_window_refresh_ad84c90d42"(s, p, at);
              IF "public"."limits_fixed_window_available_c80a14fed5"(s, p, at) >= cost THEN
                retry_after := micros / 1e6;
                EXIT;
              END IF;
              seconds := "public"."limits_fixed_window_retry_after_97a56bf654"(s, p, cost, at) + (at - now);
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
