"""The wait of a denied request: the rule behind `Decision.retry_after`.

Its twins are in lua/acquire.lua and sql/acquire.sql. A rule tells when its state will admit a cost. That time is rounded up
to a microsecond and tried on the state, so that waiting so long is enough. Otherwise it might not be, because times near
1.7e9 s are 238 ns apart and the content of a bucket at that time is rounded too.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, inf

from ratesim.algorithms.rule import Params, Rule

__all__ = ["exact_retry_after", "joint_retry_after"]

FOREVER = 1e12  # seconds

LimitState = tuple[Rule, list[float] | None, Params, int | None]  # a rule, its stored state or None, parameters, head


def exact_retry_after(
    rule: Rule, s: list[float], p: Params, head: int | None, cost: float, now: float, seconds: float
) -> float:
    """Round `seconds` from `now` up to a microsecond, and lengthen them until s admits `cost` then; inf for never.

    The state s is as it is stored, and does not change.
    """
    if seconds >= FOREVER:
        return seconds
    before = s[:head]
    micros = max(ceil(seconds * 1e6), 1)
    step = 1
    while micros < FOREVER * 1e6:
        at = max(now + micros / 1e6, s[0])
        rule.refresh(s, p, at)
        enough = rule.available(s, p, at) >= cost
        seconds = 0.0 if enough else rule.retry_after(s, p, cost, at) + (at - now)
        s[:head] = before
        if enough:
            return micros / 1e6
        if seconds >= FOREVER:
            return seconds
        micros = max(micros + step, ceil(seconds * 1e6))
        step *= 2
    return inf


def joint_retry_after(held: Sequence[LimitState], cost: float, now: float) -> tuple[float, int]:
    """Return the seconds from `now` until all of several limits admit `cost`, and the index of the limit to wait for.

    It is not the longest of their waits: an adaptive limit that admits now may have fallen by then.
    """
    longest, last, settled = 0.0, 0, -1.0
    while settled < longest < FOREVER:
        settled = longest
        for place, (rule, s, p, head) in enumerate(held):
            now_or_then = now + longest
            trial = [0.0] * rule.size(p) if s is None else s
            before = trial[:head]
            if s is None:
                rule.start(trial, p, now_or_then)
                at = now_or_then
            else:
                at = max(now_or_then, s[0])
                rule.refresh(s, p, at)
            enough = rule.available(trial, p, at) >= cost
            seconds = 0.0 if enough else rule.retry_after(trial, p, cost, at) + (at - now)
            trial[:head] = before
            if not enough:
                longest = seconds if s is None else exact_retry_after(rule, s, p, head, cost, now, seconds)
                last = place
                if longest >= FOREVER:
                    break
    return longest, last
