"""What is limited, and what was decided: `Limit` and `Decision`.

A limit is a value: how much cost is admitted per period, by which algorithm. It knows no algorithm's rules; those are
checked where the limit meets its algorithm (`ratesim.algorithms.bind`).
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Mapping

import msgspec

__all__ = ["Decision", "InvalidLimitError", "Limit", "Limits", "as_limits"]

# Bounds that keep every twin (Python, Lua, SQL) clear of under- and overflow; cost may also be 0.
SMALLEST, LARGEST = 1e-6, 1e12

_UNITS = {
    "second": 1.0,
    "minute": 60.0,
    "hour": 3600.0,
    "day": 86400.0,
    "week": 604800.0,
}
_ABBREVIATIONS = {
    "s": "second",
    "sec": "second",
    "m": "minute",
    "min": "minute",
    "h": "hour",
    "hr": "hour",
    "d": "day",
    "w": "week",
}
_PATTERN = re.compile(
    r"\s*(?P<rate>[+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?)\s*(?:/|\bper\b)\s*(?P<count>\d+(?:\.\d+)?)?\s*(?P<unit>[a-z]+)\s*",
    re.IGNORECASE,
)
_NAME = re.compile(r"[A-Za-z0-9_-]{0,64}")


class InvalidLimitError(ValueError):
    """A limit that cannot be: says which part, and what would be right."""


class Limit(msgspec.Struct, frozen=True, cache_hash=True):
    """At most `rate` units of cost per `period` seconds.

    rate: cost admitted per period, 1e-6 to 1e12.
    period: seconds, 1e-6 to 1e12.
    algorithm: a registered name (`ratesim.algorithms.names()`).
    burst: cost that may be admitted at once; bucket algorithms only, where it defaults to `rate`.
    name: tells several limits of one identifier apart; letters, digits, "_" and "-", at most 64.
    options: what else the algorithm takes, as a mapping or pairs (sliding_window: `buckets`).

    Raises InvalidLimitError, naming the field.
    """

    rate: float
    period: float
    algorithm: str = "sliding_window"
    burst: float | None = None
    name: str = ""
    options: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        force = msgspec.structs.force_setattr
        force(self, "rate", _number("rate", self.rate))
        force(self, "period", _number("period", self.period))
        if self.burst is not None:
            force(self, "burst", _number("burst", self.burst))
        if not _NAME.fullmatch(self.name):
            raise InvalidLimitError(
                f"name {self.name!r}: use letters, digits, '_' and '-', at most 64 of them, so that it can be a field name"
            )
        pairs = self.options.items() if isinstance(self.options, Mapping) else self.options
        force(self, "options", tuple(sorted((str(key), float(value)) for key, value in pairs)))

    @classmethod
    def parse(
        cls,
        text: str,
        algorithm: str = "sliding_window",
        burst: float | None = None,
        name: str = "",
        **options: float,
    ) -> Limit:
        """Read "100/minute", "10 per 5 seconds", "2.5/s". Other arguments are the fields of `Limit`."""
        match = _PATTERN.fullmatch(text)
        if match is None:
            raise InvalidLimitError(f"limit {text!r}: write RATE/PERIOD, such as 100/minute or '10 per 5 seconds'")
        unit = match["unit"].lower()
        unit = _ABBREVIATIONS.get(unit, unit.removesuffix("s"))
        if unit not in _UNITS:
            raise InvalidLimitError(f"limit {text!r}: unknown unit {match['unit']!r}; known are {', '.join(_UNITS)}")
        period = _UNITS[unit] * float(match["count"] or 1)
        return cls(float(match["rate"]), period, algorithm, burst, name, tuple(options.items()))

    def __str__(self) -> str:
        for unit, seconds in _UNITS.items():
            if self.period == seconds:
                return f"{self.rate:g}/{unit}"
        return f"{self.rate:g} per {self.period:g} seconds"


class Decision(msgspec.Struct, gc=False):
    """What an `acquire` or `peek` answered.

    allowed: whether the cost was (or, for a peek, would be) admitted.
    remaining: cost that would still be admitted now, at least 0.
    retry_after: seconds until the same cost could be admitted, rounded up to a microsecond; 0 when allowed, inf when never.
    reset_after: seconds until the state is as good as new, if nobody else comes.
    limit: the one that decided: of several, the one that denied for longest, or that has least left.
    sequence: the position in the order of decisions, where somebody numbers them (a simulation does), else 0.
    view_age: seconds since the shared store was last heard of, where a memory before it decided (HybridStorage), else 0.
    session: the token that the session's next request brings along, where consistency is `session`, else "".
    """

    allowed: bool
    remaining: float
    retry_after: float
    reset_after: float
    limit: Limit
    sequence: int = 0
    view_age: float = 0.0
    session: str = ""

    def __bool__(self) -> bool:
        return self.allowed


Limits = Limit | Iterable[Limit]


def as_limits(limits: Limits) -> tuple[Limit, ...]:
    """One limit or several as a tuple in a fixed order (by name), so that two callers never lock in different orders.

    Raises InvalidLimitError when there is none, or when two share a name: they would share a state.
    """
    if isinstance(limits, Limit):
        return (limits,)
    several = tuple(sorted(limits, key=lambda limit: limit.name))
    if not several:
        raise InvalidLimitError("no limit given")
    for left, right in itertools.pairwise(several):
        if left.name == right.name:
            raise InvalidLimitError(f"two limits share the name {left.name!r}; give each a name of its own")
    return several


def check_cost(cost: float) -> float:
    """The cost as a float; InvalidLimitError unless it is 0 or within 1e-6 to 1e12."""
    if cost == 0 or SMALLEST <= cost <= LARGEST:
        return float(cost)
    raise InvalidLimitError(f"cost {cost!r}: must be 0, or between {SMALLEST:g} and {LARGEST:g}")


def _number(field: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise InvalidLimitError(f"{field} {value!r}: must be a number")
    if not SMALLEST <= value <= LARGEST:
        raise InvalidLimitError(f"{field} {value!r}: must be between {SMALLEST:g} and {LARGEST:g}")
    return float(value)
