-- Deletes denials that are old, and the smallest beyond the most that are kept.
DELETE FROM {{denied}} AS d
  WHERE d.last_denied < clock_timestamp() - %(seconds)s * interval '1 second'
    OR (d.identifier, d.name) IN (
      SELECT each.identifier, each.name FROM {{denied}} AS each
      ORDER BY each.denials DESC, each.last_denied DESC OFFSET %(most)s
    )
