-- The rows that copy_lock.sql has locked. What is there already was written by the trigger, and is newer. A row that came after
-- the lock was written by it as well, in one transaction with its copy.
INSERT INTO {{new_rows}} ({{column_names}}{{and_period}})
  SELECT {{old_values}}{{and_current_period}} FROM {{old_rows}} AS t
  WHERE {{beyond}} AND ({{key}}) <= ({{upto}})
    AND NOT EXISTS (SELECT FROM {{new_rows}} AS n WHERE ({{found_key}}) = ({{key}}))
