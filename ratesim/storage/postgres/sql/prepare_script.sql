-- One at a time: nodes that start create under the same lock.
SELECT pg_advisory_xact_lock(hashtextextended('ratesim {{table}}', 0));
