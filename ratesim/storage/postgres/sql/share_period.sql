-- Keeps the partition in use until the transaction ends. A snapshot older than the lock would not see what lies in others.
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE EXCEPTION 'a table that is cut by time needs the isolation read committed' USING ERRCODE = '40001';
  END IF;
  PERFORM pg_advisory_xact_lock_shared({{period_lock}});
