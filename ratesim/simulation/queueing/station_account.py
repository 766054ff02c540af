"""The account of a station, customer by customer, as plain functions over records that numba compiles.

`StationStats` calls them compiled. A compiled engine calls the same functions, or hands the same rows to `StationStats`.
Every sum is taken in the order of the customers, so that no bit depends on where their rows are cut into chunks.

- `account_add(account, bins, guests, arrival, service, end)` adds one customer of a queue;
- `account_take(account, bins, guests, rows, first)` adds many, rows of (arrival, service, end), and returns the row at which
  it stopped: `len(rows)`, or one whose code is in `account.code`. After ACCOUNT_FULL the caller doubles `guests`
  (`account_room`) and goes on from that row;
- `account_enter(account, bins, guests, arrival, service, stay, rows, first)` adds those in some rows of columns;
- `account_advance(account, bins, guests, to)` lets time pass, `account_peak(account, bins)` counts the present number before
  an observation ends, `account_leave(account, guests)` sends everybody away, and `account_rest(account, guests)` is the part
  of the stays and of the services that is still to come;
- `account_come`, `account_go` and `account_share(account, bins, guests, rows)` are the same for a shared processor, whose
  rows are (time, stay, service) in order of time, with a stay of -1 for one who comes.

`account` is a record of ACCOUNT, `bins` an array of BINS records of BIN, and `guests` a ring of records of GUEST, a power of
two, sorted by end. `account_empty` and `records` make them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Record = Any
Records = Any

BINS = 512  # at most; when time goes beyond, neighbors become one
NARROWEST = 2.0**-10  # seconds: widths are powers of two, so that the bins of two stations fit into one another
CLOSE = 1e-9  # relative, and in seconds: numbers that are this close are the same

ACCOUNT_FULL = 1  # there is no place for one more inside
ACCOUNT_DISORDER = 2
ACCOUNT_EARLY = 3
ACCOUNT_DOWN = 4
ACCOUNT_OVERTAKEN = 5

ACCOUNT = np.dtype(
    [
        ("servers", "i8"),
        ("arrivals", "i8"),
        ("lost", "i8"),
        ("most", "i8"),  # inside at once, since figures count
        ("inside", "i8"),  # customers, at `until`
        ("head", "i8"),  # the place in `guests` of the one who leaves first
        ("bin", "i8"),  # the one that holds `until`
        ("code", "i8"),  # why the last customer was not added
        ("width", "f8"),
        ("until", "f8"),
        ("opened", "f8"),  # nobody is served before
        ("last_begin", "f8"),
        ("stays", "f8"),
        ("services", "f8"),
    ]
)
BIN = np.dtype([("inside", "f8"), ("served", "f8"), ("peak", "i8")])
GUEST = np.dtype([("begin", "f8"), ("end", "f8")])
ROOM = 16  # guests at first


def records(number: int, kind: np.dtype[np.void]) -> Records:
    """Make records of zeros."""
    return np.zeros(number, kind).view(np.recarray)


def account_empty(servers: int) -> Record:
    """Make the account of a station before it opens."""
    account = records(1, ACCOUNT)[0]
    account.servers, account.width, account.last_begin = servers, NARROWEST, -np.inf
    return account


def account_add(account: Record, bins: Records, guests: Records, arrival: float, service: float, end: float) -> int:
    """Add a customer who comes at `arrival`, none before those of earlier calls; returns why not, or 0."""
    begin = end - service
    if not arrival >= account.until:
        return ACCOUNT_DISORDER
    if not service >= 0.0 or (begin < arrival and begin < arrival - account_tolerance(end)):
        return ACCOUNT_EARLY
    if arrival < account.opened:
        return ACCOUNT_DOWN
    if begin < account.last_begin and begin < account.last_begin - account_tolerance(end):
        return ACCOUNT_OVERTAKEN
    account_advance(account, bins, guests, arrival)
    if account.inside == len(guests):
        return ACCOUNT_FULL
    last = len(guests) - 1
    place = account.head + account.inside
    while place > account.head and guests[(place - 1) & last].end > end:  # few pass one another
        guests[place & last].begin = guests[(place - 1) & last].begin
        guests[place & last].end = guests[(place - 1) & last].end
        place -= 1
    guests[place & last].begin = begin
    guests[place & last].end = end
    account.inside += 1
    account.arrivals += 1
    account.services += service
    account.stays += end - arrival
    account.last_begin = begin
    return 0


def account_tolerance(time: float) -> float:
    """Return the seconds that the same time may be apart; more where floating-point numbers are further apart."""
    return float(CLOSE + 4.0 * np.spacing(time))


def account_take(account: Record, bins: Records, guests: Records, rows: Any, first: int) -> int:
    """Add the customers in `rows` from the row `first` on; returns the row of the first who could not be added."""
    account.code = 0
    for row in range(first, len(rows)):
        account.code = account_add(account, bins, guests, rows[row, 0], rows[row, 1], rows[row, 2])
        if account.code != 0:
            return row
    return len(rows)


def account_enter(
    account: Record, bins: Records, guests: Records, arrival: Any, service: Any, stay: Any, rows: Any, first: int
) -> int:
    """Add the customers of these rows of columns, as `account_take` does."""
    account.code = 0
    for place in range(first, len(rows)):
        row = rows[place]
        account.code = account_add(account, bins, guests, arrival[row], service[row], arrival[row] + stay[row])
        if account.code != 0:
            return place
    return len(rows)


def account_advance(account: Record, bins: Records, guests: Records, to: float) -> None:
    """Count until `to`. A customer that goes in the moment in which another comes makes room for it."""
    while to >= BINS * account.width:
        account_widen(account, bins)
    last, head, inside, until, servers = len(guests) - 1, account.head, account.inside, account.until, account.servers
    while True:
        while inside > 0 and guests[head].end <= until:
            head = (head + 1) & last
            inside -= 1
        if until >= to:
            break
        if inside == 0 and to < (account.bin + 1) * account.width:
            until = to
            break
        here = bins[account.bin]
        if inside > here.peak:
            here.peak = inside
        if inside > account.most:
            account.most = inside
        edge = (account.bin + 1) * account.width
        then = min(to, edge)
        if inside > 0 and guests[head].end < then:
            then = guests[head].end
        seconds = then - until
        here.inside += inside * seconds
        here.served += min(inside, servers) * seconds
        until = then
        if then == edge:
            account.bin += 1
            if inside > bins[account.bin].peak:
                bins[account.bin].peak = inside
    account.head, account.inside, account.until = head, inside, until


def account_peak(account: Record, bins: Records) -> None:
    """Count the present number inside."""
    if account.inside > bins[account.bin].peak:
        bins[account.bin].peak = account.inside
    if account.inside > account.most:
        account.most = account.inside


def account_widen(account: Record, bins: Records) -> None:
    """Make every two bins one."""
    half = BINS // 2
    for i in range(half):
        bins[i].inside = bins[2 * i].inside + bins[2 * i + 1].inside
        bins[i].served = bins[2 * i].served + bins[2 * i + 1].served
        bins[i].peak = max(bins[2 * i].peak, bins[2 * i + 1].peak)
    for i in range(half, BINS):
        bins[i].inside = 0.0
        bins[i].served = 0.0
        bins[i].peak = 0
    account.width *= 2.0
    account.bin //= 2


def account_rest(account: Record, guests: Records) -> tuple[float, float]:
    """Return the part of the stays, and of the services, of the customers inside that is still to come."""
    rest, service = 0.0, 0.0
    for place in range(account.head, account.head + account.inside):
        guest = guests[place & (len(guests) - 1)]
        rest += guest.end - account.until
        service += min(guest.end - account.until, guest.end - guest.begin)
    return rest, service


def account_areas(bins: Records) -> tuple[float, float]:
    """Return the areas under the number inside and under the number served, in seconds."""
    inside, served = 0.0, 0.0
    for i in range(len(bins)):
        inside += bins[i].inside
        served += bins[i].served
    return inside, served


def account_leave(account: Record, guests: Records) -> None:
    """Let everybody inside leave."""
    rest, service = account_rest(account, guests)
    account.stays -= rest
    account.services -= service
    account.inside = 0


def account_come(account: Record, bins: Records, guests: Records, at: float) -> None:
    """Let a customer come to a shared processor."""
    account_advance(account, bins, guests, at)
    account.inside += 1
    account.arrivals += 1


def account_go(account: Record, bins: Records, guests: Records, at: float, stay: float, service: float) -> None:
    """Let a customer leave a shared processor after `stay` seconds, of which `service` were work."""
    account_advance(account, bins, guests, at)
    account.inside -= 1
    account.stays += stay
    account.services += service


def account_share(account: Record, bins: Records, guests: Records, rows: Any) -> None:
    """Let all of `rows` come and go."""
    for row in range(len(rows)):
        if rows[row, 1] < 0.0:
            account_come(account, bins, guests, rows[row, 0])
        else:
            account_go(account, bins, guests, rows[row, 0], rows[row, 1], rows[row, 2])


def account_room(account: Record, guests: Records, more: Records) -> None:
    """Move the customers inside to a longer ring."""
    for i in range(account.inside):
        guest = guests[(account.head + i) & (len(guests) - 1)]
        more[i].begin = guest.begin
        more[i].end = guest.end
    account.head = 0
