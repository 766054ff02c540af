"""The result of a run: its columns, its accuracy against an exact limiter, and its distributions.

Use `run_result.RunResult`, `accuracy.measure_accuracy`, `oracle.exact` and `histogram.Histogram`; `jit_cache` keeps the code
that numba compiles.
"""
