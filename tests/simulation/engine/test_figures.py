"""The figures of a run, against small cases that can be worked out by hand."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from ratesim.simulation.cost_model.profile import EVEN, Cost, Profile
from ratesim.simulation.network.wire_size import wire_protocol
from ratesim.simulation.results.run_result import RunResult
from ratesim.simulation.runner import run
from ratesim.simulation.scenario.scenario import EPOCH, Candidate, Scenario
from ratesim.storage import StorageURL
from ratesim.storage.remote.operations import Acquire
from traffic import Trace


def played(
    times: list[float], storage: str = "memory://", keys: str = "aaaa", nodes: int = 2, cpu: float = 0.0, **more: object
) -> RunResult:
    """Requests of cost 1 at these seconds, on nodes in turn, of which each takes a node's processor for `cpu` seconds.

    That is all that it takes of it, after a pause as without one.
    """
    scenario = Scenario.of(
        {
            "workload": {"requests_per_second": 1.0, "duration": 60.0},
            "limit": {"rate": "2/minute", "algorithm": "fixed_window"},
            "deployment": {"nodes": nodes, "network": "loopback"},
            **more,
        }
    )
    profile = Profile.shipped()
    named = sorted(set(keys))
    costs = {
        name: msgspec.structs.replace(
            each,
            client_cpu=cpu,
            client=None if each.client is None else Cost(item=cpu),
            arrival=0.0,
            turn=0.0,
            cold=None,
            client_pace=EVEN,
        )
        for name, each in profile.backends.items()
    }
    trace = Trace(EPOCH + np.array(times), np.array([named.index(key) for key in keys[: len(times)]]), named)
    profile = msgspec.structs.replace(profile, backends=costs, hybrids={})
    return run(scenario, Candidate(name="c", storage=storage), profile=profile, trace=trace)


def test_queues_of_nodes() -> None:
    """Half a second each: node 0 has work at 0 s and 0.25 s, where the second waits as long as he comes too early."""
    result = played([0.0, 0.125, 0.25, 2.0], cpu=0.5)
    nodes = result.queues().set_index("station")
    assert nodes.index.tolist() == ["node 0", "node 1"]
    assert nodes["customers"].tolist() == [2, 2]
    assert nodes["seconds"].tolist() == pytest.approx([1.0, 2.5])
    assert nodes["utilization"].tolist() == pytest.approx([1.0, 0.4])
    assert nodes["inside"].tolist() == pytest.approx([0.5 + 0.75, 0.4])
    assert nodes["wait"].tolist() == pytest.approx([0.125, 0.0])
    assert nodes["inside_max"].tolist() == [2, 1]
    assert (nodes["inside"] - nodes["rate"] * nodes["stay"]).abs().max() < 1e-9, "Little's law"
    series = result.queue("node 0")
    assert series["end"].iloc[-1] == pytest.approx(1.0)
    assert ((series["end"] - series["begin"]) * series["waiting"]).sum() == pytest.approx(0.25)
    assert series.loc[series["begin"] < 0.24, "inside_max"].max() == 1
    row = result.row()
    assert row["node_utilization"] == pytest.approx(1.0 / 2.0)
    assert row["node_inside_max"] == 2
    assert (row["store_waiting"], row["store_inside_max"]) == (0.0, 0)
    with pytest.raises(KeyError):
        result.queue("store")


def test_shares_and_the_worst_window() -> None:
    """Each node admits two of a; b has one."""
    result = played([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], keys="aaaaab")
    row = result.row()
    assert (row["admitted"], row["denied"], row["in_flight"], row["errors"]) == (5, 1, 0, "")
    assert (row["worst_key"], row["worst_start"]) == ("a", EPOCH + 1.0)
    assert row["worst_excess"] == 1.0
    assert row["jain_nodes"] == 1.0
    assert row["jain_keys"] == pytest.approx((4 + 1) ** 2 / (2 * (16 + 1)))


def test_latencies_as_a_histogram() -> None:
    found = played([0.0, 0.125, 0.25, 2.0], cpu=0.5).histogram()
    assert len(found) == 4
    assert found.quantile(0.75) == pytest.approx(0.5, rel=1e-3)
    assert found.quantile(1.0) == pytest.approx(0.75, rel=1e-3)


def test_bytes_are_those_of_what_the_store_was_asked_and_answered() -> None:
    result = played([1.0, 2.0, 3.0], "redis://h")
    url = StorageURL.parse("redis://h")
    limit = result.scenario.limit.limit()
    asked = [Acquire("a", (limit,), 1.0, EPOCH + each, True) for each in (1.0, 2.0, 3.0)]
    assert result.bytes_to_store == wire_protocol(url).sent(asked)
    # "$1" and "1" for the first; then "$14" and such, "1", the start of the window, and a count of one digit.
    assert result.bytes_from_store == pytest.approx(7 + 2 * (5 + 14 + 2), abs=4)
    assert result.row()["bytes_to_store_per_request"] == result.bytes_to_store / 3
    memory = played([1.0, 2.0, 3.0])
    assert (memory.bytes_to_store, memory.bytes_from_store) == (0, 0)


def test_memory_is_where_the_state_is() -> None:
    """Of 40 keys in turn each of four nodes knows ten."""
    keys = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMN"
    times = [0.1 * i for i in range(40)]
    here = played(times, keys=keys, nodes=4)
    assert here.node_bytes.shape == (4,)
    assert 40 * 100 < here.node_bytes.sum() < 40 * 2000
    assert here.store_bytes == 0.0
    there = played(times, "redis://h", keys=keys, nodes=4)
    assert there.node_bytes.tolist() == [0, 0, 0, 0]
    assert there.store_bytes == pytest.approx(40 * there.bytes_per_key)
    both = played(times, "hybrid+redis://h", keys=keys, nodes=4)
    assert both.node_bytes.min() > 0
    assert both.store_bytes == there.store_bytes


def test_the_age_of_a_view_counts_from_when_the_store_was_last_heard_of() -> None:
    """Read at 0 s, as nobody knows the key yet, and used until it is flushed at a multiple of 10 s."""
    storage = "hybrid+redis://h?write=write_back&sync_interval=10&sync_jitter=0&l1_ttl=100"
    start = 10.0 * np.ceil(EPOCH / 10.0) - EPOCH
    result = played([start + each for each in (1.0, 4.0, 14.0, 15.0)], storage, nodes=1)
    heard = result.latency[0]  # of the first request: it waited for the store and for nothing else
    ages = result.decisions()["view_age"].tolist()
    assert ages[:2] == pytest.approx([0.0, 3.0 - heard], abs=1e-5)
    assert ages[2:] == pytest.approx([4.0, 5.0], abs=0.01), "the flush at 10 s was answered shortly after"
    row = result.row()
    assert row["view_age_max"] == pytest.approx(5.0, abs=0.02)
    assert row["view_age_p50"] == pytest.approx(3.0, abs=0.02)


@pytest.mark.parametrize("storage", ["memory://", "redis://h", "hybrid+redis://h?consistency=strong&write=write_through"])
def test_who_decides_without_a_view_has_none(storage: str) -> None:
    result = played([1.0, 2.0], storage)
    assert result.ages() is None
    assert np.isnan(result.row()["view_age_max"])
    assert result.decisions()["view_age"].isna().all()


def test_errors_are_told_by_kind_and_a_crash_in_the_account_of_the_store() -> None:
    result = played([0.0, 1.0, 1.5, 4.0], "redis://h", nodes=1, faults=[{"kind": "crash", "start": "1s", "duration": "2s"}])
    row = result.row()
    assert row["failed"] == 2
    assert row["errors"] == "StorageConnectionError 2"
    store = result.queues().set_index("station").loc["store"]
    assert store["customers"] == 2, "who comes while it is down is refused"


def test_what_was_offered_is_admitted_denied_failed_or_in_flight() -> None:
    """70 ms to the store and back, and an end in the middle."""
    scenario = Scenario.of(
        {
            "workload": {"requests_per_second": 200.0, "keys": 50, "duration": 10.0},
            "limit": {"rate": "30/minute"},
            "deployment": {"nodes": 4, "network": "cross_region"},
        }
    )

    def interrupt(done: int, total: int, what: str) -> None:
        if done * 2 > total:
            raise KeyboardInterrupt

    trace = scenario.trace()
    candidate = Candidate(name="c", storage="redis://h")
    part = run(scenario, candidate, trace=trace, progress=interrupt, interruptible=True)
    until = part.stations["store"].until
    offered = int((trace.time - trace.time[0] < until).sum())
    row = part.row()
    assert row["in_flight"] > 5
    assert row["admitted"] + row["denied"] + row["failed"] + row["in_flight"] == offered
    assert {account.until for account in part.stations.values()} == {until}
    assert run(scenario, candidate, trace=trace).in_flight == 0
