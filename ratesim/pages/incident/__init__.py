"""The page about limiters that sync in the background."""
