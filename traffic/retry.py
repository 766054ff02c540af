"""Retry policies: how long a client waits after a denial before it tries again, or that it gives up.

A new policy is one class with `wait`; `RetryingClients` and `ClosedLoopClients` take any.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

__all__ = ["ExponentialBackoff", "ImmediateRetry", "RespectRetryAfter", "Retry"]


class Retry(Protocol):
    """A retry policy."""

    def wait(self, attempt: int, retry_after: float, uniform: float) -> float | None:
        """Give the seconds until the next attempt.

        Parameters
        ----------
        attempt : int
            Number of attempts so far, from 1.
        retry_after : float
            Seconds that the denial named; inf for never.
        uniform : float
            A random number in (0, 1), another one for each attempt.

        Returns
        -------
        float or None
            Seconds >= 0; None to give up.
        """


@dataclass(frozen=True, slots=True)
class ImmediateRetry:
    """Retry at once, `max_attempts` times in all: an impolite client."""

    max_attempts: int = 3

    def __post_init__(self) -> None:
        _check_attempts("ImmediateRetry", self.max_attempts)

    def wait(self, attempt: int, retry_after: float, uniform: float) -> float | None:
        """Wait 0 s."""
        return 0.0 if attempt < self.max_attempts else None


@dataclass(frozen=True, slots=True)
class ExponentialBackoff:
    """Wait a random time up to min(cap, base * 2**(attempt - 1)) seconds, whatever the denial said.

    Exponential backoff with full jitter: M. Brooker, Exponential Backoff And Jitter, AWS Architecture Blog, 2015.

    Attributes
    ----------
    base : float
        Longest first wait, in seconds.
    cap : float
        Longest wait, in seconds.
    max_attempts : int
        Attempts in all.
    """

    base: float = 0.1
    cap: float = 10.0
    max_attempts: int = 5

    def __post_init__(self) -> None:
        _check_attempts("ExponentialBackoff", self.max_attempts)
        for name in ("base", "cap"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"Backoff: {name} must be a positive finite number of seconds, got {value:g}")

    def wait(self, attempt: int, retry_after: float, uniform: float) -> float | None:
        """Scale the attempt's longest wait by `uniform`."""
        if attempt >= self.max_attempts:
            return None
        # From 2**1000 on the cap has long been reached, and floats end soon after.
        return uniform * min(self.cap, self.base * 2.0 ** min(attempt - 1, 1000))


@dataclass(frozen=True, slots=True)
class RespectRetryAfter:
    """Wait as long as the denial says, and up to `spread` seconds more at random; give up if it says never.

    Without a spread, all clients that were denied in one window come back at one instant.

    Attributes
    ----------
    max_attempts : int
        Attempts in all.
    spread : float
        Longest extra wait, in seconds.
    """

    max_attempts: int = 5
    spread: float = 0.0

    def __post_init__(self) -> None:
        _check_attempts("RespectRetryAfter", self.max_attempts)
        if not (math.isfinite(self.spread) and self.spread >= 0):
            raise ValueError(f"RespectRetryAfter: spread must be a finite number of seconds >= 0, got {self.spread:g}")

    def wait(self, attempt: int, retry_after: float, uniform: float) -> float | None:
        """Add a share `uniform` of the spread to `retry_after`."""
        if attempt >= self.max_attempts or not math.isfinite(retry_after):
            return None
        return max(0.0, retry_after) + self.spread * uniform


def _check_attempts(owner: str, max_attempts: int) -> None:
    if max_attempts < 1:
        raise ValueError(f"{owner}: max_attempts must be a whole number >= 1 (the first included), got {max_attempts}")
