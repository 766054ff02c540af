SELECT q.ord, q.key, q.now, t.state, t.place,
    {{decide_proposal}}(t.state, t.live, q.cost, q.now, consume, skew, {{given}}) AS d
  FROM unnest(keys, costs, nows) WITH ORDINALITY AS q (key, cost, now, ord)
  LEFT JOIN LATERAL (
    SELECT t.state, {{is_live_then}} AS live, {{place}} AS place FROM {{table}} AS t
      WHERE t.identifier = q.key AND t.name = limit_name OFFSET 0
  ) AS t ON true
