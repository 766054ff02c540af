"""Leases: decisions out of borrowed quota, on SimPy. None admits too much, whatever is borrowed, returned or lost."""

from __future__ import annotations

import numpy as np
import pytest
from hybrid_world import EPOCH, World

from ratesim import Limit
from ratesim.algorithms import bind
from ratesim.storage import MemoryStorage
from ratesim.storage.hybrid.lease import SLACK, lease_terms

WINDOWS = ["fixed_window", "sliding_window", "adaptive"]
ALL = [*WINDOWS, "sliding_log", "token_bucket", "leaky_bucket", "gcra"]
MINUTE = Limit(600, 60.0, "fixed_window")


def played(
    world: World, limit: Limit, rate: float, seconds: float, seed: int = 1, begin: float = 0.0
) -> list[tuple[float, bool]]:
    """(time, admitted) of Poisson requests to any node, `rate` of them per second, in the order of their decisions."""
    rng = np.random.default_rng(seed)
    found: list[tuple[float, bool]] = []

    async def ask(k: int, now: float) -> None:
        decision = await world.nodes[k].acquire("user", limit, now=now)
        found.append((now, decision.allowed))

    async def main() -> None:
        await world.runtime.sleep(begin)
        end = world.runtime.time() + seconds
        while world.runtime.time() < end:
            await world.runtime.sleep(float(rng.exponential(1 / rate)))
            world.runtime.spawn(ask(int(rng.integers(len(world.nodes))), world.runtime.time()))

    world.play(main)
    return found


def is_legal(limit: Limit, times: list[float]) -> bool:
    """Whether an exact limiter that is asked only for what was admitted, in the order of time, admits all of it."""
    exact = MemoryStorage()
    return all(exact.acquire_nowait("user", limit, 1.0, at).allowed for at in sorted(times))


@pytest.mark.parametrize("algorithm", ALL)
@pytest.mark.parametrize("nodes", [2, 8])
def test_what_is_admitted_out_of_leases_an_exact_limiter_would_have_admitted(algorithm: str, nodes: int) -> None:
    limit = Limit(400, 4.0, algorithm)
    for load in (0.7, 2.0):
        world = World(nodes=nodes, consistency="lease")
        found = played(world, limit, load * 100, 20.0, begin=1.0)
        admitted = [at for at, allowed in found if allowed]
        assert is_legal(limit, admitted)
        # What an exact limiter of the same requests would have given, but for the slack and what was out at the edges.
        exact = MemoryStorage()
        wanted = sum(exact.acquire_nowait("user", limit, 1.0, at).allowed for at, _ in sorted(found))
        assert len(admitted) >= wanted * (1 - 3 * SLACK)


def test_most_requests_need_no_l2() -> None:
    world = World(nodes=4, consistency="lease")
    found = played(world, Limit(6000, 60.0, "fixed_window"), 200.0, 50.0)
    assert world.l2.calls < 0.1 * len(found)


@pytest.mark.parametrize("seed", range(4))
def test_what_is_falsely_denied_is_at_most_what_was_out_on_lease(seed: int) -> None:
    """Nodes of very unequal load, which changes: some hold what others lack."""
    limit, rng = Limit(500, 10.0, "fixed_window"), np.random.default_rng(seed)
    world = World(nodes=5, consistency="lease", lease_ttl=0.5)
    asked, admitted, most_out = 0, 0, 0.0

    async def main() -> None:
        nonlocal asked, admitted, most_out
        for _ in range(40):
            busy, rate = int(rng.integers(5)), float(rng.choice([10.0, 100.0, 400.0]))
            until = world.runtime.time() + float(rng.choice([0.05, 0.2, 0.5]))
            while world.runtime.time() < until:
                await world.runtime.sleep(float(rng.exponential(1 / rate)))
                asked += 1
                admitted += (await world.nodes[busy].acquire("user", limit)).allowed
                most_out = max(most_out, sum(node.sync_stats().leased_outstanding for node in world.nodes))

    world.play(main)
    assert asked > 500
    assert admitted <= 500 * (world.runtime.time() - EPOCH + 10) // 10
    assert min(asked, 500) - admitted <= most_out


def test_who_is_denied_is_told_so_again_without_l2() -> None:
    world = World(nodes=1, consistency="lease")

    async def main() -> int:
        node = world.nodes[0]
        await node.acquire("user", MINUTE, 600)
        for _ in range(50):
            decision = await node.acquire("user", MINUTE)
            assert not decision.allowed
            assert 0 < decision.retry_after <= 60
        return world.l2.acquired

    assert world.play(main) == 2


def test_a_slice_grows_with_a_node_s_own_rate_and_is_never_more_than_a_fair_part() -> None:
    world = World(nodes=4, consistency="lease", lease_ttl=1.0)
    borrowed = {}
    for k, rate in enumerate((5, 50)):

        async def main(k: int = k, rate: int = rate) -> None:
            node = world.nodes[k]
            for _ in range(5 * rate):
                await node.acquire("user", Limit(100_000, 3600.0, "fixed_window"))
                await world.runtime.sleep(1 / rate)

        before = world.l2.acquired
        world.play(main)
        borrowed[rate] = 5 * rate / (world.l2.acquired - before)
    assert borrowed[50] > 3 * borrowed[5] > 3


