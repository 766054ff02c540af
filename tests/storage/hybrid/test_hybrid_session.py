"""Sessions on a hybrid: a token that travels with them, sticky, hopping, dropped and tampered with."""

from __future__ import annotations

import pytest
from hybrid_world import LIMIT, World

from ratesim import Limit
from ratesim.storage.hybrid.session_token import MAX_OWN, OwnConsumption, SeenVersion, SessionToken

WRITES = ["write_through", "write_back", "write_behind", "write_around"]
READS = ["cache_aside", "read_through", "refresh_ahead"]


def admitted(world: World, requests: int, limit: Limit = LIMIT, hop: int = 1, keep: bool = True, gap: float = 0.003) -> int:
    """How many of a session's requests are admitted, one after the other, `hop` nodes further each time."""

    async def main() -> int:
        token, count = None, 0
        for i in range(requests):
            decision = await world.nodes[i * hop % len(world.nodes)].acquire("user", limit, session=token)
            count += decision.allowed
            token = decision.session if keep else None
            await world.runtime.sleep(gap)
        return count

    return int(world.play(main))


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("read", READS)
def test_a_session_that_hops_and_returns_its_token_gains_nothing(write: str, read: str) -> None:
    world = World(nodes=4, consistency="session", write=write, read=read, sync_interval=10.0)
    assert admitted(world, 60) == 10


@pytest.mark.parametrize("algorithm", ["fixed_window", "sliding_window", "sliding_log", "token_bucket", "gcra"])
def test_of_any_algorithm_it_gains_nothing(algorithm: str) -> None:
    world = World(nodes=8, consistency="session", sync_interval=1.0)
    assert admitted(world, 60, Limit(10, 3600.0, algorithm)) == 10


def test_a_session_that_stays_at_a_node_needs_no_token_and_one_that_hops_without_gains_by_it() -> None:
    apart = {"consistency": "session", "sync_interval": 10.0}
    assert admitted(World(nodes=4, **apart), 60, hop=0, keep=False) == 10
    assert admitted(World(nodes=4, **apart), 60, keep=False) == 40, "dropping the token is the attack"
    assert admitted(World(nodes=4, **(apart | {"consistency": "eventual"})), 60) == 40


def test_a_node_that_is_behind_what_a_session_has_seen_reads_l2_once() -> None:
    world = World(nodes=2, consistency="session")
    a, b = world.nodes

    async def main() -> list[float]:
        await b.peek("user", LIMIT)
        decision = await a.acquire("user", LIMIT, 4)
        await world.runtime.sleep(0.2)  # flushed; b has not heard of it
        decision = await a.acquire("user", LIMIT, 0, session=decision.session)
        reads = world.l2.reads
        left = [(await b.acquire("user", LIMIT, 0, session=decision.session)).remaining for _ in range(3)]
        assert world.l2.reads == reads + 1
        return left

    assert world.play(main) == [6, 6, 6]


def test_what_a_session_consumed_is_charged_to_no_one_else() -> None:
    """The token speaks for its session alone: another one at that node goes on with the view as it is."""
    world = World(nodes=2, consistency="session", sync_interval=100.0)
    a, b = world.nodes

    async def main() -> list[float]:
        mine = await a.acquire("user", LIMIT, 7)
        return [
            (await b.acquire("user", LIMIT, 0, session=mine.session)).remaining,
            (await b.acquire("user", LIMIT, 0)).remaining,
        ]

    assert world.play(main) == [3, 10]


def test_a_token_holds_only_what_l2_does_not_know_and_that_of_few_nodes() -> None:
    nodes = MAX_OWN + 6
    world = World(nodes=nodes, consistency="session", sync_interval=1000.0)
    limit = Limit(nodes * 2, 1e5, "fixed_window")
    sizes: list[int] = []

    async def main() -> int:
        token, count = None, 0
        for i in range(3 * nodes):
            decision = await world.nodes[i % nodes].acquire("user", limit, session=token)
            count += decision.allowed
            token = decision.session
            sizes.append(len(token))
        for node in world.nodes:
            await node.flush()
        for node in world.nodes:
            token = (await node.acquire("user", limit, session=token)).session
        sizes.append(len(token))
        return count

    assert world.play(main) == limit.rate
    assert max(sizes) < 5000
    assert sizes[-1] < 100


