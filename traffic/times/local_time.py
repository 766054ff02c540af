"""Local times as UTC: which offset a clock without one had, also on the days when it is set forward or back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone, tzinfo

import numpy as np
from numpy.typing import NDArray

QUARTER = 900  # seconds; clocks are set, in all zones since 1990, on a quarter of an hour
EPOCH = datetime(1970, 1, 1)
DAY = 86400


def to_utc(
    local: NDArray[np.int64], zone: tzinfo, name: str = ""
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Convert local times, as seconds since the epoch of a clock that shows them, to UTC.

    A time that exists twice, since the clock was set back, is taken for the first; `settle` mends that. A time that does not
    exist, since the clock was set forward, is taken for that of a clock that was not.

    Parameters
    ----------
    local : NDArray[np.int64]
        Local times, shape (n,).
    zone : tzinfo
        Where the clock stands.
    name : str
        The name by which the stamps call the zone ("CEST"), in upper case; it tells the two apart that exist twice.

    Returns
    -------
    tuple[NDArray[np.int64], Mask, Mask]
        Seconds since the epoch; which do not exist; which are known (all, unless the zone is not called `name` then).
    """
    if isinstance(zone, timezone):
        east = zone.utcoffset(None) // timedelta(seconds=1)
        known = np.full(len(local), name in ("", str(zone.tzname(None)).upper()))
        return local - east, np.zeros(len(local), np.bool_), known
    quarters, place = np.unique(local // QUARTER, return_inverse=True)
    rows = [_at(EPOCH + timedelta(seconds=quarter * QUARTER), zone, name) for quarter in quarters.tolist()]
    table = np.array(rows, np.int64).reshape(-1, 3)[place]
    return local - table[:, 0], table[:, 1] > 0, table[:, 2] > 0


def _at(moment: datetime, zone: tzinfo, name: str) -> tuple[int, bool, bool]:
    both = [moment.replace(tzinfo=zone, fold=fold) for fold in (0, 1)]
    east = [seconds_east(each) for each in both]
    for each, seconds in zip(both, east, strict=True):
        if name in ("", str(each.tzname()).upper()):
            return seconds, east[0] < east[1], True
    return east[0], False, False


def seconds_east(moment: datetime) -> int:
    """Give how far the clock of an aware datetime is ahead of UTC."""
    return (moment.utcoffset() or timedelta()) // timedelta(seconds=1)


def settle(seconds: NDArray[np.float64], zone: tzinfo) -> tuple[NDArray[np.float64], int]:
    """Tell apart the times that exist twice by the order of the lines, where the clock visibly goes back between them.

    Parameters
    ----------
    seconds : NDArray[np.float64]
        Times of a whole source in the order of its lines, as of `to_utc`; nan where there is none. Shape (n,).
    zone : tzinfo
        Where the clock stood.

    Returns
    -------
    tuple[NDArray[np.float64], int]
        The times, and how many exist twice and are still taken for the first, because the order does not say.
    """
    undecided = 0
    if isinstance(zone, timezone) or not np.isfinite(seconds).any():
        return seconds, undecided
    for moment, back in _set_back(int(np.nanmin(seconds)), int(np.nanmax(seconds)), zone):
        twice = np.flatnonzero((seconds >= moment - back) & (seconds < moment))
        jumps = np.flatnonzero(np.diff(seconds[twice]) < -back / 2)
        if len(jumps) == 1:
            seconds = seconds.copy()
            seconds[twice[jumps[0] + 1 :]] += back
        else:
            undecided += len(twice)
    return seconds, undecided


def _set_back(first: int, last: int, zone: tzinfo) -> list[tuple[int, int]]:
    """List when, and by how many seconds, the clock is set back between two times, in seconds since the epoch."""

    def east(moment: int) -> int:
        return seconds_east(datetime.fromtimestamp(moment, UTC).astimezone(zone))

    found = []
    for low in range(first - DAY, last + DAY, DAY):
        high = low + DAY
        before, after = east(low), east(high)
        if after < before:
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if east(middle) == before else (low, middle)
            found.append((high, before - after))
    return found
