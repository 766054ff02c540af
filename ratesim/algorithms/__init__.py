"""The registry: every algorithm by name, each one rule with three twins (Python, Lua, SQL) that decide alike to the bit."""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import entry_points
from typing import NamedTuple

from ratesim.algorithms import (
    adaptive,
    fixed_window,
    gcra,
    leaky_bucket,
    sliding_log,
    sliding_window,
    token_bucket,
)
from ratesim.algorithms.rule import Algorithm, Params, Rule, State
from ratesim.limit import InvalidLimitError, Limit

__all__ = ["Algorithm", "Bound", "Params", "Rule", "State", "bind", "get", "names", "register"]

_REGISTRY: dict[str, Algorithm] = {}


def register(algorithm: Algorithm) -> None:
    """Add an algorithm; ValueError when its name is taken.

    A package that is installed need not call this: an entry point of the group "ratesim.algorithms", whose name is the
    algorithm's and whose object is its module, is registered when it is first asked for.
    """
    if algorithm.name in _REGISTRY:
        raise ValueError(f"an algorithm named {algorithm.name!r} is registered already")
    _REGISTRY[algorithm.name] = algorithm


register(Algorithm.from_module(adaptive))
register(Algorithm.from_module(fixed_window))
register(Algorithm.from_module(gcra))
register(Algorithm.from_module(leaky_bucket))
register(Algorithm.from_module(sliding_log))
register(Algorithm.from_module(sliding_window))
register(Algorithm.from_module(token_bucket))


def names() -> tuple[str, ...]:
    """The names that `get` knows, sorted."""
    return tuple(sorted({*_REGISTRY, *entry_points(group="ratesim.algorithms").names}))


def get(name: str) -> Algorithm:
    """The algorithm of that name; InvalidLimitError, naming the known ones, when there is none."""
    if name not in _REGISTRY:
        for found in entry_points(group="ratesim.algorithms", name=name):
            algorithm = Algorithm.from_module(found.load())
            if algorithm.name != name:
                raise ValueError(f"entry point {name!r} of ratesim.algorithms: its module is named {algorithm.name!r}")
            register(algorithm)
    try:
        return _REGISTRY[name]
    except KeyError:
        raise InvalidLimitError(f"unknown algorithm {name!r}; known are {', '.join(names())}") from None


class Bound(NamedTuple):
    """A limit that has met its algorithm.

    size: floats in every state; None where that varies. head: how many leading floats `refresh` may write; None: all.
    """

    algorithm: Algorithm
    params: Params
    size: int | None
    head: int | None


@lru_cache(maxsize=4096)
def bind(limit: Limit) -> Bound:
    """The limit's algorithm and parameters; InvalidLimitError when the algorithm does not take what the limit says."""
    algorithm = get(limit.algorithm)
    rule = algorithm.rule
    if limit.burst is not None and not rule.BURST:
        raise InvalidLimitError(f"burst: {algorithm.name} has none; it belongs to the bucket algorithms")
    for option, _ in limit.options:
        if option not in rule.OPTIONS:
            known = ", ".join(rule.OPTIONS) or "none"
            raise InvalidLimitError(f"unknown option {option!r} for {algorithm.name}; known: {known}")
    p = tuple(map(float, rule.params(limit)))
    if algorithm.variable_size is not None:
        return Bound(algorithm, p, None, algorithm.variable_size.HEAD)
    return Bound(algorithm, p, rule.size(p), None)