def test_a_session_that_is_denied_for_want_of_l2_keeps_its_token() -> None:
    world = World(nodes=2, consistency="session", sync_interval=1e4, on_store_failure="fail_closed")
    a, b = world.nodes

    async def main() -> list[float]:
        token = (await a.acquire("user", LIMIT, 7)).session
        world.l2.away = True
        denied = await b.acquire("user", LIMIT, session=token)
        world.l2.away = False
        return [denied.allowed, (await b.acquire("user", LIMIT, 0, session=denied.session)).remaining]

    assert world.play(main) == [False, 3]


def test_own_consumption_of_a_window_that_is_over_counts_for_nothing() -> None:
    world = World(nodes=2, consistency="session", sync_interval=1e4)
    limit = Limit(10, 10.0, "fixed_window")

    async def main() -> float:
        decision = await world.nodes[0].acquire("user", limit, 9)
        await world.runtime.sleep(10.0)
        return (await world.nodes[1].acquire("user", limit, session=decision.session)).remaining

    assert world.play(main) == 9


def test_a_node_that_died_takes_a_session_s_consumption_along_only_where_nobody_knows_of_it() -> None:
    world = World(nodes=2, consistency="session", sync_interval=100.0)

    async def main() -> float:
        decision = await world.nodes[0].acquire("user", LIMIT, 6)
        world.restart(0)
        return (await world.nodes[1].acquire("user", LIMIT, 0, session=decision.session)).remaining

    assert world.play(main) == 4, "L2 never heard of it; the session has not forgotten"


@pytest.mark.parametrize("text", ["", "x", "€", "AAAA", "A" * 20_000, "?" * 40])
def test_a_token_that_makes_no_sense_is_as_good_as_none(text: str) -> None:
    world = World(nodes=1, consistency="session")

    async def main() -> bool:
        return (await world.nodes[0].acquire("user", LIMIT, session=text)).allowed

    assert world.play(main)
    assert world.nodes[0].sync_stats().stale_tokens == (text != "")


def test_a_token_that_was_changed_or_is_of_another_identifier_is_ignored() -> None:
    world = World(nodes=2, consistency="session", sync_interval=100.0)
    a, b = world.nodes

    async def main() -> list[float]:
        token = (await a.acquire("user", LIMIT, 6)).session
        changed = token[:10] + ("A" if token[10] != "A" else "B") + token[11:]
        return [
            (await b.acquire("user", LIMIT, 0, session=changed)).remaining,
            (await b.acquire("other", LIMIT, 0, session=token)).remaining,
        ]

    assert world.play(main) == [10, 10]
    assert b.sync_stats().stale_tokens == 2


def test_a_forged_token_hurts_nobody_but_its_session() -> None:
    world = World(nodes=1, consistency="session")
    node = world.nodes[0]

    async def main() -> list[float]:
        own = OwnConsumption("nobody", 1, 1e9, 1e9, world.runtime.time())
        forged = SessionToken.for_identifier("user", {"": SeenVersion((1e9, 10**9), (own,))}).encode()
        denied = await node.acquire("user", LIMIT, session=forged)
        assert not denied.allowed
        return [(await node.acquire("user", LIMIT, 0)).remaining]

    assert world.play(main) == [10]


def test_a_token_comes_back_as_it_was() -> None:
    token = SessionToken.for_identifier(
        "user", {"": SeenVersion((1.5, 7), (OwnConsumption("n0", 3, 1.0, 2.0, 3.0),)), "fast": SeenVersion()}
    )
    assert SessionToken.decode(token.encode(), "user") == token
    assert SessionToken.decode(token.encode(), "another") is None


def test_of_several_limits_each_has_its_own_part_of_the_token() -> None:
    world = World(nodes=3, consistency="session", sync_interval=100.0)
    limits = (Limit(5, 10.0, "fixed_window", name="fast"), Limit(8, 1e5, "token_bucket", name="slow"))

    async def main() -> list[int]:
        token, found = None, []
        for _ in range(2):
            count = 0
            for i in range(12):
                decision = await world.nodes[i % 3].acquire("user", limits, session=token)
                token, count = decision.session, count + decision.allowed
            found.append(count)
            await world.runtime.sleep(10.0)
        return found

    assert world.play(main) == [5, 3]
