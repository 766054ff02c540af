"""The source of an algorithm's module with its functions compiled by numba, part of a generated module (`jit_cache`)."""

from __future__ import annotations

import ast
import inspect
from functools import lru_cache
from types import FunctionType
from typing import Any

from ratesim.algorithms import Algorithm
from ratesim.simulation.jit_cache import external_callees, sources

__all__ = ["jitted_rule"]

# Not compiled: called once per limit or state, or not by a loop whose states are long enough.
_STAYS_PYTHON = ("params", "size", "time_resolution", "grow", "longest", "stored", "working")

_IMPORTS = """
import numpy as np
from numba import njit, types
from ratesim.simulation.jit_cache import jit_with_callees
"""
_FULL = """
@njit
def grow(s):
    raise IndexError("a state is full: `longest` promised too little")
"""


def jitted_rule(algorithm: Algorithm) -> str:
    """Return the source of an algorithm's module in which its functions are compiled by numba."""
    rule: Any = algorithm.rule
    functions = [f for name, f in vars(rule).items() if isinstance(f, FunctionType) and name not in _STAYS_PYTHON]
    elsewhere = external_callees(f for f in functions if f.__module__ == rule.__name__)
    lines = [f"{name} = jit_with_callees({name})" for name in elsewhere if "." not in name and hasattr(rule, name)]
    marked = [f"# {sources(elsewhere.values())}", *lines] if elsewhere else []
    full = _FULL if algorithm.variable_size is not None else ""
    return "\n".join([inspect.getsource(rule), _IMPORTS, *marked, full, _jit_lines(inspect.getsource(rule))])


@lru_cache(maxsize=64)
def _jit_lines(source: str) -> str:
    functions = [node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    decorate = 'njit(error_model="numpy", forceinline=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)'
    return "\n".join(f"{name} = {decorate}({name})" for name in functions if name not in _STAYS_PYTHON)
