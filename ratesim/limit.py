"""`Limit` and `Decision`: a limit that is to be kept, and the answer to a request.

A limit is a value: how much cost is admitted per period, by which algorithm. It knows no algorithm's rules. Those are
checked where the limit meets its algorithm (`ratesim.algorithms.bind`).
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Mapping

import msgspec

from ratesim.errors import RatesimError

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


class InvalidLimitError(RatesimError, ValueError):
    """A limit that cannot be: says which part, and what would be right."""


class Limit(msgspec.Struct, frozen=True, cache_hash=True):
    """At most `rate` units of cost per `period` seconds.

    Attributes
    ----------
    rate : float
        Cost admitted per period, 1e-6 to 1e12.
    period : float
        Seconds, 1e-6 to 1e12.
    algorithm : str
        A registered name (`ratesim.algorithms.names()`).
    burst : float or None
        Cost that may be admitted at once; bucket algorithms only, where it defaults to `rate`.
    name : str
        Tells several limits of one identifier apart; letters, digits, "_" and "-", at most 64.
    options : Mapping[str, float] or tuple[tuple[str, float], ...]
        Further parameters of the algorithm (sliding_window: `buckets`).

    Raises
    ------
    InvalidLimitError
        Names the field that is wrong.
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
        """Read "100/minute", "10 per 5 seconds" or "2.5/s".

        Parameters
        ----------
        text : str
            Rate and period.
        algorithm, burst, name, **options
            The fields of `Limit`.

        Raises
        ------
        InvalidLimitError
            If the text is no rate, or a field is wrong.
        """
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
    """The answer to an `acquire` or a `peek`.

    Attributes
    ----------
    allowed : bool
        Whether the cost was (or, for a peek, would be) admitted.
    remaining : float
        Cost that would still be admitted now, at least 0.
    retry_after : float
        Seconds until the same cost could be admitted, rounded up to a microsecond; 0 when allowed, inf for never.
    reset_after : float
        Seconds until the state decides like a new one, without further requests.
    limit : Limit
        The limit that decided: of several, the one that denied for longest, or that has least left.
    sequence : int
        Position in the order of decisions in a simulation; 0 elsewhere.
    view_age : float
        Seconds since the shared store was last heard of, if a local memory decided (HybridStorage); else 0.
    session : str
        Token for the session's next request, if the consistency is `session`; else "".
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
    """Return one limit or several as a tuple in a fixed order, by name.

    With a fixed order two callers never lock in different orders.

    Raises
    ------
    InvalidLimitError
        If there is no limit, or two share a name and so would share a state.
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
    """Return the cost as a float; InvalidLimitError unless it is 0 or within 1e-6 to 1e12."""
    if cost == 0 or SMALLEST <= cost <= LARGEST:
        return float(cost)
    raise InvalidLimitError(f"cost {cost!r}: must be 0, or between {SMALLEST:g} and {LARGEST:g}")


def _number(field: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise InvalidLimitError(f"{field} {value!r}: must be a number")
    if not SMALLEST <= value <= LARGEST:
        raise InvalidLimitError(f"{field} {value!r}: must be between {SMALLEST:g} and {LARGEST:g}")
    return float(value)
