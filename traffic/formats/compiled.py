"""Loops over bytes that are written in plain Python and compiled by numba where a block is worth it: `compiled_function`."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import FunctionType
from typing import Any


@cache
def compiled_function(function: FunctionType) -> Callable[..., Any]:
    """Compile a function and those that it calls by their global names, or load what was compiled before."""
    import numba  # here, because it takes a second, and a short log does without

    names = function.__code__.co_names
    called = {name: compiled_function(f) for name in names if isinstance(f := function.__globals__.get(name), FunctionType)}
    again = FunctionType(function.__code__, {**function.__globals__, **called}, function.__name__, function.__defaults__)
    again.__qualname__ = function.__qualname__
    again.__module__ = function.__module__
    try:
        kept: Callable[..., Any] = numba.njit(nogil=True, cache=True)(again)
    except RuntimeError:  # there is no place to keep it
        kept = numba.njit(nogil=True)(again)
    return kept
