"""A Redis cluster in simulated time: who owns a key, and what travels where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
import simpy
from redis.crc import key_slot

from ratesim import Scenario, run
from ratesim.errors import StorageConnectionError
from ratesim.runtime import SimRuntime
from ratesim.simulation.cost_model.profile import Profile
from ratesim.simulation.engine.redis_cluster import SLOTS, ShardedDriver, shard_of
from ratesim.simulation.results.run_result import RunResult
from ratesim.simulation.scenario.scenario import Candidate, ScenarioError
from ratesim.storage.config import RedisStorageConfig
from ratesim.storage.redis.calls import Calls
from ratesim.storage.remote.operations import Get, Operation


def test_an_identifier_is_owned_by_the_owner_of_its_hash_tag_s_slot() -> None:
    assert key_slot(b"123456789") == 0x31C3, "the check value of the cluster's specification"
    for prefix in ("ratesim:", "", "a:b "):
        calls = Calls(RedisStorageConfig(key_prefix=prefix))
        for identifier in ("user:1", "10.0.0.1", "ключ", "half \ud800 pair", "}", "}x", "{}", "{", "a}b", "{x}", "\xff"):
            keys = [calls.key_of(identifier), calls.counter_of(identifier), calls.key_of(identifier) + b":log:minute"]
            assert {key_slot(key) for key in keys} == {shard_of(identifier, SLOTS, prefix)}, identifier
            assert shard_of(identifier, 1, prefix) == 0


@pytest.mark.parametrize("shards", [1, 2, 3, 7])
def test_slots_are_shared_out_evenly(shards: int) -> None:
    owned = Counter(slot * shards // SLOTS for slot in range(SLOTS))
    assert sorted(owned) == list(range(shards))
    assert max(owned.values()) - min(owned.values()) <= 1
    keys = Counter(shard_of(f"user:{i}", shards) for i in range(20_000))
    assert min(keys.values()) > 0.95 * 20_000 / shards


class Primary:
    """Answers after `seconds` with its number and whom it was asked for; or refuses."""

    def __init__(self, runtime: SimRuntime, number: int, seconds: float, down: bool = False) -> None:
        self.runtime, self.number, self.seconds, self.down = runtime, number, seconds, down
        self.batches: list[int] = []

    async def execute(self, batch: Sequence[Operation]) -> list[object]:
        self.batches.append(len(batch))
        await self.runtime.sleep(self.seconds)
        if self.down:
            raise StorageConnectionError("down", sent=False)
        return [(self.number, operation.identifier) for operation in batch if isinstance(operation, Get)]

    async def close(self) -> None: ...


def asked(names: Sequence[str], down: int | None = None) -> tuple[list[object] | Exception, float, list[list[int]]]:
    """What a client of three primaries is answered, when, and the sizes of the batches of each."""
    runtime = SimRuntime(simpy.Environment())
    primaries = [Primary(runtime, i, 1.0 + i, down=i == down) for i in range(3)]
    driver = ShardedDriver(primaries, runtime)
    came: list[list[object] | Exception] = []

    async def ask() -> None:
        try:
            came.append(await driver.execute([Get(name, "", 0.0) for name in names]))
        except StorageConnectionError as error:
            came.append(error)

    runtime.spawn(ask())
    runtime.env.run()
    return came[0], runtime.env.now, [primary.batches for primary in primaries]


NAMES = [f"user:{i}" for i in range(12)]
OF = {shard: [name for name in NAMES if shard_of(name, 3) == shard] for shard in range(3)}


def test_a_batch_is_grouped_by_owner_and_answered_in_its_order() -> None:
    answers, _, batches = asked(NAMES)
    assert answers == [(shard_of(name, 3), name) for name in NAMES]
    assert batches == [[len(OF[shard])] for shard in range(3)]


def test_the_groups_travel_side_by_side() -> None:
    assert asked(NAMES)[1] == 3.0, "the slowest, not the sum"
    assert asked(OF[0])[1] == 1.0, "and nobody waits for a primary that was not asked"


def test_a_primary_that_is_down_fails_its_own_keys_and_no_others() -> None:
    answers, _, _ = asked(NAMES, down=1)
    assert isinstance(answers, list)
    for name, answer in zip(NAMES, answers, strict=True):
        assert isinstance(answer, StorageConnectionError) == (name in OF[1])
    alone, _, _ = asked(OF[1], down=1)
    assert isinstance(alone, StorageConnectionError)
    assert not alone.sent, "so that the client may try again"


# In a run


def played(shards: int, *faults: dict, storage: str = "redis://h", nodes: int = 4, **workload: object) -> RunResult:
    data = {
        "workload": {"requests_per_second": 300.0, "keys": 60, "duration": 10.0, **workload},
        "limit": {"rate": "40 per 10 seconds", "algorithm": "fixed_window"},
        "deployment": {"nodes": nodes, "shards": shards},
        "faults": list(faults),
    }
    return run(Scenario.of(data), Candidate(name="c", storage=storage))


def owner(result: RunResult) -> np.ndarray:
    """Which of three primaries owns the key of each request."""
    return np.array([shard_of(key, 3) for key in result.trace.keys])[result.trace.key]


def test_a_cluster_decides_as_exactly_as_one_server() -> None:
    one, three = played(1), played(3)
    assert three.accuracy.over_admission == three.accuracy.false_denial == 0.0
    assert three.allowed.mean() == pytest.approx(one.allowed.mean(), abs=0.01)
    assert three.l2_operations == one.l2_operations == len(one.trace)


def test_batches_that_waited_are_split_between_primaries() -> None:
    # 2,000 requests/s of a node over one connection of half a millisecond: some wait, and go together to several primaries.
    crowded = played(3, storage="redis://h?pool_size=1", requests_per_second=8000.0, duration=1.0, keys=500)
    assert not crowded.failed.any()
    assert crowded.accuracy.over_admission == 0.0


def test_three_primaries_serve_what_is_too_much_for_one() -> None:
    # Short batches, so that a server's work grows with the requests: one is over its capacity by a third, three are not.
    # Many nodes, since their own processors would be the bottleneck else.
    rate = 1.35 / Profile.load().backends["redis"].service(1, 0.5)
    storage = "redis://h?pool_size=2000&max_batch=1&command_timeout=100"
    load = {"requests_per_second": rate, "duration": 0.5, "keys": 3000, "popularity": "uniform"}
    one, three = (played(shards, storage=storage, nodes=60, **load) for shards in (1, 3))
    assert np.quantile(one.latency, 0.9) > 0.05 > 10 * np.quantile(three.latency, 0.9)
    assert three.row()["utilization"] == pytest.approx(1.35 / 3, rel=0.2)


def test_a_crash_of_one_primary_fails_and_forgets_its_keys_alone() -> None:
    crash = {"kind": "crash", "start": 4, "duration": 2, "shard": 1}
    result = played(3, crash, storage="redis://h?retries=0&breaker_failures=1000000")
    since = result.trace.time - result.trace.time[0]
    down, struck = (since >= 4.1) & (since < 5.9), owner(result) == 1
    assert result.failed[down & struck].all()
    assert not result.failed[~struck].any()
    excess = result.accuracy.over_admission
    assert 0.0 < excess < 0.6 * played(3, {**crash, "shard": None}).accuracy.over_admission
    assert played(3, {**crash, "keeps_memory": True}).accuracy.over_admission == 0.0


def test_a_failover_of_one_primary_loses_what_its_replica_had_not_taken_in() -> None:
    over = [
        played(3, {"kind": "failover", "start": 4, "duration": 0.1, "lag": lag, "shard": 2}).accuracy.over_admission
        for lag in (0.0, 2.0)
    ]
    assert over[0] == 0.0 < over[1]


def test_a_slow_primary_slows_its_keys_alone() -> None:
    storage = "redis://h?pool_size=2000&max_batch=1"
    plain = played(3, storage=storage)
    slow = played(3, {"kind": "slow", "start": 0, "duration": 100, "factor": 100, "shard": 0}, storage=storage)
    slower = slow.latency > plain.latency + 1e-3
    assert slower[owner(slow) == 0].mean() > 0.95
    assert not slower[owner(slow) != 0].any()


def test_a_hybrid_flushes_to_every_primary() -> None:
    hybrid = "hybrid+redis://h?sync_interval=0.1"
    assert played(3, storage=hybrid).accuracy.over_admission == pytest.approx(
        played(1, storage=hybrid).accuracy.over_admission, abs=0.02
    )


def test_other_stores_have_one_server_whatever_the_shards() -> None:
    for storage in ("postgresql://h", "memory://"):
        assert played(3, storage=storage).row() == played(1, storage=storage).row()


def test_a_shard_that_is_not_there_cannot_fail() -> None:
    with pytest.raises(ScenarioError, match="a crash of shard 3: shards are 0 to 2"):
        played(3, {"kind": "crash", "start": 1, "duration": 1, "shard": 3})
    with pytest.raises(ScenarioError, match="a restart takes no shard"):
        played(3, {"kind": "restart", "start": 1, "duration": 1, "shard": 0})
