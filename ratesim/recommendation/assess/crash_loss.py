"""What a PostgreSQL forgets when its server crashes and recovers, by the settings of its storage URL."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ratesim.formatting import format_amount, format_seconds
from ratesim.limit import Limit
from ratesim.simulation.scenario.topology import UNFLUSHED, Kept

__all__ = ["CrashLoss", "counted"]


@dataclass(frozen=True)
class CrashLoss:
    """What a server that has crashed and recovered no longer knows.

    Attributes
    ----------
    keeps
        all: what was answered is in the log. most: the last moments are not (`synchronous_commit=off`). nothing: the tables
        are unlogged, and recovery empties them.
    seconds
        Before the crash that are forgotten, at most; None where all is.
    requests
        Requests that are admitted a second time for that, at most, in the busiest second's rate.
    """

    keeps: Kept
    seconds: float | None
    requests: float

    @classmethod
    def of(cls, keeps: Kept, admitted: float, all_counted: float) -> CrashLoss:
        """Work out what is lost.

        Parameters
        ----------
        keeps
            See the attribute.
        admitted
            Requests that are admitted per second.
        all_counted
            Requests that count against a limit at a moment, of all keys.
        """
        if keeps == "nothing":
            return cls(keeps, None, all_counted)
        seconds = UNFLUSHED if keeps == "most" else 0.0
        return cls(keeps, seconds, min(admitted * seconds, all_counted))

    @property
    def sentence(self) -> str:
        """The same in plain words."""
        if self.keeps == "all":
            return (
                "A crash of PostgreSQL that it recovers from loses nothing that was answered: a commit is on the disk first."
            )
        again = f"at most {format_amount(self.requests)} requests are admitted again"
        if self.seconds is None:
            return (
                "After any crash of PostgreSQL the unlogged tables are empty: each key has its whole limit again, and "
                f"{again}."
            )
        return (
            "A crash of PostgreSQL that it recovers from loses what was answered in the last "
            f"{format_seconds(self.seconds)}, since synchronous_commit is off: {again}."
        )


def counted(limit: Limit, keys: int, admitted: float, cost: float = 1.0) -> float:
    """Return how many requests count against a limit at a moment, at most, of all keys together.

    No key has more than what it may be admitted at once, and no request counts longer than it takes to be as good as new.

    Parameters
    ----------
    limit
        The limit.
    keys
        Their number.
    admitted
        Requests that are admitted per second.
    cost
        Of an admitted request, the mean.
    """
    most = max(limit.rate, limit.burst or 0.0)
    whole = keys * most / cost if cost > 0 else math.inf
    return min(whole, admitted * limit.period * most / limit.rate)
