"""Hybrids in processes of their own do what simulated nodes do: the same decisions, and as many operations of the store."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import redis

from ratesim.simulation.cost_model.profile import Profile
from ratesim.simulation.scenario.scenario import Candidate, ScenarioError
from ratesim.simulation.validation.hybrid_processes import (
    HYBRIDS,
    HybridFigure,
    NodeResult,
    _pairs,
    _scenario,
    compare_hybrids,
    hybrid_table,
    replay_nodes,
)


def node(latency: list[float], allowed: list[bool], operations: int) -> NodeResult:
    return NodeResult(np.array(latency), np.array(allowed), operations, operations, 0.1)


def test_a_figure_is_within_where_the_median_of_the_rounds_is():
    within = HybridFigure("hybrid", "p50", (1.0, 1.0, 1.0), (1.14, 3.0, 1.0))
    assert within.ratio == pytest.approx(1.14)
    assert within.is_within
    assert not HybridFigure("hybrid", "p50", (1.0,), (1.16,)).is_within
    assert not HybridFigure("hybrid", "p50", (1.0,), (0.84,)).is_within


def test_the_table_has_a_row_for_each_figure_and_the_spread_of_its_rounds():
    figures = [
        HybridFigure("hybrid lease", "p95", (0.001, 0.002), (0.001, 0.001)),
        HybridFigure("hybrid lease", "store operations", (4000.0,), (4100.0,)),
    ]
    lines = hybrid_table(figures)
    assert lines[4] == "| hybrid lease | p95 | 2 | 1.5 ms | 1 ms | 0.75 | 0.50 to 1.00 | no (15 %) |"
    assert lines[5] == "| hybrid lease | store operations | 1 | 4,000 | 4,100 | 1.02 | 1.02 to 1.02 | yes (15 %) |"


def test_figures_are_of_all_nodes_together():
    live = [node([0.1, 0.2], [True, False], 3), node([0.3], [True], 4)]
    simulated = SimpleNamespace(latency=np.array([0.2, 0.4, 0.6]), l2_operations=8, allowed=np.array([True, True, True]))
    pairs = _pairs(live, simulated)
    assert pairs["p50"] == pytest.approx((0.2, 0.4))
    assert pairs["store operations"] == (7.0, 8.0)
    assert pairs["admitted"] == (2.0, 3.0)


def test_a_routing_that_needs_answers_is_refused():
    scenario = _scenario(2, 10.0, 1.0)
    candidate = Candidate(name="hybrid", storage="hybrid+redis://server", routing="least_outstanding")
    with pytest.raises(ScenarioError, match="its routing needs answers"):
        replay_nodes(scenario, candidate, scenario.trace(1), SimpleNamespace(url="redis://server", kind="valkey"))


def test_processes_decide_and_ask_their_store_as_simulated_nodes_do(valkey_server):
    (name, *_) = HYBRIDS
    figures = compare_hybrids(
        valkey_server, profile=Profile.load(), rounds=1, nodes=2, rate=100.0, seconds=1.5, names=[name]
    )
    found = {each.figure: each for each in figures}
    assert found["store operations"].ratio == pytest.approx(1.0, abs=0.2)
    assert found["admitted"].ratio == pytest.approx(1.0, abs=0.05)
    assert found["p50"].live[0] > 0.0
    with redis.Redis.from_url(valkey_server.url) as client:
        assert not client.keys("ratesim:nodes:*")
