"""Whole simulated runs."""

from __future__ import annotations

import numpy as np
import pytest

from ratesim import Scenario, run, sweep
from ratesim.simulation.cost_model.profile import Profile
from ratesim.simulation.scenario.candidates import default_candidates
from ratesim.simulation.scenario.scenario import Candidate


def scenario(**changes: dict) -> Scenario:
    data = {
        "workload": {"requests_per_second": 200.0, "keys": 30, "duration": 10.0},
        "limit": {"rate": "50 per 5 seconds"},
        "deployment": {"nodes": 8},
    }
    for part, values in changes.items():
        data[part] = data.get(part, {}) | values
    return Scenario.of(data)


@pytest.fixture(scope="module")
def profile() -> Profile:
    from importlib import resources
    from pathlib import Path

    shipped = resources.files("ratesim.simulation.cost_model") / "profiles" / "shipped.json"
    return Profile.load(Path(str(shipped)))


@pytest.mark.parametrize("algorithm", ["fixed_window", "sliding_window", "token_bucket"])
@pytest.mark.parametrize("storage", ["redis://h", "postgresql://h", "hybrid+redis://h?consistency=strong"])
def test_a_linearizable_store_on_many_nodes_never_over_admits(algorithm: str, storage: str, profile: Profile) -> None:
    asked = scenario(limit={"rate": "50 per 5 seconds", "algorithm": algorithm})
    result = run(asked, Candidate(name="c", storage=storage), profile=profile)
    assert result.accuracy.over_admission == 0.0
    assert result.accuracy.false_denial == 0.0
    assert 0 < result.allowed.sum() < len(result.allowed)


def test_memory_on_one_node_decides_as_the_oracle(profile: Profile) -> None:
    asked = scenario(deployment={"nodes": 1})
    result = run(asked, Candidate(name="c", storage="memory://"), profile=profile)
    assert result.accuracy.over_admission == result.accuracy.false_denial == 0.0


def test_shared_nothing_over_admits_up_to_the_number_of_nodes(profile: Profile) -> None:
    result = run(scenario(), Candidate(name="c", storage="memory://"), profile=profile)
    assert 0.2 < result.accuracy.over_admission <= 7.0


def test_sticky_sessions_keep_a_limit_by_session_exact(profile: Profile) -> None:
    result = run(scenario(), Candidate(name="c", storage="memory://", routing="sticky"), profile=profile)
    assert result.accuracy.over_admission == 0.0


def test_eventual_lies_between_and_a_shorter_interval_is_closer(profile: Profile) -> None:
    over = []
    for interval in (0.01, 0.1, 1.0):
        storage = f"hybrid+redis://h?sync_interval={interval}&l1_ttl={interval}"
        over.append(run(scenario(), Candidate(name="c", storage=storage), profile=profile).accuracy.over_admission)
    memory = run(scenario(), Candidate(name="c", storage="memory://"), profile=profile).accuracy.over_admission
    assert 0.0 < over[0] < over[1] < over[2] < memory


def test_latency_is_at_least_the_way_there_and_back(profile: Profile) -> None:
    far = scenario(deployment={"network": "cross_region"})
    result = run(far, Candidate(name="c", storage="redis://h"), profile=profile)
    assert np.median(result.latency) > 0.069
    assert result.l2_operations == len(result.allowed)


def test_the_same_seed_gives_the_same_numbers_and_another_does_not(profile: Profile) -> None:
    candidate = Candidate(name="c", storage="hybrid+redis://h?sync_interval=0.1")
    first, second = (run(scenario(), candidate, 5, profile=profile) for _ in range(2))
    assert first.row() == second.row()
    assert np.array_equal(first.latency, second.latency)
    assert first.row() != run(scenario(), candidate, 6, profile=profile).row()


@pytest.mark.slow
def test_processes_change_nothing(profile: Profile) -> None:
    asked = scenario(workload={"duration": 2.0})
    candidates = default_candidates(asked)[:3]
    alone = sweep(asked, candidates, [1, 2], profile=profile, processes=1)
    together = sweep(asked, candidates, [1, 2], profile=profile, processes=2)
    assert alone.equals(together)
    assert len(alone) == 6


def test_a_node_whose_store_never_hears_it_does_not_keep_a_run_from_ending(profile: Profile) -> None:
    deaf = scenario(deployment={"nodes": 1, "network": "cross_region"}, workload={"duration": 1.0})
    result = run(deaf, Candidate(name="c", storage="hybrid+redis://h?command_timeout=0.01"), profile=profile)
    assert len(result.latency) == len(deaf.trace())


def test_when_a_run_ends_does_not_depend_on_who_watches(profile: Profile) -> None:
    deaf = scenario(deployment={"nodes": 2, "network": "cross_region"}, workload={"duration": 3.3})
    candidate = Candidate(name="c", storage="hybrid+redis://h?command_timeout=0.01&sync_interval=0.7")
    watched = run(deaf, candidate, profile=profile, progress=lambda done, total, what: None)
    assert watched.row() == run(deaf, candidate, profile=profile).row()
