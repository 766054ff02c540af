"""Decisions on a copy of a view that also counts consumption which the view lacks."""

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
    """The evaluation of a request on a copy of a view that is charged with the extra consumption."""

    record: ReplicaState
    left: float  # cost that is available
    retry_after: float  # seconds until the requested cost is available, 0 where it is now
    reset_after: float  # seconds


def decide_with_extra(
    l1: MemoryStorage,
    extra: Sequence[tuple[ReplicaState, list[tuple[float, float]]]],
    cost: float,
    now: float,
) -> tuple[bool, Decision]:
    """Decide a request on copies of the views that are charged with extra consumption. The views stay as they are.

    Admission with the extra cost implies admission without it, because charging is monotone.

    Parameters
    ----------
    l1
        The storage that holds the views.
    extra
        Of each limit its record, and the (time, cost) that the view lacks.
    cost
        The requested cost.
    now
        The time of the request, seconds since the epoch.

    Returns
    -------
    bool
        Whether every limit admits the request.
    Decision
        If so, of the limit with the least left after the request; else of the limit with the longest wait.
    """
    copies = [_evaluate(l1, record, missing, cost, now) for record, missing in extra]
    allowed = all(copy.left >= cost for copy in copies)
    if allowed:
        least = min(copies, key=lambda copy: copy.left)
        return True, Decision(True, least.left - cost, 0.0, least.reset_after, least.record.limit)
    longest = max(copies, key=lambda copy: copy.retry_after)
    return False, Decision(False, max(longest.left, 0.0), longest.retry_after, longest.reset_after, longest.record.limit)


def _evaluate(l1: MemoryStorage, record: ReplicaState, missing: list[tuple[float, float]], cost: float, now: float) -> _Copy:
    algorithm, p, _, head = bind(record.limit)
    rule = algorithm.rule
    entry = l1.live_entry(record.identifier, record.limit.name, now)
    if entry is None or entry.algorithm.name != algorithm.name:
        s = [0.0] * rule.size(p)
        rule.start(s, p, min([now, *(time for time, _ in missing)]))
    else:
        s = list(entry.load())
    for time, spent in missing:
        if time > s[0]:
            rule.refresh(s, p, time)
        rule.charge(s, p, spent, time)
    if s[0] - now > min(l1.config.max_clock_skew, record.limit.period):
        rule.rewind(s, p, now)
    before = list(s)
    at = max(now, s[0])
    rule.refresh(s, p, at)
    left, reset_after = rule.available(s, p, at), rule.reset_after(s, p, at) + (at - now)
    retry_after = 0.0
    if left < cost:
        estimate = rule.retry_after(s, p, cost, at) + (at - now)
        retry_after = exact_retry_after(rule, before, p, head, cost, now, estimate)
    return _Copy(record, left, retry_after, reset_after)
