"""The page about a log: what its traffic looks like, and which limit would fit it."""
