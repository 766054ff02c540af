"""The page about eviction policies."""
