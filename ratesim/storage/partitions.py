"""How a table of PostgreSQL is cut into partitions: by time, by a hash, or by the beginning of the identifier.

As an option: `partition=time:1d`, `partition=hash:16`, `partition=identifier:tenant-*,free-*`, `partition=none`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

import msgspec

from ratesim.durations import parse_duration
from ratesim.errors import ConfigurationError
from ratesim.safe_text import shorten_repr

__all__ = ["ByHash", "ByIdentifier", "ByTime", "PartitionStrategy", "parse_partition"]

LEAST_DURATION, LONGEST_DURATION = 60.0, 366 * 86400.0  # seconds
MOST_PARTITIONS = 1024
MOST_BYTES = 200  # of a prefix
FORMS = "none, hash:16, time:1d, or identifier:tenant-*,free-*"


class ByTime(msgspec.Struct, frozen=True):
    """A partition for each span of time, counted from the epoch; a row lies where it was created.

    Attributes
    ----------
    seconds : float
        Length of a span, whole seconds, from a minute to a year. Also taken as text, such as "1 day".
    """

    seconds: float

    def __post_init__(self) -> None:
        if isinstance(self.seconds, str):
            try:
                msgspec.structs.force_setattr(self, "seconds", parse_duration(self.seconds))
            except ValueError as error:
                raise ConfigurationError(f"partition by time: {error}") from None
        value = self.seconds
        if type(value) not in (int, float) or not LEAST_DURATION <= value <= LONGEST_DURATION or value != int(value):
            raise ConfigurationError(
                f"partition by time of {shorten_repr(value)}: use whole seconds, from a minute to a year, such as 1d"
            )
        msgspec.structs.force_setattr(self, "seconds", float(value))

    def __str__(self) -> str:
        for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
            if self.seconds % length == 0:
                return f"time:{int(self.seconds // length)}{unit}"
        return f"time:{int(self.seconds)}s"


class ByHash(msgspec.Struct, frozen=True):
    """A fixed number of partitions; a hash of the identifier chooses.

    Attributes
    ----------
    partitions : int
        Their number, 1 to 1024.
    """

    partitions: int

    def __post_init__(self) -> None:
        if type(self.partitions) is not int or not 1 <= self.partitions <= MOST_PARTITIONS:
            raise ConfigurationError(
                f"partition by hash into {shorten_repr(self.partitions)}: use a whole number from 1 to {MOST_PARTITIONS}"
            )

    def __str__(self) -> str:
        return f"hash:{self.partitions}"


class ByIdentifier(msgspec.Struct, frozen=True):
    """A partition for the identifiers of each prefix, and one for all others.

    Attributes
    ----------
    prefixes : tuple of str
        The prefixes, sorted, none the beginning of another; a `*` at the end may stand. One pattern is taken as well.
    """

    prefixes: tuple[str, ...]

    def __post_init__(self) -> None:
        given: str | Sequence[str] = self.prefixes
        patterns = [given] if isinstance(given, str) else given if isinstance(given, list | tuple) else []
        if not 1 <= len(patterns) <= MOST_PARTITIONS:
            raise ConfigurationError(
                f"partition by identifier {shorten_repr(given)}: give 1 to {MOST_PARTITIONS} prefixes, such as tenant-*"
            )
        prefixes = sorted({_prefix(pattern) for pattern in patterns})
        for shorter, longer in pairwise(prefixes):
            if longer.startswith(shorter):
                raise ConfigurationError(
                    f"partition by identifier: {shorten_repr(shorter)} is the beginning of {shorten_repr(longer)}; drop one"
                )
        msgspec.structs.force_setattr(self, "prefixes", tuple(prefixes))

    def __str__(self) -> str:
        return "identifier:" + ",".join(f"{prefix}*" for prefix in self.prefixes)


PartitionStrategy = ByTime | ByHash | ByIdentifier


def _prefix(pattern: object) -> str:
    """Return the prefix of a pattern."""
    text = pattern.removesuffix("*") if isinstance(pattern, str) else ""
    # A comma would end it in an option; a surrogate has no place in a database.
    if not re.fullmatch(r"[^\0-\x1f\x7f*?,\\\ud800-\udfff]+", text) or len(text.encode()) > MOST_BYTES:
        raise ConfigurationError(
            f"partition by identifier {shorten_repr(pattern)}: use a prefix of 1 to {MOST_BYTES} bytes, with nothing but a "
            "`*` at its end that stands for others, and without commas"
        )
    return text


def parse_partition(text: str) -> PartitionStrategy | None:
    """Read a strategy as an option names it; None for `none`. Raises ConfigurationError."""
    kind, colon, rest = text.strip().partition(":")
    kind, rest = kind.strip().lower(), rest.strip()
    if kind == "none" and not colon:
        return None
    if kind == "hash" and re.fullmatch(r"[0-9]{1,9}", rest):
        return ByHash(int(rest))
    if kind == "time" and rest:
        return ByTime(rest)  # type: ignore[arg-type]
    if kind == "identifier" and rest:
        return ByIdentifier(tuple(part.strip() for part in rest.split(",")))
    raise ConfigurationError(f"partition {shorten_repr(text)}: use {FORMS}")
