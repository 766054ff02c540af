"""Whether the kernel is compiled, and `compile_all`, which compiles it before it is needed."""

from __future__ import annotations

from math import inf

import numpy as np

from ratesim import algorithms
from ratesim.limit import Limit
from ratesim.progress import Progress, no_progress
from ratesim.simulation.jit_cache import note, noted
from ratesim.simulation.kernel import layout
from ratesim.simulation.kernel.compilation import compiled_kernel, compiled_world, source_digest
from ratesim.simulation.kernel.rule_functions import compile_rule

__all__ = ["WORTH", "compile_all", "compile_for", "is_compiled"]

# Requests of a run for which compiling pays, while SimPy takes some 80 us for each and compiling one and a half minutes.
WORTH = 1_000_000


def is_compiled() -> bool:
    """Tell whether the code of this version is on disk."""
    return noted(_name()) is not None


def compile_all(progress: Progress = no_progress) -> None:
    """Compile the kernel and the functions of the algorithms, unless that is done; it takes one to two minutes.

    Parameters
    ----------
    progress
        Called with the parts that are done, those in all, and the next one.
    """
    names = algorithms.names()
    progress(0, 1 + len(names), "compiling the kernel")
    _compile_kernel()
    for done, name in enumerate(names, 1):
        progress(done, 1 + len(names), f"compiling {name}")
        compile_rule(Limit(1.0, 60.0, name))
    progress(1 + len(names), 1 + len(names), "compiled")
    note(_name(), "compiled\n")


def compile_for(requests: float, progress: Progress = no_progress) -> None:
    """Compile all where so many requests, in all runs to come, are worth it."""
    if requests >= WORTH and not is_compiled():
        compile_all(progress)


def _name() -> str:
    return f"kernel_{source_digest()[:32]}"


def _compile_kernel() -> None:
    """Call each entry once, on a world in which nothing happens."""
    kernel = compiled_kernel()
    arrays = {name: np.zeros(1, dtype) for name, dtype in layout.ARRAYS.items()}
    world = compiled_world(arrays, {"next_due": inf})
    kernel.play_until(world, inf)
    kernel.play_settle(world)
