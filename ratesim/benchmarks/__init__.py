"""Benchmarks: figures as ratios within one run, beside figures that a reader knows.

`suite.main` measures all of them and writes a dated file; each other module has a `section` of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratesim._lazy import lazy_exports

if TYPE_CHECKING:
    from ratesim.benchmarks.suite import main

__all__ = ["main"]

__getattr__ = lazy_exports(
    __name__,
    {
        "main": "ratesim.benchmarks.suite",
    },
)
