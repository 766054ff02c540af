-- Decides a request, first on what is read without a lock. Only one that is admitted writes, and only over the state that it was
-- decided on; else it is decided again on the locked row. So is one whose state is too far ahead: it is brought back to now,
-- which is kept also when the request is denied.
locked := false;
LOOP
  IF locked THEN
    SELECT t.state, {{is_live}}, {{place}} INTO stored, live, place FROM {{table}} AS t
      WHERE t.identifier = key AND t.name = limit_name{{in_use}} FOR UPDATE;
  ELSE
    SELECT t.state, {{is_live}}, {{place}} INTO stored, live, place FROM {{table}} AS t
      WHERE t.identifier = key AND t.name = limit_name{{in_use}};
  END IF;
  {{decide}}
  EXIT WHEN NOT consume OR verdict < 0 OR (verdict = 0 AND NOT back);
  IF stored IS NULL THEN
    EXIT WHEN {{insert_row}}(key, limit_name, '{{algorithm}}', {{state}}, to_timestamp(now),
      {{until}}(now + fresh + {{margin}}), 1);  -- else another transaction was first: its row is there now
  ELSIF live AND verdict = 1 AND (locked OR NOT back) THEN
    UPDATE {{table}} AS t SET state = {{state}}, request_count = t.request_count + 1,
        last_accessed = to_timestamp(at), expires_at = {{until}}(now + fresh + {{margin}})
      WHERE t.identifier = key AND t.name = limit_name{{in_place}}
        AND t.state = stored AND t.algorithm = '{{algorithm}}' AND t.expires_at > to_timestamp(now);
    EXIT WHEN FOUND;
  ELSIF locked AND verdict = 1 THEN
    UPDATE {{table}} AS t SET algorithm = '{{algorithm}}', state = {{state}}, watermarks = '{}', metadata = '{}',
        request_count = 1, created_at = to_timestamp(now),
        last_accessed = to_timestamp(at), expires_at = {{until}}(now + fresh + {{margin}})
      WHERE t.identifier = key AND t.name = limit_name{{in_place}};
    EXIT;
  ELSIF locked THEN
    {{load}}
    <rewind None now=now>
    <reset_after fresh now=at>
    UPDATE {{table}} AS t SET state = {{state}},
        last_accessed = to_timestamp(now), expires_at = {{until}}(now + fresh + {{margin}})
      WHERE t.identifier = key AND t.name = limit_name{{in_place}};
    EXIT;
  END IF;
  locked := true;
END LOOP;
