"""The rule that makes a flush count once, however often it is sent, and whichever overtakes which.

Its twins are in lua/charge.lua and sql/apply.sql.
"""

from __future__ import annotations

from collections.abc import Sequence

from ratesim.state import Watermark
from ratesim.storage.base import Charge

__all__ = ["total_consumed", "undelivered_part"]


def undelivered_part(charge: Charge, known: Watermark | None) -> tuple[list[tuple[float, float, int]], Watermark]:
    """What of a charge has not been applied yet, and the watermark after it: the rule that makes flushes count once.

    A watermark of a lower epoch is of a node that has forgotten it since; of a higher one, this flush is a straggler. A gap
    below the charge is consumption that the state lost (a failover to an older one): it is charged with the first entry.
    """
    total = total_consumed(charge.before, charge.entries)
    if known is None or known.epoch < charge.epoch:
        return list(charge.entries), Watermark(charge.epoch, total)
    if known.epoch > charge.epoch or known.consumed >= total:
        return [], known
    entries: list[tuple[float, float, int]] = []
    upto = charge.before
    for time, cost, requests in charge.entries:
        if upto >= known.consumed:
            lost = 0.0 if entries else charge.before - known.consumed
            entries.append((time, cost + max(lost, 0.0), requests))
        elif upto + cost > known.consumed:
            entries.append((time, upto + cost - known.consumed, requests))
        upto += cost
    return entries, Watermark(charge.epoch, total)


def total_consumed(before: float, entries: Sequence[tuple[float, float, int]]) -> float:
    """Cumulative consumption, added up in the order that every twin uses (the built-in `sum` compensates rounding)."""
    total = 0.0
    for _, cost, _ in entries:
        total += cost
    return before + total
