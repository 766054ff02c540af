"""Idempotent delivery: a flush counts once, however often it is sent, and whichever overtakes which.

The twins of the rule are in lua/charge.lua and sql/apply.sql.
"""

from __future__ import annotations

from collections.abc import Sequence

from ratesim.state import Watermark
from ratesim.storage.base import Charge

__all__ = ["total_consumed", "undelivered_part"]


def undelivered_part(charge: Charge, known: Watermark | None) -> tuple[list[tuple[float, float, int]], Watermark]:
    """Return the entries of a charge that have not been applied yet, and the watermark after it.

    A watermark of a lower epoch belongs to a node that has forgotten its consumption since. With a watermark of a higher
    epoch, this flush is a straggler. A gap below the charge is consumption that the state lost (a failover to an older one).
    It is charged with the first entry.
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
    """Add up cumulative consumption in the order that every twin uses (the built-in `sum` compensates rounding)."""
    total = 0.0
    for _, cost, _ in entries:
        total += cost
    return before + total
