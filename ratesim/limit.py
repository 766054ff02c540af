"""`Limit` and `Decision`: a limit that is to be kept, and the answer to a request.

A limit is a value: how much cost is admitted per period, by which algorithm. It knows no algorithm's rules. Those are
checked where the limit meets its algorithm (`ratesim.algorithms.bind`).
"""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Iterable, Mapping
from typing import TypeGuard

import msgspec

from ratesim.durations import LONGEST, NUMBER, UNITS, parse_period
from ratesim.errors import RatesimError
from ratesim.safe_text import shorten_repr

__all__ = ["Decision", "InvalidLimitError", "Limit", "Limits", "as_limits", "check_cost", "parse_limits"]

# Bounds that keep every twin (Python, Lua, SQL) clear of under- and overflow; cost may also be 0.
SMALLEST, LARGEST = 1e-6, 1e12
LATEST = 1e11  # seconds since the epoch, in the year 5138; a time in milliseconds is above it

MOST_OPTIONS = 64
MOST_LIMITS = 100  # of one identifier
_RATE = re.compile(
    rf"\s*(?P<rate>[+-]?{NUMBER})\s*(?:r|reqs?|requests?|calls?|hits?)?\s*(?:/|per|every|each)\s*(?P<period>[^/;,|]+)",
    re.IGNORECASE,
)
_REMEDY = "write RATE/PERIOD, such as 100/minute or '10 per 5 seconds'"
_SEVERAL = re.compile(r"[;,|]")
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
        if not _is_text(self.algorithm, most=64):
            raise InvalidLimitError(f"algorithm {shorten_repr(self.algorithm)}: must be the name of an algorithm")
        if not _is_text(self.name, most=64) or not _NAME.fullmatch(self.name):
            raise InvalidLimitError(
                f"name {shorten_repr(self.name)}: use letters, digits, '_' and '-', at most 64 of them, so that it can be a "
                "field name"
            )
        force(self, "options", _checked_options(self.options))

    @classmethod
    def parse(
        cls,
        text: str,
        algorithm: str = "sliding_window",
        burst: float | None = None,
        name: str = "",
        **options: float,
    ) -> Limit:
        """Read "100/minute", "10 per 5 seconds", "2.5/s", "10r/s" or "1000/month".

        A unit may be abbreviated or in the plural: second, minute, hour, day, week, month (30 days), year (365 days).

        Parameters
        ----------
        text : str
            Rate and period.
        algorithm, burst, name, **options
            The fields of `Limit`.

        Raises
        ------
        InvalidLimitError
            If the text is no rate or holds several (`parse_limits` reads those), or a field is wrong.
        """
        short = _is_text(text, LONGEST)
        match = _RATE.fullmatch(text) if short else None
        try:
            period = parse_period(match["period"]) if match else None
        except ValueError as error:
            raise InvalidLimitError(f"limit {shorten_repr(text)}: {error}") from None
        if match is None or period is None:
            parts = _SEVERAL.split(text) if short else []
            several = len(parts) > 1 and all(map(_RATE.fullmatch, parts))
            remedy = "give one limit, or read several with ratesim.parse_limits" if several else _REMEDY
            raise InvalidLimitError(f"limit {shorten_repr(text)}: {remedy}")
        return cls(float(match["rate"]), period, algorithm, burst, name, tuple(options.items()))

    def __str__(self) -> str:
        for unit, seconds in UNITS.items():
            if self.period == seconds:
                return f"{_digits(self.rate)}/{unit}"
        return f"{_digits(self.rate)} per {_digits(self.period)} seconds"


