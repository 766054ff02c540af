"""Random histories of an L2 that refuses or fails items of its calls. Once it is well, it knows every good key exactly.

200 of them in `make test`, 10 thousand in `make nightly` or with `--hypothesis-profile=nightly`.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, get_args

from examples import examples
from hybrid_world import EPOCH, Shared, World
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ratesim import Limit
from ratesim.errors import (
    BatchError,
    KeyRefusedError,
    SerializationError,
    StorageConnectionError,
    StorageError,
    StorageTimeoutError,
    StorageUnavailableError,
)
from ratesim.runtime import SimRuntime
from ratesim.state import RateLimitState
from ratesim.storage import Charge, config

LINGER = 0.005
HISTORIES = examples(200, nightly=10_000)
GOOD = tuple(f"good {i}" for i in range(6))
BAD = ("refused", "broken")  # by some calls
POISON = "poison"  # fails the whole call that it travels in
NODES = 2
PLENTY = Limit(1e9, 1e9, "fixed_window")
REFUSALS = (KeyRefusedError("refused"), SerializationError("damaged"))
FAILURES = (
    StorageError("odd"),
    StorageTimeoutError("late"),
    StorageConnectionError("reset"),
    StorageUnavailableError("full"),
)

nodes = st.integers(0, NODES - 1)


class Capricious(Shared):
    """Refuses and fails items of its calls by chance, applied or not, and fails calls as a whole."""

    def __init__(self, runtime: SimRuntime) -> None:
        super().__init__(runtime)
        self.random = random.Random(0)
        self.item_fails = self.call_fails = self.bad_is_refused = 0.0
        self.poisonous = False

    def happens(self, probability: float) -> bool:
        return self.random.random() < probability

    def error_of(self, identifier: str) -> StorageError | None:
        if identifier in BAD and self.happens(self.bad_is_refused):
            return self.random.choice(REFUSALS)
        return self.random.choice(FAILURES) if self.happens(self.item_fails) else None

    def fail_call(self, identifiers: Sequence[str]) -> None:
        if self.poisonous and POISON in identifiers:
            raise StorageError("a call that carries the poison fails")
        if self.happens(self.call_fails):
            raise self.random.choice(FAILURES)

    async def charge_many(self, charges: Sequence[Charge]) -> list[RateLimitState]:
        await self._travel()
        self.fail_call([charge.identifier for charge in charges])
        results: list[Any] = []
        for charge in charges:
            error = self.error_of(charge.identifier)
            if not isinstance(error, StorageError):
                results.append(self.charge_nowait(charge).export())
            else:
                if not isinstance(error, KeyRefusedError) and self.happens(0.5):
                    self.charge_nowait(charge)  # its answer is lost
                results.append(error)
        if any(isinstance(result, StorageError) for result in results):
            raise BatchError(results)
        return results

    async def get_state(self, identifier: str, name: str = "") -> RateLimitState | None:
        state = await super().get_state(identifier, name)
        self.fail_call([identifier])
        if (error := self.error_of(identifier)) is not None:
            raise error
        return state


def capricious(**options: Any) -> tuple[World, Capricious]:
    world = World(1, **options)
    world.l2 = l2 = Capricious(world.runtime)
    world.nodes = [world.node(0)]
    return world, l2


def known(l2: Shared, key: str) -> float:
    return PLENTY.rate - l2.left(key, PLENTY, EPOCH)


def test_write_behind_sends_good_keys_at_once_beside_one_that_fails_every_call_it_travels_in() -> None:
    world, l2 = capricious(write="write_behind", linger=LINGER, sync_interval=10.0, flush_batch=8)
    node, l2.poisonous = world.nodes[0], True

    async def ask(key: str) -> None:
        await node.acquire(key, PLENTY)

    for key in (*GOOD, POISON):
        world.runtime.spawn(ask(key))
    world.env.run(until=60.0)  # the poison stands alone
    assert all(known(l2, key) == 1 for key in GOOD)
    for number in range(2, 50):
        for key in GOOD:
            world.runtime.spawn(ask(key))
        world.env.run(until=world.env.now + LINGER + 10 * l2.delay)
        assert all(known(l2, key) == number for key in GOOD)
    assert node.sync_stats().unflushed == 1
    l2.poisonous = False
    world.env.run()
    assert known(l2, POISON) == 1


def test_a_key_that_keeps_failing_is_tried_ever_less_often_while_others_are_flushed_at_each_tick() -> None:
    world, l2 = capricious(write="write_back", sync_interval=0.1)
    node, l2.poisonous = world.nodes[0], True

    async def main() -> None:
        await node.acquire(POISON, PLENTY)
        for _ in range(1000):
            await node.acquire(GOOD[0], PLENTY)
            await world.runtime.sleep(0.1)

    world.runtime.spawn(main())
    world.env.run(until=100.0)
    assert node.sync_stats().failed_flushes < 30
    assert known(l2, GOOD[0]) >= 998


def test_flush_waits_for_what_the_worker_is_sending() -> None:
    world, l2 = capricious(sync_interval=0.1)
    l2.delay = 0.03
    node = world.nodes[0]

    async def main() -> None:
        await node.acquire(GOOD[0], PLENTY)
        await world.runtime.sleep(0.1 + 0.01 - world.runtime.monotonic() % 0.1)
        assert node.sync_stats().flushes == 0
        assert await node.flush()
        assert node.sync_stats().unflushed == 0

    world.play(main)


class Refusals(RuleBasedStateMachine):
    """Nodes that are asked for good keys, bad ones and a poison while L2 is capricious."""

    @initialize(
        consistency=st.sampled_from(["eventual", "eventual", "session"]),
        write=st.sampled_from(get_args(config.WritePolicy)),
        read=st.sampled_from(get_args(config.ReadPolicy)),
        batch=st.sampled_from([1, 2, 5, 512]),
        seed=st.integers(0, 2**32),
    )
    def begin(self, consistency: str, write: str, read: str, batch: int, seed: int) -> None:
        self.admitted: dict[str, float] = defaultdict(float)
        self.unanswered = 0
        self.world = World(
            NODES,
            consistency=consistency,
            write=write,
            read=read,
            flush_batch=batch,
            queue_size=100_000,
            l1_ttl=2.0,
            refresh_after=0.5,
            max_wait=0.4,
        )
        self.world.l2 = self.l2 = Capricious(self.world.runtime)
        self.l2.random.seed(seed)
        self.world.nodes = [self.world.node(k) for k in range(NODES)]

    def run(self, seconds: float) -> None:
        self.world.env.run(until=self.world.env.now + seconds)

    @rule(k=nodes, keys=st.lists(st.sampled_from([*GOOD, *GOOD, *BAD, POISON]), min_size=1, max_size=8))
    def ask(self, k: int, keys: list[str]) -> None:
        async def one(key: str) -> None:
            decision = await self.world.nodes[k].acquire(key, PLENTY)
            self.admitted[key] += decision.allowed
            self.unanswered -= 1

        for key in keys:
            self.unanswered += 1
            self.world.runtime.spawn(one(key))
        self.run(1e-9)

    @rule(seconds=st.sampled_from([0.0005, 0.01, 0.1, 0.37, 1.0, 5.0]))
    def wait(self, seconds: float) -> None:
        self.run(seconds)

    @rule(
        item=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
        call=st.sampled_from([0.0, 0.0, 0.3, 1.0]),
        refused=st.sampled_from([0.0, 0.5, 1.0]),
        poisonous=st.booleans(),
    )
    def l2_is(self, item: float, call: float, refused: float, poisonous: bool) -> None:
        self.set_l2(item, call, refused, poisonous)

    def set_l2(self, item: float, call: float, refused: float, poisonous: bool) -> None:
        self.l2.item_fails, self.l2.call_fails = item, call
        self.l2.bad_is_refused, self.l2.poisonous = refused, poisonous

    @invariant()
    def nothing_counts_twice(self) -> None:
        if hasattr(self, "world"):
            assert all(self.known(key) <= self.admitted[key] + self.unanswered for key in (*GOOD, *BAD, POISON))

    def known(self, key: str) -> float:
        return known(self.l2, key)

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        if self.l2.poisonous:
            # A poison that never heals keeps none of the others back.
            self.set_l2(0.0, 0.0, 1.0, True)
            self.run(60.0)
            assert not self.unanswered
            assert all(self.known(key) == self.admitted[key] for key in GOOD)
        self.set_l2(0.0, 0.0, 0.0, False)
        self.world.env.run()
        assert not self.unanswered
        assert all(self.known(key) == self.admitted[key] for key in (*GOOD, POISON))
        stats = [node.sync_stats() for node in self.world.nodes]
        assert all((each.unflushed, each.dropped_cost) == (0.0, 0.0) for each in stats)
        refused, both = sum(each.refused_cost for each in stats), sum(map(self.admitted.__getitem__, BAD))
        assert both - refused <= sum(map(self.known, BAD)) <= both
        assert refused == sum(each.refused_requests for each in stats)


Refusals.TestCase.settings = settings(
    max_examples=HISTORIES,
    stateful_step_count=25,
    suppress_health_check=list(HealthCheck),
)
TestRefusals = Refusals.TestCase
