-- Does to the new table what is done to the old one, while `ratesim repartition` copies the rest. Whoever writes a row here
-- holds its lock in the old table, so each row is written by one transaction at a time. A transaction that cannot see what was
-- committed since it began would miss a row that was copied meanwhile: it is refused, and a node repeats it.
CREATE FUNCTION {{mirror}}() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
BEGIN
  IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
    RAISE SQLSTATE '40001' USING MESSAGE = 'the table is converted: write to it in transactions of READ COMMITTED';
  END IF;
  IF TG_OP = 'TRUNCATE' THEN
    TRUNCATE {{new_rows}};
    RETURN NULL;
  END IF;
  IF TG_OP = 'DELETE' OR TG_OP = 'UPDATE' AND ({{old_key}}) IS DISTINCT FROM ({{new_key}}) THEN
    DELETE FROM {{new_rows}} AS t WHERE ({{key}}) = ({{old_key}});
  END IF;
  IF TG_OP = 'DELETE' THEN
    RETURN NULL;
  END IF;
  UPDATE {{new_rows}} AS t SET {{assignments}} WHERE ({{key}}) = ({{new_key}});
  IF NOT FOUND THEN
    INSERT INTO {{new_rows}} ({{column_names}}{{and_period}}) VALUES ({{new_values}}{{and_current_period}});
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER {{trigger}} AFTER INSERT OR UPDATE OR DELETE ON {{old_rows}} FOR EACH ROW EXECUTE FUNCTION {{mirror}}();
CREATE TRIGGER {{truncate_trigger}} AFTER TRUNCATE ON {{old_rows}} FOR EACH STATEMENT EXECUTE FUNCTION {{mirror}}();
