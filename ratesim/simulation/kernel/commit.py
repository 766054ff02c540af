"""The flush of a write-ahead log, and the standby that answers wait for: `GroupCommit`, `Standby`."""

from __future__ import annotations

from math import inf
from typing import Any

from ratesim.simulation.kernel.draws import draw_factor, draw_uniform
from ratesim.simulation.kernel.layout import NONE
from ratesim.simulation.kernel.locks import operation_wrote
from ratesim.simulation.kernel.postgres_work import work_flush

AT_SERVER, AT_STANDBY = 0, 1
DRAW_FLUSH = 6  # as _FLUSH of the engine


def commit_take(commit: Any, arrival: float, seconds: float) -> float:
    """Return when changes that come at a time are on the disk. seconds: of a flush, should one begin."""
    if commit.follows < inf and arrival >= commit.ends:
        commit.ends = commit.follows
        commit.follows = inf
    if arrival >= commit.ends:
        commit.ends = arrival + seconds
        return commit.ends
    if commit.follows == inf:
        commit.follows = commit.ends + seconds
    return commit.follows


def commit_flushed(w: Any, task: Any) -> float:
    """Return when what a batch has changed now is as durable as its answer says: `SimDriver._flushed`."""
    now = w.now
    if not (w.commits_wait or w.standby_waits) or not batch_wrote(w, task):
        return now
    uniform = draw_uniform(w, w.operations[task.first].key, w.epoch + w.now, DRAW_FLUSH)
    if w.commits_wait:
        seconds = w.commit_seconds * draw_factor(w.commit_factors, 0, uniform)
        if w.works_beside:
            seconds = work_flush(w, seconds, now)
        now = commit_take(w.commits[AT_SERVER], now, seconds)
    if w.standby_waits:
        seconds = w.standby_seconds * draw_factor(w.standby_factors, 0, uniform)
        now = commit_take(w.commits[AT_STANDBY], now + w.standby_way, seconds) + w.standby_way
    return now


def batch_wrote(w: Any, task: Any) -> bool:
    """Tell whether an operation of a batch has written: a denied request changes nothing."""
    o = task.first
    while o != NONE:
        operation = w.operations[o]
        if operation_wrote(operation):
            return True
        o = operation.next
    return False
