"""Hybrids in processes of their own do what simulated nodes do: the same decisions, and as many operations of the store."""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pytest
import redis

from ratesim.simulation.cost_model.profile import Profile
from ratesim.simulation.runner import run
from ratesim.simulation.scenario.scenario import Candidate, ScenarioError
from ratesim.simulation.validation import hybrid_processes
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


def node(latency: list[float], allowed: list[bool], operations: int, *shares: float) -> NodeResult:
    return NodeResult(np.array(latency), np.array(allowed), operations, operations, 0.1, *shares)


@pytest.mark.parametrize(
    ("simulated", "verdict"),
    [
        ((1.14, 1.2, 1.0), "yes"),
        ((1.16, 1.2, 1.1), "no"),
        ((0.84, 0.8, 0.9), "no"),
        ((1.0, 1.0), "cannot tell"),  # too few replays were kept
        ((0.8, 1.0, 1.2), "cannot tell"),  # they are too far apart
        ((), "cannot tell"),
    ],
)
def test_a_figure_has_a_verdict_where_enough_replays_agree(simulated, verdict):
    assert HybridFigure("hybrid", "p50", (1.0,) * len(simulated), simulated, simulated).verdict == verdict


def test_the_table_has_a_row_for_each_figure_and_the_range_of_its_replays():
    figures = [
        HybridFigure("hybrid lease", "p95", (0.001, 0.002), (0.001, 0.001), (1.0, 0.5, 0.2)),
        HybridFigure("hybrid lease", "operations", (4000.0,) * 3, (4100.0,) * 3, (1.025,) * 3),
        HybridFigure("hybrid lease", "admitted", (), (), (1.0, 1.0, 1.0)),
    ]
    lines = hybrid_table(figures)
    assert lines[4] == "| hybrid lease | p95 | 2 of 3 | 1.5 ms | 1 ms | 0.75 | 0.50 to 1.00 | 0.50 | cannot tell (15 %) |"
    assert lines[5] == "| hybrid lease | operations | 3 of 3 | 4,000 | 4,100 | 1.02 | 1.02 to 1.02 | 1.02 | yes (15 %) |"
    assert lines[6] == "| hybrid lease | admitted | 0 of 3 | - | - | - | - | 1.00 | cannot tell (15 %) |"


@pytest.fixture
def simulated(monkeypatch) -> None:
    """Let a simulated run take no time."""
    made = SimpleNamespace(latency=np.array([9.0]), l2_operations=1, allowed=np.array([True]))
    monkeypatch.setattr(hybrid_processes, "run", lambda *_, **__: made)


@pytest.mark.usefixtures("simulated")
def test_rounds_go_on_until_enough_are_kept_by_what_the_machine_did_and_never_by_a_latency(monkeypatch):
    quiet, busy = (0.0, 0.0), (0.0, 0.5)
    costs = iter([quiet, busy, quiet, quiet])  # by round
    replays = iter([quiet, busy, quiet, quiet, quiet, quiet, quiet, quiet])  # by round and candidate
    monkeypatch.setattr(hybrid_processes, "_measured_profile", lambda server: (Profile.load(), *next(costs)))
    monkeypatch.setattr(hybrid_processes, "replay_nodes", lambda *_: [node([9.0], [True], 1, *next(replays))])
    figures = compare_hybrids(SimpleNamespace(url="redis://server", kind="valkey"), rounds=2)
    assert {(each.candidate, len(each.live), len(each.overall)) for each in figures} == {
        (name, kept, 4) for name, kept in zip(HYBRIDS, (3, 2), strict=True)
    }


@pytest.mark.usefixtures("simulated")
def test_only_the_first_round_begins_when_the_time_is_over(monkeypatch):
    monkeypatch.setattr(hybrid_processes, "_measured_profile", lambda server: (Profile.load(), 0.0, 0.0))
    monkeypatch.setattr(hybrid_processes, "replay_nodes", lambda *_: [node([9.0], [True], 1)])
    figures = compare_hybrids(SimpleNamespace(url="redis://server", kind="valkey"), ends=time.monotonic())
    assert {len(each.overall) for each in figures} == {1}


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
    scenario = _scenario(2, 100.0, 1.5)
    trace = scenario.trace(1)
    candidate = Candidate(name="hybrid", storage="hybrid+redis://server?consistency=eventual&sync_interval=0.1&l1_ttl=0.1")
    live = replay_nodes(scenario, candidate, trace, valkey_server, 1)
    simulated = run(scenario, candidate, 1, trace=trace)
    assert sum(len(each.latency) for each in live) == len(simulated.latency)
    assert sum(each.operations for each in live) == pytest.approx(simulated.l2_operations, rel=0.2)
    assert sum(each.allowed.sum() for each in live) == pytest.approx(simulated.allowed.sum(), rel=0.05)
    assert all((each.latency > 0.0).all() for each in live)
    assert live[0].others >= 0.0
    with redis.Redis.from_url(valkey_server.url) as client:
        assert not client.keys("ratesim:nodes:*")
