"""Evaluates a rule on the entry table: decides, learns from a score, and merges what was decided elsewhere.

It takes any algorithm and any number of limits. `compiled_decider` has the most frequent case, one limit and a small state,
as one function that does the same to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from ratesim.algorithms import bind
from ratesim.limit import Decision, Limit, check_cost, check_time
from ratesim.storage.base import EXPIRY_MARGIN, Charge, check_identifier
from ratesim.storage.deduplicate import undelivered_part
from ratesim.storage.memory.entry import Entry, entry_class
from ratesim.storage.memory.entry_table import EntryTable
from ratesim.storage.retry_after import exact_retry_after, joint_retry_after

__all__ = ["RuleEvaluator"]


class RuleEvaluator:
    """Evaluates a rule on the entry table. The caller must hold the storage lock.

    Attributes
    ----------
    tally
        [decisions, misses], a mutable list that is shared with the compiled deciders.
    restarts
        States that were given up because another algorithm's request came.
    rewinds
        States that were brought back to the time of a request.
    max_clock_skew
        Seconds that a state may be ahead of a request; the period of a limit where that is less.
    """

    def __init__(self, entries: EntryTable, sequence: Callable[[], int] | None, max_clock_skew: float) -> None:
        self.tally = [0, 0]
        self.restarts = self.rewinds = 0
        self.max_clock_skew = max_clock_skew
        self._entries = entries
        self._sequence = sequence

    def decide(self, limit: Limit, identifier: str, cost: float, now: float, consume: bool = True) -> Decision:
        """Decide one limit at `now`, seconds since the epoch. With consume=False nothing is charged."""
        algorithm, p, size, head = bind(limit)
        rule = algorithm.rule
        key: Hashable = (identifier, limit.name) if limit.name else identifier
        mine = entry_class(algorithm, size)
        now = check_time(now)
        entry = self._live(identifier, key, mine, now)
        if entry is None:
            s = [0.0] * rule.size(p)
            rule.start(s, p, now)
            at = now
        else:
            s = self._within_bound(key, entry, limit, now, consume)
            before = s[:head]  # put back unless the request is admitted: a denied one changes nothing, not even a rounding
            at = now if now > s[0] else s[0]
            rule.refresh(s, p, at)
        left = rule.available(s, p, at)
        late = at - now
        allowed = left >= cost
        retry_after = 0.0
        if allowed and consume:
            rule.charge(s, p, cost, at)
            left = rule.available(s, p, at)
        reset_after = rule.reset_after(s, p, at) + late
        if allowed and consume:
            if entry is None:
                entry = mine(now)
                self._entries.insert(identifier, key, entry, now)
            entry.request_count += 1
            self._keep(key, entry, s, limit, at, now + reset_after)
        else:
            if not allowed:
                retry_after = rule.retry_after(s, p, cost, at) + late
            if entry is not None:
                s[:head] = before
                if not allowed:
                    retry_after = exact_retry_after(rule, s, p, head, cost, now, retry_after)
        decision = Decision(allowed, left if left > 0.0 else 0.0, retry_after, reset_after, limit)
        if self._sequence is not None:
            decision.sequence = self._sequence()
        return decision

    def decide_several(self, identifier: str, limits: tuple[Limit, ...], cost: float, now: float, consume: bool) -> Decision:
        """Decide several limits together: all of them admit and are charged, or none is."""
        cost, now = check_cost(cost), check_time(now)
        work = []
        allowed = True
        for limit in limits:
            algorithm, p, size, head = bind(limit)
            rule = algorithm.rule
            key: Hashable = (identifier, limit.name) if limit.name else identifier
            entry = self._live(identifier, key, entry_class(algorithm, size), now)
            if entry is None:
                s = [0.0] * rule.size(p)
                before = s
                rule.start(s, p, now)
                at = now
            else:
                s = self._within_bound(key, entry, limit, now, consume)
                before = s[:head]
                at = max(now, s[0])
                rule.refresh(s, p, at)
            left = rule.available(s, p, at)
            allowed = allowed and left >= cost
            work.append((limit, bind(limit), key, entry, s, before, at, left))
        decisions = []
        for limit, (algorithm, p, size, head), key, entry, s, before, at, left in work:
            rule = algorithm.rule
            if allowed and consume:
                rule.charge(s, p, cost, at)
                left = rule.available(s, p, at)
            reset_after = rule.reset_after(s, p, at) + (at - now)
            if allowed and consume:
                kept = entry or entry_class(algorithm, size)(now)
                if self._entries.by_key.get(key) is not kept:  # new, or it had to make room for another of these limits
                    self._entries.insert(identifier, key, kept, now)
                kept.request_count += 1
                self._keep(key, kept, s, limit, at, now + reset_after)
            elif entry is not None:
                s[:head] = before
            decisions.append(Decision(allowed, max(left, 0.0), 0.0, reset_after, limit))
        if allowed:
            deciding = min(decisions, key=lambda decision: decision.remaining)
        else:
            held = [
                (bound.algorithm.rule, None if entry is None else s, bound.params, bound.head)
                for _, bound, _, entry, s, _, _, _ in work
            ]
            retry_after, last = joint_retry_after(held, cost, now)
            deciding = decisions[last]
            deciding.retry_after = retry_after
        if self._sequence is not None:
            deciding.sequence = self._sequence()
        return deciding

    def _within_bound(self, key: Hashable, entry: Entry, limit: Limit, now: float, consume: bool) -> list[float]:
        """Return the working state of an entry, brought back to `now` if it is too far ahead.

        That is written at once, also for a request that will be denied: waiting would never be enough otherwise, because a
        later request would find the state as full, and as far ahead. A peek gets a copy, and changes nothing.
        """
        s = entry.load()
        if s[0] - now <= min(self.max_clock_skew, limit.period):
            return s
        if consume:
            self.rewind(key, entry, limit, now)
            return entry.load()
        s = list(s)
        bind(limit).algorithm.rule.rewind(s, bind(limit).params, now)
        return s

    def rewind(self, key: Hashable, entry: Entry, limit: Limit, now: float) -> None:
        """Bring an entry back to `now`."""
        now = check_time(now)
        algorithm, p, _, _ = bind(limit)
        s = entry.load()
        algorithm.rule.rewind(s, p, now)
        self.rewinds += 1
        self._keep(key, entry, s, limit, now, now + algorithm.rule.reset_after(s, p, now))

    def _live(self, identifier: str, key: Hashable, mine: type[Entry], now: float) -> Entry | None:
        """Return the entry that a decision goes on from, if there is one."""
        if identifier.__class__ is not str or not identifier.isascii():
            check_identifier(identifier)
        self.tally[0] += 1
        entry = self._entries.by_key.get(key)
        if entry is not None:
            self._entries.touch(key)
            assert isinstance(entry, Entry)
            if entry.__class__ is mine and entry.expires_at > now:
                return entry
            self.give_up(entry, now)
        self.tally[1] += 1
        return None

    def give_up(self, entry: Entry, now: float) -> None:
        """Take note that an entry is given up, because it has expired or belongs to another algorithm."""
        if entry.expires_at > now:
            self.restarts += 1

    def _keep(self, key: Hashable, entry: Entry, s: list[float], limit: Limit, at: float, fresh_at: float) -> None:
        """Keep a state that was written at `at` and is as good as new at `fresh_at`."""
        entry.store(s)
        entry.limit = limit
        entry.last_accessed = at
        entry.expires_at = fresh_at + EXPIRY_MARGIN
        self._entries.written(key, entry, at)

    def observe(self, identifier: str, limits: tuple[Limit, ...], score: float, now: float) -> None:
        """Feed a score to the limits, all of which must learn from scores."""
        for limit in limits:
            algorithm, p, size, _ = bind(limit)
            rule = algorithm.feedback
            assert rule is not None
            key: Hashable = (identifier, limit.name) if limit.name else identifier
            mine = entry_class(algorithm, size)
            now = check_time(now)
            entry = self._live(identifier, key, mine, now)
            if entry is None:
                entry = mine(now)
                self._entries.insert(identifier, key, entry, now)
                s = [0.0] * rule.size(p)
                rule.start(s, p, now)
            else:
                s = self._within_bound(key, entry, limit, now, True)
            at = max(now, s[0])
            rule.refresh(s, p, at)
            rule.observe(s, p, score, at)
            self._keep(key, entry, s, limit, at, at + rule.reset_after(s, p, at))

    def apply(self, charge: Charge) -> Entry:
        """Apply one charge; return the entry that it went into."""
        limit = charge.limit
        algorithm, p, size, _ = bind(limit)
        rule = algorithm.rule
        key: Hashable = (charge.identifier, limit.name) if limit.name else charge.identifier
        first = charge.entries[0][0]
        mine = entry_class(algorithm, size)
        entry = self._live(charge.identifier, key, mine, first)
        if entry is None:
            entry = mine(first)
            self._entries.insert(charge.identifier, key, entry, first)
            s = [0.0] * rule.size(p)
            rule.start(s, p, first)
        else:
            s = entry.load()
        marks = entry.details().watermarks
        entries, marks[charge.node] = undelivered_part(charge, marks.get(charge.node))
        for time, cost, requests in entries:
            if time > s[0]:
                rule.refresh(s, p, time)
            rule.charge(s, p, cost, time)
            entry.request_count += requests
        at = max(charge.entries[-1][0], s[0])
        self._keep(key, entry, s, limit, at, at + rule.reset_after(s, p, at))
        return entry
