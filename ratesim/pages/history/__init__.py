"""The page about past reports: what each recommended, and what has changed since the one before."""
