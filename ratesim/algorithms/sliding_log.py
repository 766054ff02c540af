"""Sliding log: exact. An entry at t counts while now < t + period; never more than `rate` in any window of `period`.

Its price is memory: one entry for each admitted time within the period. The sum of the entries is kept as a running sum, so
a decision costs the same however long the log is. The sum is rounded once for each cost that comes or goes, begins anew
whenever the log is empty, and is exact for whole costs.

In memory the log is a ring, so that `refresh` moves its beginning and writes no entry. It is stored as pairs of time and
cost, oldest first. Costs of the same time share an entry; a cost of 0 leaves none.
"""

from __future__ import annotations

from itertools import pairwise
from math import inf

from ratesim.algorithms.rule import Params, State
from ratesim.limit import Limit

FIELDS = ("last", "used", "log[]")  # log: time and cost of each entry, oldest first
OPTIONS: dict[str, float | None] = {}
BURST = False
PAIRS = True

# In the state: its time, the sum, the place of the oldest entry, the place after the newest, entries; then the ring.
LAST, USED, FIRST, END, COUNT, RING = 0, 1, 2, 3, 4, 5
RATE, PERIOD = 0, 1  # in the parameters
HEAD = RING
WHOLE = (FIRST, END, COUNT)  # are ints wherever the state is a list, so that reading one needs no conversion

ROOM = 4  # entries in a fresh state


def params(limit: Limit) -> Params:
    """Return the parameters of the limit."""
    return (limit.rate, limit.period)


def size(p: Params) -> int:
    """Return the number of floats in a fresh state."""
    return RING + 2 * ROOM


def longest(p: Params, requests: int, smallest: float) -> int:
    """Return the length of a ring for the most entries that can count at once."""
    entries = min(float(requests), p[RATE] / smallest + 2.0) if smallest > 0.0 else 0.0
    return RING + 2 * max(int(entries), 1)


def start(s: State, p: Params, now: float) -> None:
    """Make s a fresh state at `now`."""
    s[LAST] = now
    s[USED] = 0.0
    s[FIRST] = RING
    s[END] = RING
    s[COUNT] = 0


def refresh(s: State, p: Params, now: float) -> None:
    """Drop the entries that no longer count."""
    s[LAST] = now
    count = int(s[COUNT])
    if count == 0:
        return
    first = int(s[FIRST])
    used = s[USED]
    while count > 0 and now >= s[first] + p[PERIOD]:
        used = used - s[first + 1]
        count = count - 1
        first = first + 2
        if first == len(s):
            first = RING
    if count == 0:
        used = 0.0
    s[USED] = used
    s[FIRST] = first
    s[COUNT] = count


def rewind(s: State, p: Params, now: float) -> None:
    """Date the entries that are ahead at `now`; they share one entry then."""
    s[LAST] = now
    count = int(s[COUNT])
    end = int(s[END])
    cost = 0.0
    while count > 0:
        newest = end - 2 if end > RING else len(s) - 2
        if s[newest] < now:
            break
        cost = s[newest + 1] + cost
        count = count - 1
        end = newest
    if count < int(s[COUNT]):
        s[end] = now
        s[end + 1] = cost
        end = end + 2
        s[END] = end if end < len(s) else RING
        s[COUNT] = count + 1


def available(s: State, p: Params, now: float) -> float:
    """Return the cost that would be admitted now."""
    return p[RATE] - s[USED]


def charge(s: State, p: Params, cost: float, now: float) -> None:
    """Log the cost at its time."""
    if cost == 0.0 or now + p[PERIOD] <= s[LAST]:  # nothing to remember, or gone already
        return
    s[USED] = s[USED] + cost
    end = int(s[END])
    count = int(s[COUNT])
    newest = end - 2 if end > RING else len(s) - 2
    if count > 0 and now <= s[newest]:
        insert_late(s, cost, now)
        return
    if RING + 2 * count == len(s):
        grow(s)
        end = int(s[END])
    s[end] = now
    s[end + 1] = cost
    end = end + 2
    s[END] = end if end < len(s) else RING
    s[COUNT] = count + 1


