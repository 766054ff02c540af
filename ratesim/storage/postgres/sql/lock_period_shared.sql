SELECT pg_advisory_xact_lock_shared({{period_lock}})
