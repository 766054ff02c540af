"""The environment of a result: the machine, the day, and the versions of what made it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from datetime import date

from ratesim.simulation.cost_model.calibrate import machine

__all__ = ["environment"]

PACKAGES = ("ratesim", "simpy", "numpy", "numba", "redis", "hiredis", "psycopg", "pandas")


def environment() -> dict[str, str]:
    """Name the machine, the date (ISO 8601), the number of cores, and the versions of Python and of the packages."""
    return {
        "machine": machine(),
        "date": date.today().isoformat(),
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in PACKAGES},
    }