def parse_limits(
    text: str, algorithm: str = "sliding_window", burst: float | None = None, **options: float
) -> tuple[Limit, ...]:
    """Read several limits of one identifier: "100/hour;10/minute", separated by ";", "," or "|".

    A single limit has no name, as that of `Limit.parse`. Of several each is named by its period ("hour", "5-second").

    Parameters
    ----------
    text : str
        The limits.
    algorithm, burst, **options
        The fields of each `Limit`.

    Raises
    ------
    InvalidLimitError
        If a part is no limit, or two have the same period.
    """
    parts = _SEVERAL.split(text, MOST_LIMITS) if _is_text(text, MOST_LIMITS * LONGEST) else [text]
    if len(parts) > MOST_LIMITS:
        raise InvalidLimitError(f"limit {shorten_repr(text)}: holds more than {MOST_LIMITS}; give fewer")
    found = [Limit.parse(part, algorithm, burst, "", **options) for part in parts]
    if len(found) == 1:
        return (found[0],)
    return as_limits(msgspec.structs.replace(limit, name=_name_of(limit.period)) for limit in found)


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
    given: tuple[object, ...] | None
    try:
        given = tuple(itertools.islice(limits, MOST_LIMITS + 1))
    except Exception:  # noqa: BLE001 - what a foreign iterable raises
        given = None
    if given is None or not all(isinstance(limit, Limit) for limit in given) or len(given) > MOST_LIMITS:
        raise InvalidLimitError(f"limit {shorten_repr(limits)}: give a Limit, or up to {MOST_LIMITS} of them")
    if not given:
        raise InvalidLimitError("no limit given")
    several = tuple(sorted(given, key=lambda limit: limit.name))
    for left, right in itertools.pairwise(several):
        if left.name == right.name:
            raise InvalidLimitError(f"two limits share the name {left.name!r}; give each a name of its own")
    return several


def check_cost(cost: float) -> float:
    """Return the cost as a float; InvalidLimitError unless it is 0 or within 1e-6 to 1e12."""
    try:
        if cost == 0 or SMALLEST <= cost <= LARGEST:
            return float(cost)
    except (TypeError, ValueError, ArithmeticError):  # text, None, an array, a decimal that is no number
        pass
    raise InvalidLimitError(f"cost {shorten_repr(cost)}: must be 0, or between {SMALLEST:g} and {LARGEST:g}")


def _is_text(value: object, most: int) -> TypeGuard[str]:
    return isinstance(value, str) and len(value) <= most


def check_time(now: float) -> float:
    """Return the time as a float; InvalidLimitError unless it is from 0 to 1e11 seconds since the epoch."""
    try:
        if 0.0 <= now <= LATEST:
            return float(now)
    except TypeError:
        pass
    raise InvalidLimitError(f"now {shorten_repr(now)}: must be seconds since the epoch, from 0 to {LATEST:g}")


def _number(field: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        raise InvalidLimitError(f"{field} {shorten_repr(value)}: must be a number")
    if not SMALLEST <= value <= LARGEST:
        raise InvalidLimitError(f"{field} {shorten_repr(value)}: must be between {SMALLEST:g} and {LARGEST:g}")
    return float(value)


def _checked_options(given: object) -> tuple[tuple[str, float], ...]:
    """Return the options sorted by name; InvalidLimitError unless they are pairs of a name and a finite number."""
    try:
        pairs = given.items() if isinstance(given, Mapping) else iter(given)  # type: ignore[call-overload]
        first = tuple((name, value) for name, value in itertools.islice(pairs, MOST_OPTIONS + 1))
    except Exception:  # noqa: BLE001 - what a foreign iterable raises
        raise InvalidLimitError(f"options {shorten_repr(given)}: must be pairs of a name and a number") from None
    if len(first) > MOST_OPTIONS:
        raise InvalidLimitError(f"options {shorten_repr(given)}: are more than {MOST_OPTIONS}")
    for name, value in first:
        if not isinstance(name, str):
            raise InvalidLimitError(f"options: the name {shorten_repr(name)} must be a text")
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
            raise InvalidLimitError(f"option {shorten_repr(name)}: {shorten_repr(value)} must be a number")
    options = {str(name): float(value) for name, value in first}
    if len(options) < len(first):
        raise InvalidLimitError(f"options {shorten_repr(given)}: name one of them twice")
    return tuple(sorted(options.items()))


def _digits(number: float) -> str:
    """Write a number in as many digits as it needs to be read back."""
    short = f"{number:g}"
    return short if float(short) == number else repr(number)


def _name_of(period: float) -> str:
    """Name a period: "hour", "5-second"."""
    unit, seconds = next((each for each in reversed(UNITS.items()) if period % each[1] == 0), ("second", 1.0))
    return unit if period == seconds else f"{_digits(period / seconds)}-{unit}".replace(".", "_").replace("+", "")
