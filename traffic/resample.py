"""Resampling of a trace by its keys: more clients of the same kind, fewer, or clients that are less alike.

`Trace.scale` and `Trace.concentrate` are the public interface.
"""

from __future__ import annotations

import math
from itertools import count, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from traffic.columns import Columns

__all__ = ["concentrate_keys", "superpose"]

Ints = NDArray[np.int64]


def superpose(trace: Columns, k: float, rng: np.random.Generator, head: int | None = None) -> dict[str, Any]:
    """Return the columns of `Trace.scale` by name, in order of time; needs k > 0 and a trace with requests."""
    n, m, copies = len(trace.time), len(trace.keys), math.ceil(k)
    shifts = np.concatenate(([0.0], rng.uniform(0.0, trace.duration, copies - 1)))
    kept = None  # of the last copy, where it is not whole
    if k < copies:
        kept = _some(np.bincount(trace.key, minlength=m), (k - math.floor(k)) * n, rng)
        if copies == 1 and not kept[trace.key].any():  # each has more than that: the one that asks least often
            asks = np.bincount(trace.key, minlength=m)
            kept[np.argmin(np.where(asks > 0, asks, n + 1))] = True
    until = trace.duration
    if head is not None and trace.duration:
        until *= 1.5 * head / (k * n)  # where there are probably enough
    while True:
        copy, row = _within(trace, shifts, until)
        if kept is not None:
            there = (copy < copies - 1) | kept[trace.key[row]]
            copy, row = copy[there], row[there]
        time = _shifted(trace, shifts, copy, row)
        if until >= trace.duration or np.count_nonzero(time <= trace.time[0] + until) >= (head or 0):
            break
        until *= 2.0
    order = np.argsort(time, kind="stable")[:head]
    time, copy, row = time[order], copy[order], row[order]
    session, stride = _sessions(trace, copies)
    suffixes = _suffixes(trace.keys, copies - 1)
    code = trace.key[row] + copy * m
    if kept is None and head is None:
        names = [*trace.keys, *(f"{key}#{suffix}" for suffix in suffixes for key in trace.keys)]
    else:  # they may be few of very many
        asking, code = np.unique(code, return_inverse=True)
        numbers = ["", *(f"#{suffix}" for suffix in suffixes)]
        names = [trace.keys[each % m] + numbers[each // m] for each in asking.tolist()]
    return {
        "time": time,
        "key": code,
        "keys": names,
        "cost": trace.cost[row],
        "session": session[row] + copy * stride,
        "endpoint": trace.endpoint[row],
        "status": None if trace.status is None else trace.status[row],
        "grain": trace.grain[row],
    }


def concentrate_keys(trace: Columns, share: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the column `key` of `Trace.concentrate`; the trace must have requests."""
    counts = np.bincount(trace.key, minlength=len(trace.keys))
    top = int(np.argmax(counts))
    missing, counts[top] = share * len(trace.time) - counts[top], 0
    into = np.arange(len(trace.keys))
    into[_some(counts, max(missing, 0.0), rng)] = top
    return into[trace.key]


def _some(counts: Ints, wanted: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Choose keys: in a random order, each that leaves no more than `wanted` requests in all."""
    chosen = np.zeros(len(counts), bool)
    order = rng.permutation(len(counts))
    while len(order := order[counts[order] <= wanted]):
        reached = np.cumsum(counts[order])
        taken = int(np.searchsorted(reached, wanted, side="right"))  # at least one
        chosen[order[:taken]] = True
        wanted -= float(reached[taken - 1])
        order = order[taken:]
    return chosen


def _within(trace: Columns, shifts: NDArray[np.float64], until: float) -> tuple[Ints, Ints]:
    """Find the copy and row of all requests due at most `until` seconds after the first one.

    Some later ones may be among them. The result is in the order of copies and rows.
    """
    n, duration = len(trace.time), trace.duration
    first, last = np.zeros((len(shifts), 2), np.int64), np.zeros((len(shifts), 2), np.int64)
    if until >= duration / 2.0:
        last[:, 0] = n
    else:  # rows that a shift moves by less than that, and rows that it wraps around the end
        offset = trace.time - trace.time[0]
        more = 1e-9 * duration  # rounding errors are far smaller
        last[:, 0] = np.searchsorted(offset, until - shifts + more, side="right")
        first[1:, 1] = np.searchsorted(offset, duration - shifts[1:] - more)
        last[1:, 1] = np.searchsorted(offset, duration - shifts[1:] + until + more, side="right")
        first[:, 1] = np.maximum(first[:, 1], last[:, 0])  # nothing twice
        last[:, 1] = np.maximum(first[:, 1], last[:, 1])
    size = (last - first).ravel()
    row = np.repeat(first.ravel() - np.cumsum(size) + size, size) + np.arange(size.sum())
    return np.repeat(np.arange(len(shifts)), size.reshape(-1, 2).sum(axis=1)), row


def _shifted(trace: Columns, shifts: NDArray[np.float64], copy: Ints, row: Ints) -> NDArray[np.float64]:
    """Give the times at which they are due; the first copy stays as it is, to the bit."""
    time, first = trace.time[row], trace.time[0]
    if not trace.duration:
        return time
    moved: NDArray[np.float64] = np.where(copy == 0, time, first + np.mod(time - first + shifts[copy], trace.duration))
    return moved


def _sessions(trace: Columns, copies: int) -> tuple[Ints, int]:
    """Give the sessions of the first copy, and the offset of each further copy, so that none are equal."""
    session = trace.session
    stride = max(len(trace.keys), int(session.max()) - int(session.min()) + 1)
    if int(session.max()) + (copies - 1) * stride > np.iinfo(np.int64).max:
        return np.unique(session, return_inverse=True)[1], len(trace.time)
    return session, stride


def _suffixes(keys: tuple[str, ...], wanted: int) -> list[int]:
    """Count from 2 on, without the numbers that make an existing name ("a#2" may be a client of its own)."""
    taken, there = set(keys), set()
    for name in keys:
        key, mark, number = name.rpartition("#")
        if mark and key in taken:
            there.add(number)
    return list(islice((number for number in count(2) if str(number) not in there), wanted))