def insert_late(s: State, cost: float, now: float) -> None:
    """Put a cost into the log whose time is not after the newest entry's."""
    count = int(s[COUNT])
    place = int(s[END])
    late = 0  # entries that are newer
    while late < count:
        before = place - 2 if place > RING else len(s) - 2
        if s[before] <= now:
            if s[before] == now:
                s[before + 1] = s[before + 1] + cost
                return
            break
        place = before
        late = late + 1
    if RING + 2 * count == len(s):
        grow(s)
    end = int(s[END])
    for _ in range(late):  # move the newer ones up by one
        before = end - 2 if end > RING else len(s) - 2
        to = before + 2 if before + 2 < len(s) else RING
        s[to] = s[before]
        s[to + 1] = s[before + 1]
        end = before
    s[end] = now
    s[end + 1] = cost
    behind = int(s[END]) + 2
    s[END] = behind if behind < len(s) else RING
    s[COUNT] = count + 1


def retry_after(s: State, p: Params, cost: float, now: float) -> float:
    """Return the seconds until `cost` fits; inf for never."""
    if cost > p[RATE]:
        return inf
    place = int(s[FIRST])
    used = s[USED]
    for left in range(int(s[COUNT]) - 1, -1, -1):
        used = used - s[place + 1]
        if left == 0 or p[RATE] - used >= cost:
            return s[place] + p[PERIOD] - now
        place = place + 2
        if place == len(s):
            place = RING
    return 0.0


def reset_after(s: State, p: Params, now: float) -> float:
    """Return the seconds until s decides like a fresh state."""
    if s[COUNT] == 0.0:
        return 0.0
    newest = int(s[END]) - 2
    if newest < RING:
        newest = len(s) - 2
    return s[newest] + p[PERIOD] - now


def time_resolution(p: Params) -> float:
    """Return 0: every time matters."""
    return 0.0


def grow(s: State) -> None:
    """Copy the ring into one with more room."""
    entries = stored(s)[2:]
    room = max(len(entries), 2 * ROOM)
    s[RING:] = entries + [0.0] * room
    s[FIRST] = RING
    s[END] = RING + len(entries)


def stored(s: State) -> list[float]:
    """Return time, sum, and the entries from oldest to newest."""
    first, count = int(s[FIRST]), int(s[COUNT])
    end = first + 2 * count
    entries = [*s[first:end], *s[RING : RING + max(end - len(s), 0)]]
    return [s[LAST], s[USED], *entries]


def working(values: list[float]) -> list[float]:
    """Return the ring of a stored log; ValueError if its times are out of order or unpaired."""
    entries = values[2:]
    if len(entries) % 2:
        raise ValueError("the log holds a time without a cost")
    times = entries[::2]
    if any(later <= earlier for earlier, later in pairwise(times)):
        raise ValueError("the log is not in the order of its times")
    head: list[float] = [float(values[0]), float(values[1]), RING, RING + len(entries), len(times)]
    return [*head, *map(float, entries), *[0.0] * (2 * ROOM)]


def is_full(s: State, p: Params, cost: float, now: float) -> bool:
    """Tell whether the ring lacks room for the entry that a charge would add; a cost of an entry's time adds none."""
    count = int(s[COUNT])
    if RING + 2 * count != len(s) or cost == 0.0 or now + p[PERIOD] <= s[LAST]:
        return False
    place = int(s[END])
    for _ in range(count):
        place = place - 2 if place > RING else len(s) - 2
        if s[place] <= now:
            return s[place] != now
    return True


def move(s: State, to: State) -> None:
    """Copy the state into a ring that is at least as long."""
    count = int(s[COUNT])
    place = int(s[FIRST])
    to[LAST] = s[LAST]
    to[USED] = s[USED]
    for i in range(count):
        to[RING + 2 * i] = s[place]
        to[RING + 2 * i + 1] = s[place + 1]
        place = place + 2
        if place == len(s):
            place = RING
    end = RING + 2 * count
    to[FIRST] = RING
    to[END] = end if end < len(to) else RING
    to[COUNT] = count
