"""The registry: every algorithm by name, each one rule with three twins (Python, Lua, SQL) that decide alike to the bit."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from ratesim.algorithms import fixed_window, sliding_window, token_bucket
from ratesim.algorithms.rule import Algorithm, Params, Rule, State
from ratesim.limit import InvalidLimit, Limit

__all__ = ["Algorithm", "Bound", "Params", "Rule", "State", "bind", "get", "names", "register"]

_REGISTRY: dict[str, Algorithm] = {}


def register(algorithm: Algorithm) -> None:
    """Add an algorithm; ValueError when its name is taken."""
    if algorithm.name in _REGISTRY:
        raise ValueError(f"an algorithm named {algorithm.name!r} is registered already")
    _REGISTRY[algorithm.name] = algorithm


register(Algorithm.from_module(fixed_window))
register(Algorithm.from_module(sliding_window))
register(Algorithm.from_module(token_bucket))


def names() -> tuple[str, ...]:
    """The registered names, sorted."""
    return tuple(sorted(_REGISTRY))


def get(name: str) -> Algorithm:
    """The algorithm of that name; InvalidLimit, naming the known ones, when there is none."""
    try:
        return _REGISTRY[name]
    except KeyError:
        raise InvalidLimit(f"unknown algorithm {name!r}; known are {', '.join(names())}") from None


class Bound(NamedTuple):
    """A limit that has met its algorithm."""

    algorithm: Algorithm
    params: Params


@lru_cache(maxsize=4096)
def bind(limit: Limit) -> Bound:
    """The limit's algorithm and parameters; InvalidLimit when the algorithm does not take what the limit says."""
    algorithm = get(limit.algorithm)
    rule = algorithm.rule
    if limit.burst is not None and not rule.BURST:
        raise InvalidLimit(f"burst: {algorithm.name} has none; it belongs to the bucket algorithms")
    for option, _ in limit.options:
        if option not in rule.OPTIONS:
            known = ", ".join(rule.OPTIONS) or "none"
            raise InvalidLimit(f"unknown option {option!r} for {algorithm.name}; known: {known}")
    return Bound(algorithm, rule.params(limit))
