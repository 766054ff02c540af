-- How many rows the new table lacks, or has in another state, and how many keys it has twice, in one snapshot.
SELECT
  (SELECT count(*) FROM {{old_rows}} AS t WHERE NOT EXISTS (
    SELECT FROM {{new_rows}} AS n
    WHERE ({{found_key}}) = ({{key}}) AND ({{found_values}}) IS NOT DISTINCT FROM ({{old_values}})
  )),
  (SELECT count(*) FROM (SELECT FROM {{new_rows}} AS t GROUP BY {{key}} HAVING count(*) > 1) AS twice)
