"""A decision on a view and what else is known to have been consumed, without putting that into the view."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ratesim.algorithms import bind
from ratesim.limit import Decision
from ratesim.storage.hybrid.replica_state import ReplicaState
from ratesim.storage.memory.storage import MemoryStorage
from ratesim.storage.retry_after import exact_retry_after

__all__ = ["decide_with_extra"]


class _Copy(NamedTuple):
    """left: cost that is available. wait: seconds until the cost asked for is; 0 where it is now."""

    record: ReplicaState
    left: float
    wait: float
    fresh: float


def decide_with_extra(
    l1: MemoryStorage,
    several: Sequence[tuple[ReplicaState, list[tuple[float, float]]]],
    cost: float,
    now: float,
) -> tuple[bool, Decision]:
    """Whether all of the records admit `cost` beside (time, cost) that their views lack, and what to answer if not.

    If they do, their views do too: charging more never leaves more. The decision then says what is left after that cost.
    """
    copies = [_on_a_copy(l1, record, extra, cost, now) for record, extra in several]
    allowed = all(copy.left >= cost for copy in copies)
    if allowed:
        least = min(copies, key=lambda copy: copy.left)
        return True, Decision(True, least.left - cost, 0.0, least.fresh, least.record.limit)
    longest = max(copies, key=lambda copy: copy.wait)
    return False, Decision(False, max(longest.left, 0.0), longest.wait, longest.fresh, longest.record.limit)


def _on_a_copy(l1: MemoryStorage, record: ReplicaState, extra: list[tuple[float, float]], cost: float, now: float) -> _Copy:
    algorithm, p, _, head = bind(record.limit)
    rule = algorithm.rule
    entry = l1.live_entry(record.identifier, record.limit.name, now)
    if entry is None or entry.algorithm.name != algorithm.name:
        s = [0.0] * rule.size(p)
        rule.start(s, p, min([now, *(time for time, _ in extra)]))
    else:
        s = list(entry.load())
    for time, spent in extra:
        if time > s[0]:
            rule.refresh(s, p, time)
        rule.charge(s, p, spent, time)
    kept = list(s)
    at = max(now, s[0])
    rule.refresh(s, p, at)
    left, fresh = rule.available(s, p, at), rule.reset_after(s, p, at) + (at - now)
    wait = 0.0
    if left < cost:
        wait = exact_retry_after(rule, kept, p, head, cost, now, rule.retry_after(s, p, cost, at) + (at - now))
    return _Copy(record, left, wait, fresh)
