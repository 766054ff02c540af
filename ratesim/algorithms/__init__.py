"""The registry of algorithms: each is one rule with three twins (Python, Lua, SQL) that decide alike to the bit.

`get` finds an algorithm by its name, `bind` joins a limit to its algorithm, and `register` adds one. The contract of a rule
is in `rule.py`.
"""

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
from ratesim.safe_text import shorten_repr

__all__ = ["Algorithm", "BoundLimit", "Params", "Rule", "State", "bind", "get", "names", "register"]

_REGISTRY: dict[str, Algorithm] = {}


def register(algorithm: Algorithm) -> None:
    """Add an algorithm; ValueError if its name is taken.

    An installed package need not call this. An entry point of the group "ratesim.algorithms", whose name is the algorithm's
    and whose object is its module, is registered when its name is first looked up.
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
    """Return the names that `get` knows, sorted."""
    return tuple(sorted({*_REGISTRY, *entry_points(group="ratesim.algorithms").names}))


def get(name: str) -> Algorithm:
    """Return the algorithm of that name; InvalidLimitError, naming the known ones, if there is none."""
    if name not in _REGISTRY:
        for found in entry_points(group="ratesim.algorithms", name=name):
            algorithm = Algorithm.from_module(found.load())
            if algorithm.name != name:
                raise ValueError(f"entry point {name!r} of ratesim.algorithms: its module is named {algorithm.name!r}")
            register(algorithm)
    try:
        return _REGISTRY[name]
    except KeyError:
        from ratesim.suggestion import close_names

        meant = "".join(f"; did you mean {each}?" for each in close_names(name, names())[:1])
        raise InvalidLimitError(f"unknown algorithm {shorten_repr(name)}; known are {', '.join(names())}{meant}") from None


class BoundLimit(NamedTuple):
    """A limit joined to its algorithm.

    Attributes
    ----------
    algorithm : Algorithm
        The algorithm.
    params : Params
        The limit's parameters.
    size : int or None
        Floats in every state; None if that varies.
    head : int or None
        Number of leading floats that `refresh` may write; None for all.
    """

    algorithm: Algorithm
    params: Params
    size: int | None
    head: int | None


@lru_cache(maxsize=4096)
def bind(limit: Limit) -> BoundLimit:
    """Join a limit to its algorithm; InvalidLimitError if the algorithm does not accept the limit."""
    algorithm = get(limit.algorithm)
    rule = algorithm.rule
    if limit.burst is not None and not rule.BURST:
        raise InvalidLimitError(f"burst: {algorithm.name} has none; it belongs to the bucket algorithms")
    for option, _ in limit.options:
        if option not in rule.OPTIONS:
            known = ", ".join(rule.OPTIONS) or "none"
            raise InvalidLimitError(f"unknown option {shorten_repr(option)} for {algorithm.name}; known: {known}")
    p = tuple(map(float, rule.params(limit)))
    if algorithm.variable_size is not None:
        return BoundLimit(algorithm, p, None, algorithm.variable_size.HEAD)
    return BoundLimit(algorithm, p, rule.size(p), None)
