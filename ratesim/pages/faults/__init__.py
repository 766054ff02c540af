"""The page on what happens when something breaks."""
