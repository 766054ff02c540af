"""A Redis cluster in simulated time: who owns a key, and what travels where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import inf

import msgspec
import numpy as np
import pytest
import simpy
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.crc import key_slot

from ratesim import Scenario, run
from ratesim.errors import StorageConnectionError
from ratesim.runtime import SimRuntime
from ratesim.servers import Server
from ratesim.simulation.cost_model.profile import EVEN, Profile
from ratesim.simulation.engine.redis_cluster import SLOTS, ShardedDriver, SlotTable, shard_of, slot_of
from ratesim.simulation.results.run_result import RunResult
from ratesim.simulation.scenario.scenario import Candidate, ScenarioError
from ratesim.simulation.scenario.topology import CLUSTER_VOTE, PROMOTION, SENTINEL_VOTE
from ratesim.storage.config import RedisStorageConfig
from ratesim.storage.redis.calls import Calls
from ratesim.storage.redis.cluster import REFRESH
from ratesim.storage.remote.operations import Get, Operation


def test_an_identifier_is_owned_by_the_owner_of_its_hash_tag_s_slot() -> None:
    assert key_slot(b"123456789") == 0x31C3, "the check value of the cluster's specification"
    for prefix in ("ratesim:", "", "a:b "):
        calls = Calls(RedisStorageConfig(key_prefix=prefix))
        for identifier in ("", "user:1", "10.0.0.1", "ключ", "half \ud800 pair", "}", "}x", "{}", "{", "a}b", "{x}", "\xff"):
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


def played(
    shards: int,
    *faults: dict,
    storage: str = "redis://h",
    nodes: int = 4,
    profile: Profile | None = None,
    **workload: object,
) -> RunResult:
    data = {
        "workload": {"requests_per_second": 300.0, "keys": 60, "duration": 10.0, **workload},
        "limit": {"rate": "40 per 10 seconds", "algorithm": "fixed_window"},
        "deployment": {"nodes": nodes, "shards": shards},
        "faults": list(faults),
    }
    return run(Scenario.of(data), Candidate(name="c", storage=storage), profile=profile)


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
    # A batch takes as long on a server that was idle as on a busy one, so that thrice the servers are a third as busy each.
    shipped = Profile.shipped()
    redis = msgspec.structs.replace(shipped.backends["redis"], cold=None, client_pace=EVEN, server_pace=EVEN)
    profile = msgspec.structs.replace(shipped, backends={**shipped.backends, "redis": redis})
    rate = 1.35 / redis.service(1, 0.5)
    storage = "redis://h?pool_size=2000&max_batch=1&command_timeout=100"
    load = {"requests_per_second": rate, "duration": 0.5, "keys": 3000, "popularity": "uniform"}
    one, three = (played(shards, storage=storage, nodes=60, profile=profile, **load) for shards in (1, 3))
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


# Slots that move, primaries that are replaced

ALWAYS_ON = {"type": "high_availability", "node_timeout": "1s", "election": "1s", "replica_lag": "300ms"}
CLUSTER = "redis+cluster://h"


def clustered(
    *faults: dict, storage: str = CLUSTER, primaries: int | None = 3, seed: int = 1, **workload: object
) -> RunResult:
    data = {
        "workload": {"requests_per_second": 300.0, "keys": 60, "duration": 8.0, **workload},
        "limit": {"rate": "40 per 10 seconds", "algorithm": "fixed_window"},
        "deployment": {"nodes": 4, **ALWAYS_ON},
        "faults": list(faults),
    }
    return run(Scenario.of(data), Candidate(name="c", storage=storage, primaries=primaries), seed)


def test_a_cluster_without_faults_decides_what_one_server_decides() -> None:
    one, three, six = played(1), played(3, storage=CLUSTER), clustered(primaries=6, duration=10.0)
    for other in (three, six):
        assert np.array_equal(one.allowed, other.allowed)
        assert other.accuracy.over_admission == other.accuracy.false_denial == 0.0
    assert (one.row()["primaries"], three.row()["primaries"], six.row()["primaries"]) == (1, 3, 6)


@pytest.mark.parametrize("storage", [CLUSTER, "hybrid+redis+cluster://h", "redis+sentinel://h/s"])
def test_replicas_that_may_answer_reads_change_no_run(storage: str, valkey_server: Server) -> None:
    """Live, the server is alone, and has no replicas to name."""
    data = {"workload": {"requests_per_second": 30.0, "keys": 5, "duration": 2.0}, "limit": {"rate": "10/second"}}
    asked = Scenario.of(data)
    plain = run(asked, Candidate(name="c", storage=storage))
    reading = Candidate(name="c", storage=f"{storage}?read_from_replicas=true")
    for fidelity in ("model", "fake", "live"):
        found = run(asked, reading, fidelity=fidelity, server=valkey_server if fidelity == "live" else None)
        assert np.array_equal(found.allowed, plain.allowed)


class Moving:
    """A primary of a cluster whose slots move: answers with its number, and where it lacks a key with a redirect."""

    def __init__(self, shard: int, table: SlotTable) -> None:
        self.shard, self.table, self.batches = shard, table, 0

    async def execute(self, batch: Sequence[Operation]) -> list[object]:
        self.batches += 1
        return [self.table.redirect(operation.identifier, self.shard) or self.shard for operation in batch]  # type: ignore[attr-defined]

    async def close(self) -> None: ...


def test_redirects_are_followed_and_only_moved_is_remembered() -> None:
    runtime, table = SimRuntime(simpy.Environment()), SlotTable(3, "ratesim:")
    primaries = [Moving(shard, table) for shard in range(3)]
    driver = ShardedDriver(primaries, runtime, table=table)
    gone, left, elsewhere = OF[0][0], OF[0][1], OF[2][0]
    came: list[list[object]] = []

    async def ask(*names: str) -> None:
        came.append(await driver.execute([Get(name, "", 0.0) for name in names]))

    def answers(*names: str) -> list[object]:
        runtime.spawn(ask(*names))
        runtime.env.run()
        return came[-1]

    table.moving = {slot_of(gone): 1, slot_of(left): 1}
    table.gone = {gone}
    assert answers(gone, left, elsewhere) == [1, 0, 2], "what has moved is asked for there"
    assert answers(gone) == [1]
    assert (driver.asked, driver.moved) == (2, 0), "ASK is for once"
    table.settle(slot_of(gone), [gone])
    table.settle(slot_of(left), [left])
    assert answers(gone, left) == answers(gone, left) == [1, 1]
    assert (driver.asked, driver.moved) == (2, 2), "MOVED is remembered"
    assert not table.gone
    assert not table.moving
    fresh = ShardedDriver(primaries, runtime, table=table)
    driver = fresh
    assert answers(gone, left, elsewhere) == [1, 1, 2]
    assert fresh.moved == 0, "a node that starts knows the slots of the moment"


def test_slots_move_without_an_error_and_take_their_load_along() -> None:
    still = clustered()
    moved = clustered({"kind": "reshard", "start": 1, "duration": 3, "slots": 16384, "shard": 0})
    assert not moved.failed.any()
    assert moved.accuracy.over_admission == moved.accuracy.false_denial == 0.0
    assert np.array_equal(moved.allowed, still.allowed)
    assert 0 < moved.row()["moved"] <= 4 * 60, "once for each node and slot"
    load = moved.by_shard()["utilization"] / still.by_shard()["utilization"]
    assert load[0] < 0.7
    assert load[1] > 1.3
    alone = clustered({"kind": "reshard", "start": 1, "duration": 3}, storage="redis://h", primaries=None)
    assert alone.row() == clustered(storage="redis://h", primaries=None).row() | {
        name: value for name, value in alone.row().items() if name.startswith("faulty")
    }, "one server has nowhere to move them"


def test_a_reshard_takes_states_along_also_where_every_shard_has_a_memory_of_its_own() -> None:
    faults = [
        {"kind": "reshard", "start": 1, "duration": 2, "slots": 16384, "shard": 0},
        {"kind": "failover", "start": 5, "duration": 0.2, "lag": 0.0, "shard": 1},
        {"kind": "crash", "start": 6, "duration": 0.2, "keeps_memory": True},
    ]
    result = clustered(*faults)
    assert result.accuracy.over_admission == 0.0, "neither a state nor its replica was lost"
    late = clustered(faults[0], {**faults[1], "start": 3.05, "lag": 3.0})
    assert late.accuracy.over_admission > 0.0, "what the replica of the target had not received is lost"


@pytest.mark.parametrize("host_lost", [False, True])
def test_a_primary_that_dies_is_replaced_and_found_by_its_clients(host_lost: bool) -> None:
    crash = {"kind": "crash", "start": 2, "duration": 60, "shard": 1, "host_lost": host_lost}
    result = clustered(crash, storage=f"{CLUSTER}?command_timeout=0.3")
    since, struck = result.trace.time - result.trace.time[0], owner(result) == 1
    takeover = 2 + 1 + CLUSTER_VOTE
    assert result.failed[struck & (since > 2.1) & (since < takeover)].all()
    assert not result.failed[~struck & (since > 2.6)].any(), "the others go on"
    found = takeover + REFRESH + (0.3 if host_lost else 0.0) + 0.1
    assert not result.failed[since > found].any()
    assert not result.failed[~struck].any()
    kinds = {"StorageConnectionError", "StorageTimeoutError"} if host_lost else {"StorageConnectionError"}
    assert set(result.errors) == kinds
    longest = result.latency[result.failed].max()
    assert longest > 0.25 if host_lost else longest < 0.05, "a process that is gone refuses at once"


def test_a_primary_behind_sentinel_is_found_again() -> None:
    crash = {"kind": "crash", "start": 2, "duration": 60}
    storage = "redis+sentinel://h/s?breaker_reset=0.1"
    result = clustered(crash, storage=storage, primaries=None)
    since = result.trace.time - result.trace.time[0]
    assert result.failed[(since > 2.1) & (since < 3 + SENTINEL_VOTE)].all()
    assert not result.failed[since > 3 + SENTINEL_VOTE + 0.3].any()
    assert result.row()["replicas"] == 1


def test_without_a_majority_nobody_is_elected() -> None:
    everywhere = clustered({"kind": "crash", "start": 2, "duration": 60})
    since = everywhere.trace.time - everywhere.trace.time[0]
    assert everywhere.failed[since > 2.1].all()
    two = clustered({"kind": "crash", "start": 2, "duration": 60, "shard": 0}, primaries=2)
    struck = np.array([shard_of(key, 2) == 0 for key in two.trace.keys])[two.trace.key]
    assert two.failed[struck & (since > 2.1)].all()
    assert not two.failed[~struck].any()


@given(st.data())
@settings(max_examples=8, deadline=None)
def test_whatever_happens_every_request_is_decided_once_and_no_more_is_lost_than_the_lag(data: st.DataObject) -> None:
    faults, lost = [], 0.0
    start = 0.5
    for _ in range(data.draw(st.integers(1, 3))):
        kind = data.draw(st.sampled_from(["crash", "failover", "reshard"]))
        shard, duration = data.draw(st.integers(0, 2)), data.draw(st.sampled_from([0.05, 0.4, 1.5]))
        fault = {"kind": kind, "start": start, "duration": duration, "shard": shard}
        if kind == "reshard":
            fault["slots"] = data.draw(st.sampled_from([1, 500, 16384]))
        else:
            fault["host_lost"] = data.draw(st.booleans())
        if kind == "crash":
            fault["keeps_memory"] = True
        if kind == "failover":
            fault["lag"] = data.draw(st.sampled_from([0.0, 0.3]))
            lost += fault["lag"]
        faults.append(fault)
        start += data.draw(st.sampled_from([0.2, 1.0, 2.0]))
    result, again = (
        clustered(*faults, duration=4.0, requests_per_second=200.0, storage=f"{CLUSTER}?command_timeout=0.3")
        for _ in range(2)
    )
    assert result.row() == again.row()
    for name in ("allowed", "failed", "latency", "sequence"):
        assert np.array_equal(getattr(result, name), getattr(again, name))
    decided = result.sequence[~result.failed]
    assert len(np.unique(decided)) == len(decided) == (~result.failed).sum()
    assert (decided > 0).all()
    admitted = np.bincount(result.trace.key, result.allowed, len(result.trace.keys))
    over = np.maximum(admitted - 40, 0.0).sum()
    outages = [each for each in faults if each["kind"] == "failover" and each["lag"] > 0.0]
    since = result.trace.time - result.trace.time[0]
    within = [(since > each["start"] - each["lag"] - 0.05) & (since <= each["start"] + 0.05) for each in outages]
    assert over <= sum(int(result.allowed[rows].sum()) for rows in within)


def test_a_hot_key_shows_on_its_primary() -> None:
    result = clustered(popularity="hot_key", hot_share="60%", requests_per_second=1000.0, duration=4.0)
    table, hottest = result.by_shard(), result.trace.keys[int(np.bincount(result.trace.key).argmax())]
    busiest = table.loc[table["requests"].idxmax()]
    assert busiest["hottest_key"] == hottest
    assert busiest["shard"] == shard_of(hottest, 3)
    assert busiest["hottest_share"] == pytest.approx(0.6, abs=0.05)
    assert table["requests"].sum() == len(result.trace)
    row = result.row()
    assert row["utilization_max"] == pytest.approx(table["utilization"].max())
    assert row["utilization_max"] > 1.5 * row["utilization"]
    assert len(clustered(storage="redis://h", primaries=None, duration=1.0).by_shard()) == 1


@pytest.mark.parametrize(
    ("candidate", "said"),
    [
        ({"storage": "postgresql://h", "primaries": 3}, "primaries is of Redis, and not of postgres"),
        ({"storage": "memory://", "replicas": 1}, "replicas is of Redis and PostgreSQL, and not of memory"),
        ({"storage": "redis+sentinel://h/s", "primaries": 3}, "sentinels watch one primary"),
    ],
)
def test_servers_that_a_store_does_not_have_are_refused(candidate: dict, said: str) -> None:
    data = {"workload": {"requests_per_second": 10}, "limit": {"rate": "10/minute"}}
    with pytest.raises(ScenarioError, match=said):
        Scenario.of({**data, "candidates": [{"name": "c", **candidate}]})


def test_nothing_fails_over_where_a_candidate_has_no_replica() -> None:
    def asked(kind: str, shard: int | None, **candidate: object) -> Scenario:
        fault = {"kind": kind, "start": 1, "duration": 1} | ({} if shard is None else {"shard": shard})
        alone = {"name": "alone", "storage": CLUSTER, "primaries": 3, "replicas": 0} | candidate
        other = {"name": "other", "storage": CLUSTER, "primaries": 6}
        data = {"workload": {"requests_per_second": 10}, "limit": {"rate": "10/minute"}}
        return Scenario.of({**data, "candidates": [other, alone], "faults": [fault]})

    for storage in (CLUSTER, "redis://h", "hybrid+redis+cluster://h"):
        for shard in (None, 2):
            with pytest.raises(ScenarioError, match=r"'alone' has replicas = 0.*write a crash"):
                asked("failover", shard, storage=storage)
    assert asked("failover", 4).faults[0].shard == 4  # which `alone` does not have
    assert asked("failover", 2, replicas=1).faults
    crash = asked("crash", 2)
    assert [crash.effective_faults(each)[0].kind for each in crash.candidates] == ["crash", "crash"]


def test_the_servers_of_a_candidate_are_its_own_or_those_of_the_deployment() -> None:
    def servers(storage: str, deployment: dict, **fields: int) -> tuple[str, int, int, float]:
        candidate = Candidate(name="c", storage=storage, **fields)
        data = {"workload": {"requests_per_second": 10}, "limit": {"rate": "10/minute"}, "deployment": deployment}
        found = Scenario.of(data).servers(candidate)
        return found.kind, found.primaries, found.replicas, found.takeover

    available = {"type": "high_availability"}
    assert servers("redis://h", {}) == ("standalone", 1, 0, inf)
    assert servers("redis://h", {"shards": 4}) == ("standalone", 4, 0, inf)
    assert servers("redis://h", available) == ("standalone", 1, 1, 30.0)
    assert servers("postgresql://h", {**available, "shards": 4}) == ("standalone", 1, 1, 30 + PROMOTION)
    assert servers("hybrid+redis+cluster://h", {}) == ("cluster", 3, 1, 15 + CLUSTER_VOTE)
    assert servers(CLUSTER, {"shards": 4, "node_timeout": "2s"}) == ("cluster", 4, 1, 2 + CLUSTER_VOTE)
    assert servers(CLUSTER, {}, primaries=6, replicas=0) == ("cluster", 6, 0, inf)
    assert servers("redis+sentinel://h/s", {"shards": 4}) == ("sentinel", 1, 1, 30 + SENTINEL_VOTE)
