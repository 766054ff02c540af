"""Whole simulated runs."""

from __future__ import annotations

import subprocess
import sys

import fakeredis
import numpy as np
import pytest

from ratesim import Scenario, run, sweep
from ratesim.servers import Server
from ratesim.simulation.profile import Profile
from ratesim.simulation.remote import LoopBacking
from ratesim.simulation.scenario import Candidate
from ratesim.simulation.study import catalogue
from ratesim.storage.config import RedisStorageConfig
from ratesim.storage.redis import RedisDriver


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

    shipped = resources.files("ratesim.simulation") / "profiles" / "shipped.json"
    return Profile.load(Path(str(shipped)))


@pytest.mark.parametrize("algorithm", ["fixed_window", "sliding_window", "token_bucket"])
@pytest.mark.parametrize("storage", ["redis://h", "postgresql://h", "hybrid+redis://h?consistency=strong"])
def test_a_linearizable_store_on_many_nodes_never_over_admits(algorithm: str, storage: str, profile: Profile) -> None:
    asked = scenario(limit={"rate": "50 per 5 seconds", "algorithm": algorithm})
    result = run(asked, Candidate(name="c", storage=storage), profile=profile)
    assert result.score.over_admission == 0.0
    assert result.score.false_denial == 0.0
    assert 0 < result.allowed.sum() < len(result.allowed)


def test_memory_on_one_node_decides_as_the_oracle(profile: Profile) -> None:
    asked = scenario(deployment={"nodes": 1})
    result = run(asked, Candidate(name="c", storage="memory://"), profile=profile)
    assert result.score.over_admission == result.score.false_denial == 0.0


def test_shared_nothing_over_admits_up_to_the_number_of_nodes(profile: Profile) -> None:
    result = run(scenario(), Candidate(name="c", storage="memory://"), profile=profile)
    assert 0.2 < result.score.over_admission <= 7.0


def test_sticky_sessions_keep_a_limit_by_session_exact(profile: Profile) -> None:
    result = run(scenario(), Candidate(name="c", storage="memory://", routing="sticky"), profile=profile)
    assert result.score.over_admission == 0.0


def test_eventual_lies_between_and_a_shorter_interval_is_closer(profile: Profile) -> None:
    over = []
    for interval in (0.01, 0.1, 1.0):
        storage = f"hybrid+redis://h?sync_interval={interval}&l1_ttl={interval}"
        over.append(run(scenario(), Candidate(name="c", storage=storage), profile=profile).score.over_admission)
    memory = run(scenario(), Candidate(name="c", storage="memory://"), profile=profile).score.over_admission
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


def test_numbers_do_not_depend_on_the_process_or_its_hash_seed(profile: Profile) -> None:
    code = (
        "from ratesim import Scenario, run; from ratesim.simulation.scenario import Candidate;"
        "s = Scenario.of({'workload': {'requests_per_second': 100.0, 'keys': 20, 'duration': 3.0},"
        "'limit': {'rate': '5/second'}});"
        "print(run(s, Candidate(name='c', storage='hybrid+redis://h?sync_interval=0.1')).row())"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed, "HOME": "/nonexistent"},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(printed) == 1


def test_processes_change_nothing(profile: Profile) -> None:
    asked = scenario(workload={"duration": 2.0})
    candidates = catalogue(asked)[:3]
    alone = sweep(asked, candidates, [1, 2], profile=profile, processes=1)
    together = sweep(asked, candidates, [1, 2], profile=profile, processes=2)
    assert alone.equals(together)
    assert len(alone) == 6


@pytest.mark.parametrize("algorithm", ["fixed_window", "sliding_window", "token_bucket"])
@pytest.mark.parametrize("storage", ["redis://h", "hybrid+redis://h?sync_interval=0.5"])
def test_the_model_decides_as_the_real_scripts_do(
    algorithm: str, storage: str, profile: Profile, valkey_server: Server
) -> None:
    asked = scenario(limit={"rate": "50 per 5 seconds", "algorithm": algorithm}, workload={"duration": 3.0})
    candidate = Candidate(name="c", storage=storage)
    model = run(asked, candidate, profile=profile)
    for url in (None, valkey_server.url):
        backings: list[LoopBacking] = []

        def connect(parsed, sequence, url=url, backings=backings):
            async def driver() -> RedisDriver:
                config = RedisStorageConfig(url=url or "redis://h", key_prefix="fidelity:", min_ttl=600.0)
                fake = None if url else fakeredis.FakeAsyncRedis(server_type="valkey", protocol=2)
                made = RedisDriver(config, fake)
                await made._redis.flushall()
                return made

            backings.append(LoopBacking(driver, sequence))
            return backings[0]

        try:
            real = run(asked, candidate, profile=profile, backing=connect)
        finally:
            for backing in backings:
                backing.close()
        assert np.array_equal(real.allowed, model.allowed)
        assert np.array_equal(real.latency, model.latency)
        assert np.array_equal(real.sequence, model.sequence)
