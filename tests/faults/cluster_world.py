"""A real Redis cluster, or a primary with sentinels, under load: what breaks it, and the figures of what came of that.

    with valkey_cluster(3, 1, node_timeout=1.0) as server:
        figures = await failover(ClusterWorld(server), shard=0, lag=0.3)

`figures` are those that a simulated failover gives as well: requests without a decision, seconds, over-admission.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.retry import Retry
from stores import PATIENCE, wait_until
from subjects import Answer, Lag, with_options

from ratesim import Limit
from ratesim.errors import StorageError
from ratesim.servers import Server
from ratesim.servers.server import Member
from ratesim.storage import RateLimitStorage, open_storage
from ratesim.storage.redis.keys import key_of
from ratesim.storage.redis.state_fields import read_state

SLOTS = 16384
PERIOD = 1e7  # seconds; no window ends within a test
PREFIX = "ratesim:"
TASKS = 16
PACE = 0.004  # seconds between two requests of a task
AT_A_TIME = 20  # slots that move together
SOME = 50  # slots that move besides those of the keys, where their number does not matter
DRAIN = 0.1  # seconds in which the last answers of a dead primary arrive


@dataclass(frozen=True)
class Figures:
    """What one fault did to callers.

    Attributes
    ----------
    requests
        Requests that began from the fault on until every key was decided again.
    without_decision
        Those of them that ended with an error.
    errors
        Their errors by class.
    elsewhere
        Decisions, meanwhile, of keys whose shard had no fault.
    seconds
        From the fault until every key was decided again.
    admitted
        Cost that was admitted in the whole run.
    over
        Cost that was admitted above the limits.
    lost
        Admitted cost that the replica did not have when it took over.
    longest
        The longest wait of a caller, in seconds.
    lag
        Seconds by which this machine was late.
    """

    requests: int
    without_decision: int
    errors: Counter[str]
    elsewhere: int
    seconds: float
    admitted: int
    over: float
    lost: float
    longest: float
    lag: float


class ClusterWorld:
    """The members of a cluster or of a primary with sentinels, and what can be done to them.

    Attributes
    ----------
    primaries
        By shard, the member that is its primary now.
    replicas
        By shard, the member that is its replica now; None once it has taken over.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self.primaries = {each.shard: each for each in server.members if each.role == "primary"}
        self.replicas: dict[int | None, Member | None] = {
            each.shard: each for each in server.members if each.role == "replica"
        }
        self._moved: dict[int, int] = {}  # slots that are elsewhere than in the beginning, and the shards that they are on

    @staticmethod
    def ask(member: Member, *command: Any) -> Any:
        """Send a command to one member."""
        with redis.Redis.from_url(member.url, socket_timeout=PATIENCE, retry=Retry(NoBackoff(), 0)) as client:
            return client.execute_command(*command, NEVER_DECODE=True)

    def shard_of(self, identifier: str) -> int:
        """The shard that has an identifier."""
        slot = int(key_slot(key_of(PREFIX, identifier)))
        return self._moved.get(slot, slot * len(self.primaries) // SLOTS)

    def identifiers(self, tag: str, each: int) -> dict[int, list[str]]:
        """So many identifiers of each shard."""
        found: dict[int, list[str]] = {int(shard or 0): [] for shard in self.primaries}
        for number in range(10**6):
            name = f"{tag}:{number}"
            if len(found[self.shard_of(name)]) < each:
                found[self.shard_of(name)].append(name)
            elif min(map(len, found.values())) == each:
                break
        return found

    # -- faults -------------------------------------------------------------------------------------------------------

    def kill(self, shard: int) -> None:
        """Kill the primary of a shard (kill -9)."""
        os.kill(self.primaries[shard].pid, signal.SIGKILL)

    def set_node_timeout(self, seconds: float) -> None:
        """Set how long a member of the cluster may be silent before its replica takes over."""
        for member in [*self.primaries.values(), *filter(None, self.replicas.values())]:
            with suppress(redis.ConnectionError):  # it was killed
                self.ask(member, "CONFIG", "SET", "cluster-node-timeout", round(seconds * 1000))

    def part(self, shard: int) -> None:
        """Cut the replica of a shard off: it hears nothing more of its primary, which does not wait for it."""
        replica = self.replicas[shard]
        assert replica is not None
        self.ask(replica, "CONFIG", "SET", "masterauth", "none of yours")
        self.ask(self.primaries[shard], "CLIENT", "KILL", "TYPE", "replica")

    def wait_for_promotion(self, shard: int) -> None:
        """Wait until the replica has become the primary, and all of the cluster know it."""
        replica = self.replicas[shard]
        assert replica is not None
        wait_until(lambda: self.ask(replica, "ROLE")[0] == b"master", "the promotion of the replica")
        self.primaries[shard], self.replicas[shard] = replica, None

    def counts(self, shard: int, identifiers: Iterable[str]) -> dict[str, float] | None:
        """The cost that the replica of a shard counts, unless it has become the primary meanwhile."""
        replica, found = self.replicas[shard], {}
        assert replica is not None
        with redis.Redis.from_url(replica.url, retry=Retry(NoBackoff(), 0), single_connection_client=True) as client:
            client.execute_command("READONLY")
            for name in identifiers:
                state: Any = read_state(client.execute_command("HGETALL", key_of(PREFIX, name), NEVER_DECODE=True), "", None)
                found[name] = state.algorithm_data.fields["count"] if state else 0.0
            is_replica = client.execute_command("ROLE", NEVER_DECODE=True)[0] != b"master"
        return found if is_replica else None

    async def reshard(self, source: int, target: int, slots: Sequence[int]) -> None:
        """Move slots from shard to shard key by key, as redis-cli does; some at a time."""
        names = {shard: self.ask(self.primaries[shard], "CLUSTER", "MYID") for shard in (source, target)}
        clients = {shard: redis.asyncio.Redis.from_url(member.url) for shard, member in self.primaries.items()}
        address = clients[target].get_connection_kwargs()
        free = asyncio.Semaphore(AT_A_TIME)

        async def move(slot: int) -> None:
            async with free:
                await clients[target].execute_command("CLUSTER SETSLOT", slot, "IMPORTING", names[source])
                await clients[source].execute_command("CLUSTER SETSLOT", slot, "MIGRATING", names[target])
                while keys := await clients[source].execute_command("CLUSTER GETKEYSINSLOT", slot, 1, NEVER_DECODE=True):
                    where = ("127.0.0.1", address["port"], keys[0], 0, 5000, "AUTH", address["password"])
                    await clients[source].execute_command("MIGRATE", *where)
                for shard in (target, source, *clients.keys() - {source, target}):
                    await clients[shard].execute_command("CLUSTER SETSLOT", slot, "NODE", names[target])
                self._moved[slot] = target

        try:
            async with asyncio.TaskGroup() as group:
                for slot in slots:
                    group.create_task(move(slot))
        finally:
            for client in clients.values():
                await client.aclose()


@dataclass
class Load:
    """Tasks that ask for random keys of one storage without a pause.

    Attributes
    ----------
    answers
        What the callers got, in the order of their ends.
    """

    storage: RateLimitStorage
    identifiers: dict[int, list[str]]
    limit: Limit
    answers: list[Answer] = field(default_factory=list)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _lag: Lag = field(default_factory=Lag)

    @classmethod
    @asynccontextmanager
    async def on(cls, world: ClusterWorld, tag: str, rate: float, each: int = 3, **options: object) -> AsyncIterator[Load]:
        """Load a world, with so many keys on each shard."""
        async with open_storage(with_options(world.server.url, **options)) as storage:
            load = cls(storage, world.identifiers(tag, each), Limit(rate, PERIOD, "fixed_window"))
            load._tasks = [asyncio.create_task(load._call(number)) for number in range(TASKS)]
            load._tasks.append(asyncio.create_task(load._lag.run()))
            try:
                yield load
            finally:
                for task in load._tasks:
                    task.cancel()
                await asyncio.gather(*load._tasks, return_exceptions=True)

    @property
    def keys(self) -> list[str]:
        return [name for names in self.identifiers.values() for name in names]

    async def _call(self, number: int) -> None:
        keys = self.keys
        while True:
            number += 1
            name, begin, error, allowed = keys[number % len(keys)], time.monotonic(), "", False
            try:
                allowed = (await self.storage.acquire(name, self.limit)).allowed
            except StorageError as raised:
                error = type(raised).__name__
            self.answers.append(Answer(begin, time.monotonic(), 0, name, allowed, error))
            await asyncio.sleep(PACE)

    async def until(self, ready: Callable[[], bool], what: str) -> None:
        """Wait for something that the callers bring about."""
        deadline = time.monotonic() + PATIENCE
        while not ready():
            for task in self._tasks:
                if task.done():
                    task.result()
            assert time.monotonic() < deadline, f"{what} has not come to pass in {PATIENCE:.0f} s"
            await asyncio.sleep(0.01)

    def admitted(self, name: str) -> int:
        return sum(each.allowed for each in self.answers if each.key == name)

    async def until_admitted(self, share: float, shard: int) -> None:
        """Wait until every key of a shard has used a share of its limit."""
        names = self.identifiers[shard]
        await self.until(lambda: min(map(self.admitted, names)) >= share * self.limit.rate, "the first admissions")

    async def until_decided(self, since: float) -> float:
        """Wait until every key was decided on a request of after `since`, and return when that was."""

        def first() -> dict[str, float]:
            found: dict[str, float] = {}
            for each in self.answers:
                if each.begin >= since and not each.error:
                    found.setdefault(each.key, each.end)
            return found

        await self.until(lambda: len(first()) == len(self.keys), "a decision on every key")
        return max(first().values())

    async def until_used_up(self, since: float) -> None:
        """Wait until every key was denied since."""
        names = set(self.keys)
        await self.until(
            lambda: {e.key for e in self.answers if e.begin >= since and not e.error and not e.allowed} == names,
            "the end of every limit",
        )

    def figures(self, shard: int, begin: float, end: float, lost: float) -> Figures:
        """What a fault of a shard has done, that began and ended then."""
        held = [each for each in self.answers if begin <= each.begin < end]
        errors = Counter(each.error for each in held if each.error)
        faulty = set(self.identifiers[shard])
        strange = {each.key: each.error for each in held if each.error and each.key not in faulty}
        assert not strange, f"errors of keys whose shard had no fault: {strange}"
        admitted = [self.admitted(name) for name in self.keys]
        return Figures(
            requests=len(held),
            without_decision=errors.total(),
            errors=errors,
            elsewhere=sum(not each.error and each.key not in faulty for each in held),
            seconds=end - begin,
            admitted=sum(admitted),
            over=sum(max(0.0, each - self.limit.rate) for each in admitted),
            lost=lost,
            longest=max(each.end - each.begin for each in held),
            lag=self._lag.most,
        )


class MemberStore:
    """A shard of a world as a `Store` whose faults `play` injects; its keys begin with `tag`.

    Attributes
    ----------
    tag
        What identifiers on the shard begin with.
    """

    def __init__(self, name: str, world: ClusterWorld, shard: int) -> None:
        self.name = name
        self.fault = ""
        self.tag = next(tag for number in range(10**6) if world.shard_of(tag := f"{number}}}") == shard)
        self._world = world
        self._shard = shard
        self._frozen: Member | None = None

    def url_for(self, fault: str) -> str:
        """The address, which is the same through every fault."""
        return self._world.server.url

    def inject(self, fault: str) -> None:
        """Kill or freeze the primary, or move slots to the next shard."""
        self.fault = fault
        if fault == "failover":
            self._world.kill(self._shard)
        elif fault == "freeze":
            self._frozen = self._world.primaries[self._shard]
            os.kill(self._frozen.pid, signal.SIGSTOP)
        else:
            first = SLOTS * self._shard // len(self._world.primaries)
            slots = {key_slot(key_of(PREFIX, self.tag)), *range(first, first + SOME)}
            asyncio.run(self._world.reshard(self._shard, (self._shard + 1) % len(self._world.primaries), sorted(slots)))

    def mend(self) -> None:
        """Wait until the replica has taken over, and let a frozen primary go on; slots stay where they are."""
        if self.fault in ("failover", "freeze"):
            self._world.wait_for_promotion(self._shard)
        if self._frozen is not None:
            frozen, self._frozen = self._frozen, None
            os.kill(frozen.pid, signal.SIGCONT)
            wait_until(lambda: self._world.ask(frozen, "ROLE")[0] == b"slave", "the former primary's becoming a replica")
            self._world.replicas[self._shard] = frozen
        self.fault = ""

    def connections(self) -> int:
        """How many connections others hold to the members that live."""
        found = 0
        for member in [*self._world.primaries.values(), *filter(None, self._world.replicas.values())]:
            with suppress(redis.ConnectionError), redis.Redis.from_url(member.url, retry=Retry(NoBackoff(), 0)) as client:
                found += sum(each["flags"] not in ("S", "M") for each in client.client_list()) - 1
        return found


async def failover(
    world: ClusterWorld,
    shard: int,
    tag: str,
    rate: float,
    lag: float = 0.0,
    node_timeout: float | None = None,
    **options: object,
) -> Figures:
    """Kill a primary under load, and wait until its replica decides.

    Parameters
    ----------
    lag
        Seconds before that in which the replica hears nothing.
    node_timeout
        That of the cluster from then on, so that the replica is read before it takes over, however slow the machine is.
    """
    async with Load.on(world, tag, rate, **options) as load:
        await load.until_admitted(0.2, shard)
        if lag:
            await asyncio.to_thread(world.part, shard)
            await asyncio.sleep(lag)
        begin = time.monotonic()
        world.kill(shard)
        await asyncio.sleep(DRAIN)
        counts = await asyncio.to_thread(world.counts, shard, load.identifiers[shard])
        assert counts is not None, "the replica took over before it could be read; give the cluster a longer node timeout"
        if node_timeout is not None:
            await asyncio.to_thread(world.set_node_timeout, node_timeout)
        lost = {name: max(0.0, load.admitted(name) - count) for name, count in counts.items()}
        await asyncio.to_thread(world.wait_for_promotion, shard)
        end = await load.until_decided(begin + DRAIN)
        await load.until_used_up(end)
        for name in load.keys:
            assert load.admitted(name) <= load.limit.rate + lost.get(name, 0.0), f"{name}: more than the replica has lost"
        return load.figures(shard, begin, end, sum(lost.values()))


async def reshard(world: ClusterWorld, source: int, target: int, slots: int, tag: str, rate: float) -> Figures:
    """Move slots under load, those of the keys that are asked for among them."""
    async with Load.on(world, tag, rate) as load:
        await load.until_admitted(0.1, source)
        own = dict.fromkeys(int(key_slot(key_of(PREFIX, name))) for name in load.identifiers[source])
        first = SLOTS * source // len(world.primaries)
        moved = list(dict.fromkeys([*range(first, first + slots - len(own)), *own]))
        moved = sorted(moved, key=lambda slot: slot * 7919 % SLOTS)  # those of the keys between the others
        begin = time.monotonic()
        await world.reshard(source, target, moved)
        moved_at = time.monotonic()
        end = await load.until_decided(moved_at)
        await load.until_used_up(end)
        figures = load.figures(source, begin, end, 0.0)
        assert all(load.admitted(name) == load.limit.rate for name in load.keys), "a limit was not used up exactly"
        return figures
