"""Scenarios: the question of a simulation as pydantic models, read from one TOML file.

Use `scenario.Scenario`, `scenario.Candidate`, `grid.variants` and `candidates.default_candidates`; the other modules hold
one table of the file each.
"""
