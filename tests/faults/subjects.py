"""`Subject`: two nodes of one backend with one set of policies, asked without a pause through a fault, and measured."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from ratesim import Limit
from ratesim.errors import KeyRefusedError, StorageConnectionError, StorageError
from ratesim.runtime import AsyncioRuntime
from ratesim.storage import HybridStorage, RateLimitStorage, open_storage

NODES = 2
PERIOD = 1e7  # seconds; no window ends within a test
SCARCE = Limit(20.0, PERIOD, "fixed_window")  # shows what is admitted too much
PLENTY = Limit(1e6, PERIOD, "fixed_window")  # never used up, and so shows what was not counted
KEYS = {"scarce": SCARCE, "plenty": PLENTY}

# The options of every storage here. Bounds of time are given in their terms.
TIMES = {
    "command_timeout": 0.5,
    "connection_timeout": 0.5,
    "breaker_reset": 0.3,
    "max_wait": 0.6,
    "sync_interval": 0.1,
    "l1_ttl": 0.4,
    "lease_ttl": 0.3,
}
CLIENT = {"pool_size": 2, "retries": 1, "breaker_failures": 3, "command_timeout": TIMES["command_timeout"]}
CLIENT |= {name: TIMES[name] for name in ("connection_timeout", "breaker_reset")}
HYBRID = {name: TIMES[name] for name in ("max_wait", "sync_interval", "l1_ttl", "lease_ttl")} | {"nodes": NODES}
PAUSE = 0.04  # seconds between two requests of a caller
POLL = 0.02
# Everything that is measured here is late by what the machine is late; see `Lag`. Bounds of time are tripled besides: a test
# of this size tells a caller that hangs from one that waits, not a second from two.
SLACK = 3.0


@dataclass(frozen=True)
class Policy:
    """Plain where `consistency` is empty, else a hybrid."""

    consistency: str = ""
    fallback: str = ""
    options: str = ""  # more of them, as in a URL

    def __str__(self) -> str:
        return f"{self.consistency or 'plain'} {self.fallback} {self.options}".strip()

    def url(self, url: str, **more: object) -> str:
        options: dict[str, object] = CLIENT | more
        if self.consistency:
            url = f"hybrid+{url}"
            options |= HYBRID | {"consistency": self.consistency, "on_store_failure": self.fallback}
        return with_options(url, **options) + ("&" + self.options if self.options else "")


CONSISTENCIES = ("eventual", "session", "lease", "strong")
FALLBACKS = ("fail_open", "fail_closed", "local")
PLAIN = Policy()
HYBRIDS = [Policy(consistency, fallback) for consistency in CONSISTENCIES for fallback in FALLBACKS]


def with_options(url: str, **options: object) -> str:
    query = "&".join(f"{name}={value}" for name, value in options.items())
    return f"{url}{'&' if '?' in url else '?'}{query}"


@dataclass(slots=True)
class Answer:
    """One request, as its caller saw it; times are of the monotonic clock."""

    begin: float
    end: float
    node: int
    key: str
    allowed: bool
    error: str = ""


@dataclass
class Subject:
    """The nodes of one backend and policy.

    Attributes
    ----------
    answers
        Every answer that a caller got, in the order of their ends.
    unknown
        Requests of which the client cannot know whether the server carried them out.
    largest
        The largest cost of one acquire at the store.
    canceled
        Callers that were canceled.
    clocks
        By node, the seconds by which its clock is ahead.
    right_at
        When all clocks were right again; monotonic.
    ended
        Whether callers make no more requests.
    well_at
        By node, when it was well again; monotonic.
    """

    policy: Policy
    nodes: list[RateLimitStorage]
    tag: str
    answers: list[Answer] = field(default_factory=list)
    unknown: int = 0
    largest: float = 1.0
    canceled: int = 0
    right_at: float = 0.0
    ended: bool = False
    clocks: list[float] = field(default_factory=lambda: [0.0] * NODES)
    well_at: dict[int, float] = field(default_factory=dict)

    @classmethod
    def open(cls, policy: Policy, url: str, tag: str, nodes: int = NODES) -> Subject:
        """Make the nodes; they connect when they are used."""
        subject = cls(policy, [], f"{tag}{policy}".replace(" ", "-"))
        for k in range(nodes):
            runtime = AsyncioRuntime(lambda k=k: time.time() + subject.clocks[k])
            node = open_storage(policy.url(url), runtime)
            subject.nodes.append(node)
            far = node.l2 if isinstance(node, HybridStorage) else node
            far.acquire = subject._watched(far.acquire)  # type: ignore[method-assign]
        return subject

    def _watched(self, acquire: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        """`acquire`, with the requests counted whose fate is unknown."""

        async def watched(*arguments: Any, **options: Any) -> Any:
            self.largest = max([self.largest, *(float(cost) for cost in arguments[2:3])])
            try:
                return await acquire(*arguments, **options)
            except (StorageError, asyncio.CancelledError) as error:
                told = (
                    error.sent is False if isinstance(error, StorageConnectionError) else isinstance(error, KeyRefusedError)
                )
                self.unknown += not told
                raise

        return watched

    def callers(self) -> Iterator[Awaitable[None]]:
        """The callers: at each node one for each key."""
        for node in range(len(self.nodes)):
            for key, limit in KEYS.items():
                yield self._call(node, key, limit)

    async def _call(self, node: int, key: str, limit: Limit) -> None:
        session: str | None = None
        while not self.ended:
            answer, session = await self.ask(node, key, limit, session)
            self.answers.append(answer)
            await asyncio.sleep(PAUSE)

    async def ask(self, node: int, key: str, limit: Limit, session: str | None) -> tuple[Answer, str | None]:
        """One request. An error that is no StorageError ends the test."""
        begin = time.monotonic()
        try:
            decision = await self.nodes[node].acquire(f"{self.tag}-{key}", limit, session=session)
        except StorageError as error:
            return Answer(begin, time.monotonic(), node, key, False, type(error).__name__), session
        return Answer(begin, time.monotonic(), node, key, decision.allowed), decision.session or session

    def progressed(self, since: float, count: int, sound: bool = False) -> bool:
        """Whether every caller has had so many answers to requests made since then, errors not counted where `sound`."""
        mine = [each for each in self.answers if each.key in KEYS and each.begin >= since and not (sound and each.error)]
        seen = Counter((each.node, each.key) for each in mine)
        return len(seen) == 2 * len(self.nodes) and min(seen.values()) >= count

    async def recover(self) -> None:
        """Wait until every node is well, and note when that was."""
        await asyncio.gather(*(self._recover(k, node) for k, node in enumerate(self.nodes)))

    async def _recover(self, k: int, node: RateLimitStorage) -> None:
        flushes = node.sync_stats().flushes if isinstance(node, HybridStorage) else 0
        for attempt in range(10**9):
            if await self._is_well(node, f"{self.tag}-probe-{k}-{attempt}", flushes):
                self.well_at[k] = time.monotonic()
                return
            await asyncio.sleep(POLL)

    async def _is_well(self, node: RateLimitStorage, key: str, flushes: int) -> bool:
        """Whether a new key is decided with the store, and what was admitted meanwhile has arrived there."""
        before = node.sync_stats().fallback_decisions if isinstance(node, HybridStorage) else 0
        try:
            await node.acquire(key, PLENTY)
        except StorageError:
            return False
        if not isinstance(node, HybridStorage):
            return True
        stats = node.sync_stats()
        near = self.policy.consistency in ("eventual", "session")  # what was admitted now is flushed in a moment
        return stats.fallback_decisions == before and stats.breaker == "closed" and (not near or stats.flushes > flushes)

    async def close(self) -> None:
        """Flush and close the nodes."""
        for node in self.nodes:
            await node.close()

    # -- what came of it ----------------------------------------------------------------------------------------------

    def admitted(self, key: str, begin: float = 0.0, end: float = 1e99, node: int | None = None) -> int:
        """Requests that were admitted and answered in [begin, end)."""
        return sum(
            each.allowed and each.key == key and begin <= each.end < end and node in (None, each.node)
            for each in self.answers
        )

    def requested(self, key: str, begin: float, end: float) -> int:
        """Requests that were under way at a time of [begin, end)."""
        return sum(each.key == key and each.end >= begin and each.begin < end for each in self.answers)

    def errors(self, begin: float) -> Counter[str]:
        """Errors that callers saw since then, by class."""
        return Counter(each.error for each in self.answers if each.error and each.end >= begin)

    def longest(self, begin: float) -> float:
        """The longest wait of a caller that ended since then, in seconds."""
        return max(each.end - each.begin for each in self.answers if each.end >= begin)

    def changes(self, key: str, begin: float, end: float) -> int:
        """How often another node was answered than the one before; 2 more for the clock that moved and moved back."""
        nodes = [each.node for each in self.answers if each.key == key and begin <= each.end <= end]
        return 2 + sum(one != other for one, other in pairwise(nodes))

    def unseen(self, key: str, seconds: float) -> int:
        """The most that all nodes but the one that admits least admit in any so many seconds: A of docs/bounds.md, 9."""
        most = []
        for node in range(len(self.nodes)):
            times = [each.end for each in self.answers if each.allowed and each.key == key and each.node == node]
            most.append(max((sum(at <= each < at + seconds for each in times) for at in times), default=0))
        return sum(most) - min(most)

    async def counted(self, key: str, limit: Limit, url: str) -> float:
        """The cost that the store counts, read by a storage of its own."""
        own = "" if self.policy.consistency else self.policy.options  # such as the table
        async with open_storage(with_options(url, command_timeout=10) + (own and f"&{own}")) as storage:
            decision = await storage.peek(f"{self.tag}-{key}", limit, 0.0)
        return limit.rate - decision.remaining


class Lag:
    """The most seconds by which the event loop was late, while it ran."""

    def __init__(self) -> None:
        self.most = 0.0

    async def run(self) -> None:
        while True:
            due = time.monotonic() + POLL
            await asyncio.sleep(POLL)
            self.most = max(self.most, time.monotonic() - due)
