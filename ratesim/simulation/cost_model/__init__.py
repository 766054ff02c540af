"""The cost model: how long each backend takes on a measured machine, as a profile.

Use `profile.Profile` to read one and `calibrate.calibrate` to measure one; `cost_fit` and `target_server` are its steps.
"""