@pytest.mark.parametrize("algorithm", WINDOWS)
def test_what_is_not_spent_is_given_back(algorithm: str) -> None:
    limit = Limit(10_000, 3600.0, algorithm)
    world = World(nodes=2, consistency="lease", lease_ttl=1.0)
    found = played(world, limit, 100.0, 10.0)
    admitted = sum(allowed for _, allowed in found)
    assert admitted == len(found)
    assert world.l2.left(limit=limit, now=world.runtime.time()) == pytest.approx(10_000 - admitted)
    for node in world.nodes:
        stats = node.sync_stats()
        assert stats.leased_outstanding == 0
        assert stats.forfeited == 0
        assert stats.borrowed == stats.spent + stats.returned


def test_closing_gives_everything_back_and_dying_forfeits_it_until_the_window_is_over() -> None:
    limit = Limit(10_000, 60.0, "fixed_window")
    world = World(nodes=2, consistency="lease", lease_ttl=5.0)
    spent = []

    async def main() -> None:
        for _ in range(400):
            for node in world.nodes:
                await node.acquire("user", limit)
            await world.runtime.sleep(0.01)
        spent.extend(node.sync_stats().leased_outstanding for node in world.nodes)
        await world.nodes[0].close()
        world.restart(1)

    world.play(main)
    assert min(spent) > 0
    assert world.l2.left(limit=limit, now=EPOCH + 10) == 10_000 - 800 - spent[1]
    assert world.l2.left(limit=limit, now=EPOCH + 60) == 10_000


@pytest.mark.parametrize("algorithm", ["fixed_window", "sliding_window"])
def test_a_return_that_is_late_never_gives_a_later_window_anything(algorithm: str) -> None:
    limit = Limit(1000, 10.0, algorithm)
    world = World(nodes=1, consistency="lease", lease_ttl=2.0)

    async def main() -> None:
        node = world.nodes[0]
        for _ in range(300):
            await node.acquire("user", limit)
            await world.runtime.sleep(0.01)
        assert node.sync_stats().leased_outstanding > 0
        world.l2.delay = 30.0
        await world.runtime.sleep(25.0)
        world.l2.acquire_nowait("user", limit, 1.0, world.runtime.time())

    world.play(main)
    assert world.l2.left(limit=limit, now=world.runtime.time()) <= 1000
    entry = world.l2.live_entry("user", now=EPOCH)
    assert entry is not None
    assert min(entry.load()[1:]) >= 0


def test_a_lease_ends_before_its_window_by_the_tolerance_of_the_clocks() -> None:
    limit = Limit(1000, 10.0, "fixed_window")
    world = World(nodes=1, consistency="lease", clock_tolerance=0.5, lease_ttl=5.0)

    async def main() -> list[int]:
        node, asked = world.nodes[0], []
        await world.runtime.sleep(5.0)
        for _ in range(440):
            await node.acquire("user", limit)
            await world.runtime.sleep(0.01)
        for at in (9.45, 9.55):
            await world.runtime.sleep(EPOCH + at - world.runtime.time())
            before = world.l2.acquired
            await node.acquire("user", limit)
            asked.append(world.l2.acquired - before)
        return asked

    assert world.play(main) == [0, 1]


def test_a_limit_that_is_too_small_to_lend_of_asks_l2_for_every_request() -> None:
    limit = Limit(20, 60.0, "token_bucket")
    assert lease_terms(limit, 1.0).limit == limit
    world = World(nodes=4, consistency="lease")
    found = played(world, limit, 2.0, 60.0)
    exact = MemoryStorage()
    assert [allowed for _, allowed in found] == [exact.acquire_nowait("user", limit, 1.0, at).allowed for at, _ in found]


@pytest.mark.parametrize("algorithm", ["token_bucket", "leaky_bucket", "gcra", "sliding_log"])
def test_l2_is_asked_with_a_limit_that_is_stricter_by_what_a_lease_may_be_late(algorithm: str) -> None:
    limit = Limit(1000, 10.0, algorithm)
    asked, lives, time_resolution = lease_terms(limit, 1.0)
    assert time_resolution == 0.0
    assert 0 < lives <= SLACK * 10.0
    if algorithm == "sliding_log":
        assert asked.period == limit.period + lives
    else:
        assert bind(asked).params != bind(limit).params
        assert asked.burst == pytest.approx(1000 * (1 - SLACK))


def test_several_limits_at_once_are_decided_by_l2() -> None:
    world = World(nodes=2, consistency="lease")
    limits = (Limit(5, 10.0, "fixed_window", name="fast"), Limit(8, 1000.0, "fixed_window", name="slow"))

    async def main() -> int:
        return sum([(await world.nodes[i % 2].acquire("user", limits)).allowed for i in range(20)])

    assert world.play(main) == 5


def test_a_decision_names_the_limit_that_was_asked_for_not_the_stricter_one() -> None:
    limit = Limit(1000, 10.0, "token_bucket", name="mine")
    world = World(nodes=1, consistency="lease")

    async def main() -> None:
        for asked in (limit, (limit,), (limit, Limit(5, 10.0, "sliding_log"))):
            assert (await world.nodes[0].acquire("user", asked)).limit in (limit, Limit(5, 10.0, "sliding_log"))

    world.play(main)
