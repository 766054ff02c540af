"""`MemoryStorage`: state in the memory of this process.

It is the fastest backend and the L1 of the hybrid, and it decides at the end of every simulated network. A decision is
synchronous: nothing is awaited between reading a state and writing it, so it is atomic on one event loop.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from asyncio import _get_running_loop
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Self, TypeVar, cast

from ratesim.algorithms import bind
from ratesim.algorithms import get as algorithms_get
from ratesim.errors import StorageError, require_all
from ratesim.limit import Decision, Limit, Limits, as_limits, check_cost
from ratesim.runtime import AsyncioRuntime, Runtime, Supervisor, Task, observe_forks
from ratesim.state import RateLimitState, decode
from ratesim.storage.base import (
    DEFAULT_TTL,
    Charge,
    RateLimitStorage,
    Request,
    StorageHealth,
    StorageStats,
    adaptive_limits,
    check_charges,
    check_identifier,
    check_requests,
    check_window,
)
from ratesim.storage.config import MemoryStorageConfig
from ratesim.storage.memory.compiled_decider import DecideFn, compile_decider
from ratesim.storage.memory.entry import FEW, Counter, Entry, entry_class
from ratesim.storage.memory.entry_table import EntryTable
from ratesim.storage.memory.persistence import COUNTER, EntryDatabase
from ratesim.storage.memory.rule_evaluator import RuleEvaluator

__all__ = ["MemoryStorage"]

Item = TypeVar("Item")
T = TypeVar("T")

logger = logging.getLogger(__name__)

CLEANUP, SYNC = "cleanup", "sync"  # the names of the background tasks
MOST_LIMITS = 4096  # whose deciding functions are kept
SLICE = 1000  # entries that a sweep looks at under one lock: about a millisecond


class MemoryStorage(RateLimitStorage):
    """State in a dict of this process, bounded by `max_entries` and `memory_limit`.

    Parameters
    ----------
    config
        Its options; None takes the defaults.
    runtime
        The clock and the event loop; None takes asyncio.
    sequence
        Numbers the decisions of several storages in the order in which they are taken. A simulation passes one.

    Attributes
    ----------
    recovered : str
        What `open` found on the disk; empty without `persist_to_disk`.
    supervisor
        The failures of the background tasks.
    """

    def __init__(
        self,
        config: MemoryStorageConfig | None = None,
        runtime: Runtime | None = None,
        sequence: Callable[[], int] | None = None,
    ) -> None:
        self.config = config or MemoryStorageConfig()
        self.runtime = runtime or AsyncioRuntime()
        self._sequence = sequence
        self._time = self.runtime.time
        self._entries = EntryTable(self.config)
        self._rules = RuleEvaluator(self._entries, sequence, self.config.max_clock_skew)
        self._shared = self.config.thread_safe and self.runtime.realtime
        self._rlock = threading.RLock()
        self._lock: AbstractContextManager[object] = self._rlock if self._shared else nullcontext()
        self._deciders: dict[Limit, DecideFn] = {}
        self.recovered = ""
        self._database: EntryDatabase | None = None
        self._groups = False  # whether what is awaited in one turn of the event loop shares a commit
        self.supervisor = Supervisor(self.runtime, logger, CLEANUP, *((SYNC,) if self.config.persist_to_disk else ()))
        self._claims: dict[str, tuple[str, float]] = {}  # the holder of each name, and until when by the monotonic clock
        self._upkeep: list[Task] = []
        self._loop: asyncio.AbstractEventLoop | None = None  # of the background tasks
        self._forked = False  # whether the database is that of the parent process
        if self._shared:
            observe_forks(self)

    @property
    def entries(self) -> OrderedDict[Hashable, Entry | Counter]:
        """The entries themselves, by identifier, or (identifier, name). Other threads may be changing them."""
        return self._entries.by_key

    async def open(self) -> Self:
        """Read back what was persisted, and start the background tasks.

        Raises
        ------
        ConfigurationError
            Another storage, in this process or another one, has the directory; or a former version wrote a journal to it.
        SerializationError, StorageError
            A file is damaged or missing. The message names it, and the files are left as they are.
        """
        if self._upkeep:
            self._tend()
            return self
        if self.config.persist_to_disk is not None:
            if self._forked:  # the parent has gone on since: what it left on the disk holds
                self.entries.clear()
            database = EntryDatabase(self.config, self._entries, self._lock)
            try:
                self._recover(database)
            except BaseException:
                database.close()
                raise
            self._database, self._entries.change_log, self._groups = database, database, database.groups
            self._deciders.clear()  # those made before record no change
            self._forked = False
        self._start_upkeep()
        return self

    def _start_upkeep(self) -> None:
        self._loop = _get_running_loop()
        rounds = [(self.config.cleanup_interval, CLEANUP, self._drop_all_expired)]
        if self._database is not None:
            rounds.append((self.config.fsync_interval, SYNC, self._sync))
        self._upkeep = [self.runtime.spawn(self._repeat(*each)) for each in rounds]

    async def _repeat(self, interval: float, name: str, work: Callable[[], Awaitable[object]]) -> None:
        try:
            await self.supervisor.every(interval, name, work)
        finally:
            self._deciders.clear()  # the loop may end before the storage: the next decision looks for another one

    def _tend(self) -> None:
        """Go on with the background tasks in the running loop, where the loop that they ran in has stopped."""
        loop = self._loop
        if loop is not None and not loop.is_running() and _get_running_loop() is not None:
            with self._lock:
                if self._loop is loop:
                    self._start_upkeep()

    def before_fork(self) -> None:
        """Let no thread be in the middle of a decision when the process forks: the child's entries are a whole copy."""
        self._rlock.acquire()

    def after_fork(self, in_child: bool) -> None:
        """Go on. A child has no background task yet, and leaves the database to its parent."""
        if in_child:
            self._upkeep, self._loop = [], None
            if self._database is not None:
                self._forked = True
                self._deciders.clear()
                self._database.leave_to_parent()
        self._rlock.release()

    def _recover(self, database: EntryDatabase) -> None:
        """Put back the content of the database, and record every entry that only memory has.

        Memory may have entries of before: made while the storage was not open, or refused by a disk that failed. Times to
        live go on where they were.
        """
        rows = database.read()
        for row in rows:
            if row.name == COUNTER:
                self.set_counter(row.identifier, int(row.state), row.expires_at)
            else:
                self.set_state_nowait(row.identifier, decode(row.state), row.expires_at, row.name)
        database.start()
        self.recovered = f"{len(rows)} entries recovered"
        stored = {row.key for row in rows}
        with self._lock, database.batch():
            for key in [row.key for row in rows if row.key not in self.entries]:  # there was no room for it
                database.dropped(key)
            for key in [key for key in self.entries if key not in stored]:
                database.wrote(key)

    # -- deciding -----------------------------------------------------------------------------------------------------

    async def acquire(
        self,
        identifier: str,
        limit: Limits,
        cost: float = 1.0,
        now: float | None = None,
        session: str | None = None,
    ) -> Decision:
        """Admit `cost` and charge it, or deny and change nothing. A session makes no difference here."""
        if self._groups:
            at = self._time() if now is None else now
            return await self._committed(lambda: self.acquire_nowait(identifier, limit, cost, at))
        if type(limit) is Limit and cost == 1.0 and (decide := self._deciders.get(limit)) is not None:
            return decide(identifier, 1.0, self._time() if now is None else now)
        return self.acquire_nowait(identifier, limit, cost, self._time() if now is None else now)

    async def _committed(self, work: Callable[[], T]) -> T:
        """Do something, and return its result when everything that it changed is committed, in one piece."""
        database = self._database
        if database is None:
            return work()
        try:
            with self._lock, database.gathering():
                return work()
        finally:
            await database.commit_turn(self.runtime)

    def _batch(self) -> AbstractContextManager[object]:
        """Commit the changes that are made under it in one piece. The caller holds the lock."""
        return nullcontext() if self._database is None else self._database.batch()

    async def peek(self, identifier: str, limit: Limits, cost: float = 1.0, now: float | None = None) -> Decision:
        """Return the answer that `acquire` would give; change nothing."""
        return self.peek_nowait(identifier, limit, cost, self._time() if now is None else now)

    async def acquire_many(self, requests: Sequence[Request]) -> list[Decision]:
        """Decide each request in turn. Their changes are committed in one piece, where there is a database."""
        time = self._time()

        def decide(request: Request) -> Decision:
            now = time if request.now is None else request.now
            return self.acquire_nowait(request.identifier, request.limit, request.cost, now)

        return await self._each(check_requests(requests), decide)

    async def _each(self, items: Sequence[Item], work: Callable[[Item], T]) -> list[T]:
        """Do something with each item, and return the results when all changes are committed, in one piece.

        Raises
        ------
        BatchError
            Some items failed, or all since the changes were not committed.
        """

        def attempt(item: Item) -> T | StorageError:
            try:
                return work(item)
            except StorageError as error:
                return error

        try:
            results = await self._committed(lambda: [attempt(item) for item in items])
        except StorageError as error:
            results = [error] * len(items)
        return require_all(results)

    def acquire_nowait(self, identifier: str, limit: Limits, cost: float = 1.0, now: float | None = None) -> Decision:
        """`acquire` without `await`: decide at once, in the calling thread.

        Parameters
        ----------
        identifier : str
            The client, or any name that is limited.
        limit : Limit or iterable of Limit
            The limits. Of several all admit and are charged, or none is.
        cost : float
            The cost.
        now : float or None
            Seconds since the epoch; None for the runtime's time.

        Returns
        -------
        Decision
            The answer.

        Raises
        ------
        InvalidLimitError
            An argument cannot be.
        StorageError
            The change could not be committed, where there is a database.
        """
        if cost != 1.0:
            cost = check_cost(cost)
        if now is None:
            now = self._time()
        if type(limit) is Limit:
            decide = self._deciders.get(limit)
            return (
                decide(identifier, cost, now) if decide is not None else self._compile_decider(limit)(identifier, cost, now)
            )
        with self._lock, self._batch():
            return self._rules.decide_several(identifier, as_limits(limit), cost, now, True)

    def peek_nowait(self, identifier: str, limit: Limits, cost: float, now: float) -> Decision:
        """`peek` at once; parameters as of `acquire_nowait`."""
        if type(limit) is not Limit:
            with self._lock:
                return self._rules.decide_several(identifier, as_limits(limit), cost, now, False)
        return self._evaluate_rule(limit, identifier, check_cost(cost), now, False)

    def _evaluate_rule(self, limit: Limit, identifier: str, cost: float, now: float, consume: bool = True) -> Decision:
        with self._lock:
            return self._rules.decide(limit, identifier, cost, now, consume)

    def _compile_decider(self, limit: Limit) -> DecideFn:
        """Return the function that decides this limit: compiled for its algorithm where that pays, else by its rule."""
        self._tend()
        if self._forked and self._database is not None:
            self._database.require_usable()
        algorithm, p, size, _ = bind(limit)
        if size is not None and size > FEW:
            decide: DecideFn = partial(self._evaluate_rule, limit)
        else:
            lock = self._lock if self._shared else None
            numbered = self._sequence is not None
            make = compile_decider(algorithm, size, len(p), bool(limit.name), lock is not None, numbered)
            decide = make(
                limit, algorithm.rule, p, self._entries, lock, self._rules, entry_class(algorithm, size), self._sequence
            )
        if len(self._deciders) >= MOST_LIMITS:
            self._deciders.clear()
        self._deciders[limit] = decide
        return decide

    def decider(self, limit: Limit) -> DecideFn:
        """Return the function that decides this limit, for frequent use. It holds until the storage is opened or closed."""
        return self._deciders.get(limit) or self._compile_decider(limit)

    def on_eviction(self, tell: Callable[[Hashable], None]) -> None:
        """Have the key of each entry that is evicted told, right after that."""
        self._entries.evicted = tell

    async def observe(self, identifier: str, limit: Limits, score: float, now: float | None = None) -> None:
        """Feed a score of the service behind the limits, from 0 (failing) to 1 (fine), to those that learn from it."""
        limits, at = adaptive_limits(limit, score), self.runtime.time() if now is None else now
        await self._committed(lambda: self.observe_nowait(identifier, limits, score, at))

    def observe_nowait(self, identifier: str, limits: tuple[Limit, ...], score: float, now: float) -> None:
        """`observe` at once; the limits are those that learn."""
        with self._lock, self._batch():
            self._rules.observe(identifier, limits, score, now)

    async def charge_many(self, charges: Sequence[Charge]) -> list[RateLimitState]:
        """Apply consumption decided elsewhere, each charge exactly once; return the merged states."""
        check_charges(charges)
        return await self._each(charges, lambda charge: self.charge_nowait(charge).export())

    def charge_nowait(self, charge: Charge) -> Entry:
        """Apply one charge at once; the entry it went into."""
        with self._lock:
            return self._rules.apply(charge)

    # -- state --------------------------------------------------------------------------------------------------------

    async def reset(self, identifier: str) -> None:
        """Forget the identifier: every limit and counter of it."""
        check_identifier(identifier)
        await self._committed(lambda: self.reset_nowait(identifier))

    def reset_nowait(self, identifier: str) -> None:
        """`reset` at once."""
        with self._lock, self._batch():
            for key in self._entries.of(identifier):
                self._entries.remove(key)

    def remove_entry(self, key: Hashable) -> None:
        """Drop one entry, if it is there."""
        with self._lock:
            if key in self._entries.by_key:
                self._entries.remove(key)

    async def get_state(self, identifier: str, name: str = "") -> RateLimitState | None:
        """Return the state of the identifier's limit of that name; None if there is none or it expired."""
        check_identifier(identifier)
        with self._lock:
            entry = self.live_entry(identifier, name)
            return None if entry is None else entry.export()

    def live_entry(self, identifier: str, name: str = "", now: float | None = None) -> Entry | None:
        """Return the live entry itself, without touching it; None if there is none or it expired."""
        entry = self.entries.get((identifier, name) if name else identifier)
        if entry is None or entry.expires_at <= (self.runtime.time() if now is None else now):
            return None
        assert isinstance(entry, Entry)
        return entry

    async def set_state(self, identifier: str, state: RateLimitState, ttl: float | None = None, name: str = "") -> None:
        """Put a state in the place of the present one, for `ttl` seconds (None: 3600)."""
        check_identifier(identifier)
        expires_at = self.runtime.time() + (DEFAULT_TTL if ttl is None else ttl)
        await self._committed(lambda: self.set_state_nowait(identifier, state, expires_at, name))

    def set_state_nowait(self, identifier: str, state: RateLimitState, expires_at: float, name: str = "") -> Entry:
        """`set_state` at once, until a given time."""
        values = state.algorithm_data.values()
        algorithm = algorithms_get(state.algorithm_data.algorithm)
        entry = entry_class(algorithm, None if algorithm.variable_size else len(values))(state.created_at)
        entry.store(algorithm.working(values))
        entry.limit = None
        entry.last_accessed = state.last_accessed
        entry.request_count = state.request_count
        if state.metadata or state.watermarks:
            entry.details().metadata = dict(state.metadata)
            entry.details().watermarks = dict(state.watermarks)
        entry.expires_at = expires_at
        key: Hashable = (identifier, name) if name else identifier
        now = self.runtime.time()
        with self._lock:
            self._entries.insert(identifier, key, entry, now)
            self._entries.written(key, entry, now)
        return entry

    async def increment(self, identifier: str, amount: int, window: float) -> int:
        """Add to a counter that lives `window` seconds from its first hit; return the count."""
        check_identifier(identifier)
        check_window(amount, window)
        return await self._committed(lambda: self.increment_nowait(identifier, amount, window))

    def increment_nowait(self, identifier: str, amount: int, window: float) -> int:
        """`increment` at once."""
        now = self.runtime.time()
        with self._lock:
            counter = self.entries.get((identifier, COUNTER))
            if not isinstance(counter, Counter) or counter.expires_at <= now:
                counter = Counter(now + window)
            elif counter.expires_at - now > window + min(self.config.max_clock_skew, window):
                counter.expires_at = now + window  # a clock that was ahead wrote it
            counter.count += amount
            self._put_counter(identifier, counter, now)
            return counter.count

    def set_counter(self, identifier: str, count: int, expires_at: float) -> None:
        """Put a counter in place of what is there."""
        counter = Counter(expires_at)
        counter.count = count
        with self._lock:
            self._put_counter(identifier, counter, self.runtime.time())

    def _put_counter(self, identifier: str, counter: Counter, now: float) -> None:
        key = (identifier, COUNTER)
        self._entries.insert(identifier, key, counter, now)
        if self._entries.change_log is not None:
            self._entries.change_log.wrote(key)

    async def claim(self, name: str, holder: str, ttl: float) -> tuple[str, float]:
        """Claim the name of a node that shares this memory."""
        return self.claim_nowait(name, holder, ttl)

    def claim_nowait(self, name: str, holder: str, ttl: float) -> tuple[str, float]:
        """`claim` at once."""
        now = self.runtime.monotonic()
        with self._lock:
            present, ends = self._claims.get(name, (holder, now))
            if present != holder and ends > now:
                return present, ends - now
            self._claims[name] = holder, now + ttl
        return holder, ttl

    # -- upkeep -------------------------------------------------------------------------------------------------------

    async def health_check(self) -> StorageHealth:
        """Write to the database, if there is one, and report failures of background tasks."""
        start, latency, problems = self.runtime.monotonic(), 0.0, []
        try:
            self._tend()
            with self._lock:
                if self._database is not None:
                    self._database.probe()
                    latency = self.runtime.monotonic() - start
        except StorageError as error:
            latency = self.runtime.monotonic() - start
            problems.append(" ".join(str(error).split()))
        if self.supervisor.problems:
            problems.append(self.supervisor.problems)
        return StorageHealth(not problems, latency, "; ".join(problems) or "in this process")

    async def close(self) -> None:
        """Stop what runs in the background and let the disk go, synced; the states stay readable."""
        tasks, self._upkeep = self._upkeep, []
        loop, self._loop = self._loop, None
        try:
            if loop is _get_running_loop() or not self.runtime.realtime:
                for task in tasks:
                    task.cancel()
                if self.runtime.realtime and tasks:
                    # Awaited one by one, theirs could not be told from a cancellation of the caller.
                    await asyncio.wait(cast("list[asyncio.Task[None]]", tasks))
            elif loop is not None and loop.is_running():
                for task in tasks:
                    loop.call_soon_threadsafe(task.cancel)
        finally:
            with self._lock:
                database, self._database, self._entries.change_log = self._database, None, None
                self._groups = False
                self._deciders.clear()  # they may record changes
                if database is not None:
                    database.close()

    async def _sync(self) -> None:
        database = self._database
        assert database is not None
        if database.refusal:
            raise StorageError(f"the database {database.refusal}")
        if self.runtime.realtime:
            await asyncio.to_thread(database.sync)
        else:
            database.sync()

    async def _drop_all_expired(self) -> None:
        """Drop expired entries in slices, so that no decision waits for more than one of them."""
        now = self.runtime.time()
        keys = self.keys()  # copied, 8 bytes each: entries come and go meanwhile
        for start in range(0, len(keys), SLICE):
            self.drop_expired(keys[start : start + SLICE], now)
            await self.runtime.sleep(0)
        self.keep_to_limit()

    def keys_of(self, identifier: str) -> list[Hashable]:
        """Return the keys of an identifier's entries."""
        with self._lock:
            return list(self._entries.of(identifier))

    def keys(self) -> list[Hashable]:
        """Return the keys of all entries, as of now."""
        with self._lock:
            return list(self.entries)

    async def cleanup_expired(self) -> int:
        """Drop the expired entries; return how many."""
        return self.drop_expired(self.keys(), self.runtime.time())

    def drop_expired(self, keys: Iterable[Hashable], now: float) -> int:
        """Drop those of these entries that have expired by `now`; returns how many."""
        with self._lock, self._batch():
            return self._entries.drop_expired(keys, now)

    def keep_to_limit(self) -> None:
        """Count the bytes anew, where they are limited, and make room when they are too many."""
        with self._lock, self._batch():
            self._entries.measure(self.runtime.time())

    async def get_stats(self) -> StorageStats:
        """Return the counts of the storage and its present size."""
        return self.get_stats_nowait()

    def get_stats_nowait(self, walk: bool = True) -> StorageStats:
        """`get_stats` at once.

        Parameters
        ----------
        walk
            Whether to walk over the entries for their bytes where no memory_limit has them tracked, which takes a second
            for a million entries. Otherwise the bytes are 0.
        """
        with self._lock:
            entries, (operations, misses) = self._entries, self._rules.tally
            return StorageStats(
                entries=len(entries),
                bytes=entries.bytes if walk or self.config.memory_limit is not None else 0,
                operations=operations,
                hits=operations - misses,
                misses=misses,
                evictions=entries.evictions,
                memory_evictions=entries.for_memory,
                harmful_evictions=entries.harmful,
                cost_forgotten=entries.cost_forgotten,
                expirations=entries.expired,
                restarts=self._rules.restarts,
                background_failures=self.supervisor.failures,
                clock_rewinds=self._rules.rewinds,
            )
