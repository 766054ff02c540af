"""The page that sets the storages side by side."""
