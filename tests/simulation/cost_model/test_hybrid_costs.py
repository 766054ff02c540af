"""The costs of a hybrid's node: what is measured, and what a simulated node spends of it."""

from __future__ import annotations

import asyncio

import msgspec
import numpy as np
import pytest

from ratesim.simulation.cost_model.hybrid_costs import GAPS, hybrid_costs, measure_hybrids
from ratesim.simulation.cost_model.profile import BackendCosts, HybridCosts, Profile
from ratesim.simulation.runner import run
from ratesim.simulation.scenario.scenario import Candidate, Scenario

FREE = hybrid_costs([0.0] * (1 + len(GAPS)), [0.0] * (1 + len(GAPS)), 0.0)


def test_costs_are_those_one_after_the_other_and_what_a_pause_adds():
    costs = hybrid_costs([2e-6, 3e-6, 5e-6, 7e-6, 9e-6, 12e-6], [10e-6, 13e-6, 20e-6, 30e-6, 40e-6, 52e-6], 4e-6)
    assert (costs.decide, costs.ask, costs.tell) == pytest.approx((2e-6, 8e-6, 4e-6))
    assert costs.cold.ask == pytest.approx((0.0, 1e-6, 3e-6, 5e-6, 7e-6, 10e-6))
    assert costs.cold.answer == pytest.approx((0.0, 2e-6, 7e-6, 15e-6, 23e-6, 32e-6))
    assert costs.cold.idle[0] == 0.0
    assert costs.cold.idle[1:] == pytest.approx(np.subtract(GAPS, [3e-6, 5e-6, 7e-6, 9e-6, 12e-6]))
    assert costs.beside(2, 3, idle=1.0) == pytest.approx(2 * 8e-6 + 3 * 4e-6 + 32e-6)
    assert costs.beside(0, 3, idle=1.0) == pytest.approx(3 * 4e-6), "a flush waits for nobody who is cold"


def test_a_pause_that_measures_as_cheaper_costs_nothing_less():
    costs = hybrid_costs([2e-6] * 3 + [1e-6] * 3, [1e-6] * 6, 0.0)
    assert costs.ask == 0.0
    assert min(costs.cold.ask) == min(costs.cold.answer) == 0.0


def test_a_decision_that_asks_the_store_takes_longer_than_one_that_does_not():
    found = asyncio.run(measure_hybrids(0.02))
    assert found["eventual"].ask > 0.0
    assert all(costs.decide > 0.0 and costs.tell > 0.0 for costs in found.values())


def latencies(storage: str, costs: HybridCosts) -> np.ndarray:
    """Latencies of lone requests for one key at four a second, over a store that takes no time itself."""
    scenario = Scenario.of(
        {
            "workload": {"requests_per_second": 4.0, "duration": 5.0, "arrivals": "steady", "keys": 1},
            "limit": {"rate": "1000/second"},
            "deployment": {"type": "single_instance", "nodes": 1, "network": "loopback", "rtt": 0.001},
        }
    )
    nothing = BackendCosts(client_cpu=0.0)
    consistency = "lease" if "lease" in storage else "eventual"
    profile = Profile(
        machine="",
        measured="",
        versions={},
        backends={"memory": nothing, "redis": nothing, "postgres": nothing},
        hybrids={consistency: costs},
    )
    return run(scenario, Candidate(name="hybrid", storage=storage), 1, profile=profile).latency


@pytest.mark.parametrize(
    ("storage", "asks"),
    [
        ("hybrid+redis://server?consistency=eventual&sync_interval=1000&l1_ttl=1000", 1),
        ("hybrid+redis://server?consistency=eventual&sync_interval=1000&read=read_through", 20),
        ("hybrid+redis://server?consistency=lease&lease_ttl=1000", 7),  # in each of six windows, and for more in the first
    ],
)
def test_a_simulated_node_spends_what_its_decisions_and_questions_cost(storage, asks):
    decided, asked = 1e-5, 3e-5
    before = latencies(storage, FREE)
    after = latencies(storage, msgspec.structs.replace(FREE, decide=decided, ask=asked))
    more = np.sort(after - before)
    assert more[: len(more) - asks] == pytest.approx(decided)
    assert more[len(more) - asks :] == pytest.approx(decided + asked)


def test_the_decisions_of_a_node_without_such_costs_cost_what_memory_does():
    scenario_costs = msgspec.structs.replace(FREE, decide=1e-5)
    assert latencies("hybrid+redis://server?consistency=lease", scenario_costs).min() == pytest.approx(1e-5)
