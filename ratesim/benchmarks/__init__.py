"""Benchmarks: figures as ratios within one run, beside figures that a reader knows.

`suite.main` measures all of them and writes a dated file; each other module has a `section` of it.
"""
