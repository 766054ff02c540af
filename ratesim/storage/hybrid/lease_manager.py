"""`LeaseManager`: decisions on borrowed quota. A node asks L2 once for many requests, and never admits too much.

The cost that is falsely denied is at most the cost that is, or within the last `lease_ttl` was, out on lease at other nodes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from contextlib import suppress
from copy import copy
from heapq import heappop, heappush
from itertools import count

from ratesim.errors import BatchError, KeyRefusedError, StorageError
from ratesim.limit import Decision, Limit, check_cost
from ratesim.runtime import Flight, Runtime, Supervisor, Task
from ratesim.runtime.supervision import ONE_OFF_SHOWN
from ratesim.storage.base import Charge, RateLimitStorage
from ratesim.storage.config import HybridStorageConfig
from ratesim.storage.hybrid.lease import Lease, lease_terms
from ratesim.storage.hybrid.sync_stats import SyncCounters

__all__ = ["LeaseManager"]

RENEWAL, RETURN = "lease renewal", "lease return"  # the names of the background tasks

SOONEST = 0.005  # seconds between two looks for leases that have ended
RETURNS_SUFFIX = "~back"  # of the node's name in returns, which are a stream apart from its consumption


class LeaseManager:
    """The leases of a node.

    Two background tasks are supervised: "lease renewal", which borrows the next slice early, and "lease return", which
    gives back the quota that was not spent in time.

    Parameters
    ----------
    l2
        The shared storage, which lends.
    config
        `lease_ttl`, `clock_tolerance`, `nodes` and `max_entries` are read.
    runtime
        Time and tasks.
    counters
        Counts the cost of leases.
    supervisor
        Runs the background tasks.
    sequence
        Numbers decisions, as in MemoryStorage.
    """

    def __init__(
        self,
        l2: RateLimitStorage,
        config: HybridStorageConfig,
        runtime: Runtime,
        counters: SyncCounters,
        supervisor: Supervisor,
        sequence: Callable[[], int] | None,
    ) -> None:
        self._l2 = l2
        self._config = config
        self._runtime = runtime
        self._counters = counters
        self._supervisor = supervisor
        self._sequence = sequence
        self._leases: dict[Hashable, Lease] = {}
        self._returns = int(runtime.time() * 1e6)  # an epoch for each return, so that a repeated one counts once
        self._due: list[tuple[float, int, Lease]] = []  # a heap, by the monotonic time to look whether a lease has ended
        self._count = count()
        self._ending: Task | None = None
        self._asleep = False  # whether that task waits for the end of a lease
        self._closed = False

    def adopt(self, former: LeaseManager) -> None:
        """Take over the leases of a manager whose loop has stopped."""
        self._returns = max(self._returns, former._returns)
        for key, lease in former._leases.items():
            self._leases[key] = mine = copy(lease)
            mine.flight, mine.watched = None, False
            if mine.left > 0.0:
                self._watch(mine)

    def spend(self, identifier: str, limit: Limit, cost: float, now: float, begin: float | None = None) -> Decision | None:
        """Decide without L2.

        Parameters
        ----------
        identifier, limit, cost, now
            As of `RateLimitStorage.acquire`.
        begin
            The monotonic time when the request came; by default the present one.

        Returns
        -------
        Decision or None
            None where only L2 can decide.
        """
        lease = self._leases.get((identifier, limit.name) if limit.name else identifier)
        if lease is None or lease.limit is not limit:
            return None
        monotonic = self._runtime.monotonic()
        if lease.can_spend(cost, max(now, self._runtime.time()), monotonic):
            lease.left -= cost
            lease.spent += cost
            self._counters.spent += cost
            if lease.left < 2.0 * lease.rate * lease.round_trip and lease.flight is None and monotonic >= lease.denied_until:
                self._supervisor.start(RENEWAL, self._renew, lease)
            fresh = max(lease.reset_at - monotonic, 0.0)
            return self._numbered(Decision(True, lease.left + lease.remaining, 0.0, fresh, limit))
        if begin is None:
            begin = monotonic
        if begin < lease.denied_until and cost >= lease.denied:
            fresh = max(lease.reset_at - begin, 0.0)
            return self._numbered(Decision(False, lease.left, lease.retry_at - begin, fresh, limit))
        return None

    def _numbered(self, decision: Decision) -> Decision:
        if self._sequence is not None:
            decision.sequence = self._sequence()
        return decision

    async def acquire(self, identifier: str, limit: Limit, cost: float, now: float) -> Decision:
        """Decide, borrowing from L2 if necessary.

        Raises
        ------
        StorageError
            L2 must be asked and does not answer.
        InvalidLimitError
            The limit or the cost is invalid.
        """
        cost = check_cost(cost)
        lease_terms(limit, self._config.lease_ttl)  # raises InvalidLimitError before a lease is stored
        lease, begin, time = self._lease(identifier, limit), self._runtime.monotonic(), self._runtime.time()
        if lease.flight is not None and not lease.can_spend(cost, now, begin):
            await lease.flight.wait()  # it may bring enough
        decision = self.spend(identifier, limit, cost, now, begin)
        return await self._borrow(lease, cost, now, begin, begin - time) if decision is None else decision

    def _lease(self, identifier: str, limit: Limit) -> Lease:
        key: Hashable = (identifier, limit.name) if limit.name else identifier
        lease = self._leases.get(key)
        if lease is None:
            if len(self._leases) >= self._config.max_entries:
                self._make_room()
            lease = self._leases[key] = Lease(identifier, key, limit, self._runtime.monotonic())
        elif lease.limit is not limit:
            if lease.limit != limit:  # other numbers: quota of the old limit is not spent under the new one
                self._forfeit(lease)
                lease.denied_until, lease.denied = -math.inf, math.inf
            lease.limit = limit
        return lease

    def _make_room(self) -> None:
        # A tenth at once, oldest first: O(1) for each new key.
        room = max(1, self._config.max_entries // 10)
        for lease in [lease for lease in self._leases.values() if lease.flight is None][:room]:
            self._forfeit(lease)
            del self._leases[lease.key]

    def _forfeit(self, lease: Lease) -> None:
        self._counters.forfeited += lease.end()

    # -- borrowing ----------------------------------------------------------------------------------------------------

    async def _borrow(self, lease: Lease, cost: float, now: float, begin: float, ahead: float) -> Decision:
        """Ask L2 for `cost`, and for a slice on top unless a slice is being borrowed already.

        Parameters
        ----------
        lease, cost
            The lease, and the cost of the request.
        now, begin
            The time of the request, in seconds since the epoch and by the monotonic clock.
        ahead
            The monotonic clock less the wall clock when the request came, seconds.
        """
        flight = None
        if lease.flight is None:
            lease.flight = flight = Flight(self._runtime)
        try:
            decision, more = await self._ask_l2(lease, cost, now, flight is not None)
        finally:
            if flight is not None:
                lease.flight = None
                flight.set()
        lease.on_grant(decision.allowed, cost, begin, decision.retry_after, self._config.lease_ttl)
        if decision.allowed:
            lease.spent += cost
            self._counters.borrowed += cost
            self._counters.spent += cost
            self._keep(lease, more, now, ahead)
        return decision

    async def _ask_l2(self, lease: Lease, cost: float, now: float, with_slice: bool) -> tuple[Decision, float]:
        """Return L2's decision on the cost, and the cost that was borrowed on top of it."""
        leased, _, _ = lease_terms(lease.limit, self._config.lease_ttl)
        begin = self._runtime.monotonic()
        more = self._slice_size(lease, now) if with_slice and cost > 0.0 else 0.0
        decision = await self._l2.acquire(lease.identifier, leased, cost + more, now)
        if not decision.allowed and more:
            more = 0.0
            decision = await self._l2.acquire(lease.identifier, leased, cost, now)
        end = self._runtime.monotonic()
        lease.round_trip, lease.remaining, lease.reset_at = end - begin, decision.remaining, end + decision.reset_after
        return decision, more

    def _slice_size(self, lease: Lease, now: float) -> float:
        lifetime, time = lease_terms(lease.limit, self._config.lease_ttl).lifetime, self._runtime.time()
        if lifetime <= 0.0 or self._ends(lease, now) <= max(now, time):
            return 0.0
        if now - time > min(self._config.max_clock_skew, lease.limit.period):  # quota of a time to come is not for others
            return 0.0
        return lease.refill_amount(self._runtime.monotonic(), min(self._config.lease_ttl, lifetime), self._config.nodes)

    def _ends(self, lease: Lease, now: float) -> float:
        """Return the time until which quota borrowed at `now` may be spent."""
        _, lifetime, time_resolution = lease_terms(lease.limit, self._config.lease_ttl)
        if time_resolution:
            return (math.floor(now / time_resolution) + 1.0) * time_resolution - self._config.clock_tolerance
        return now + lifetime

    def _keep(self, lease: Lease, more: float, now: float, ahead: float) -> None:
        if more > 0.0:
            self._counters.borrowed += more
            windows = lease_terms(lease.limit, self._config.lease_ttl).time_resolution > 0.0
            ends, time = self._ends(lease, now), self._runtime.time()
            self._counters.forfeited += lease.reserve(more, now, ahead, ends, windows, time)
            self._watch(lease)

    async def _renew(self, lease: Lease) -> None:
        """Borrow the next slice before the last one is spent."""
        now, begin = self._runtime.time(), self._runtime.monotonic()
        more = 0.0 if self._closed or lease.flight is not None else self._slice_size(lease, now)
        if more < 1.0:
            return
        ahead = begin - now
        lease.flight = flight = Flight(self._runtime)
        leased = lease_terms(lease.limit, self._config.lease_ttl).limit
        try:
            decision = await self._l2.acquire(lease.identifier, leased, more, now)
        except StorageError:
            self._counters.failed_flushes += 1  # a request that needs the quota asks again, and gets the error
            raise
        else:
            lease.round_trip, lease.remaining = self._runtime.monotonic() - begin, decision.remaining
            if decision.allowed:
                self._keep(lease, more, now, ahead)
        finally:
            lease.flight = None
            flight.set()

    # -- giving back --------------------------------------------------------------------------------------------------

    def _watch(self, lease: Lease) -> None:
        if not lease.watched:
            lease.watched = True
            heappush(self._due, (self._return_time(lease), next(self._count), lease))
        if self._ending is None and not self._closed:
            self._ending = self._runtime.spawn(self._end_leases())

    def _return_time(self, lease: Lease) -> float:
        """Return the monotonic time at which a lease ends, spent or not."""
        return min(lease.expires, lease.borrowed_at + self._config.lease_ttl)

    async def _end_leases(self) -> None:
        """End leases in time while any is out."""
        while self._due and not self._closed:
            await self._supervisor.attempt(RETURN, self._return_due, shown=ONE_OFF_SHOWN)
            if self._due:
                self._asleep = True
                await self._runtime.sleep(max(self._due[0][0] - self._runtime.monotonic(), SOONEST))
                self._asleep = False
        self._ending = None

    async def _return_due(self) -> None:
        now = self._runtime.monotonic()
        over = []
        while self._due and self._due[0][0] <= now:
            lease = heappop(self._due)[2]
            if lease.left > 0.0 and self._return_time(lease) > now:  # more was borrowed since
                heappush(self._due, (self._return_time(lease), next(self._count), lease))
            else:
                lease.watched = False
                over.append(lease)
        await self.give_back(over)

    async def give_back(self, leases: list[Lease]) -> None:
        """End these leases and give their rest back to L2, or forfeit it where their window is over.

        A return travels as a flush does: one that is repeated counts once.

        Raises
        ------
        StorageError
            L2 does not answer, for some of them at least. Their rest is forfeited then, as that of keys which it refuses is.
        """
        charges, total, time, monotonic = [], 0.0, self._runtime.time(), self._runtime.monotonic()
        for lease in leases:
            left = lease.end()
            over = time >= lease.ends or monotonic >= lease.expires
            if left <= 0.0 or (over and lease_terms(lease.limit, self._config.lease_ttl).time_resolution):
                self._counters.forfeited += left
                continue
            self._returns += 1
            node = self._config.node + RETURNS_SUFFIX
            leased = lease_terms(lease.limit, self._config.lease_ttl).limit
            deltas = ((lease.first_at, -left, 0),)
            charges.append(Charge(lease.identifier, leased, node, self._returns, 0.0, deltas, max(time, lease.first_at)))
            total += left
        if not charges:
            return
        returned = 0.0
        try:
            await self._l2.charge_many(charges)
            returned = total
        except BatchError as error:
            answered = zip(charges, error.results, strict=True)
            returned = -math.fsum(each.entries[0][1] for each, result in answered if not isinstance(result, Exception))
            if not all(isinstance(result, KeyRefusedError) for result in error.results if isinstance(result, Exception)):
                raise
        finally:
            self._counters.returned += returned
            self._counters.forfeited += total - returned

    def forget(self, identifier: str, name: str | None = None) -> None:
        """Forfeit the leases of an identifier, or the one of that name."""
        for lease in [each for each in self._leases.values() if each.identifier == identifier]:
            if name in (None, lease.limit.name):
                self._forfeit(lease)
                del self._leases[lease.key]

    def outstanding(self) -> float:
        """Return the cost that is out on lease at this node."""
        return math.fsum(lease.left for lease in self._leases.values())

    async def close(self) -> None:
        """Give all leases back; they are forfeited where L2 does not answer."""
        self._closed = True
        if self._ending is not None and self._asleep:
            self._ending.cancel()
        with suppress(StorageError):  # counted as forfeited
            await self.give_back(list(self._leases.values()))

    def kill(self) -> None:
        """Stop at once and forfeit all leases."""
        self._closed = True
        for lease in self._leases.values():
            self._forfeit(lease)
