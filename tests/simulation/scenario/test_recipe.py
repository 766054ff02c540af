"""A recipe in the place of a scenario's log: what it writes, and that a limiter takes it for the log."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest

from ratesim import Scenario, recommend, run
from ratesim.simulation.scenario.recipe import recipe_scenario, recipe_toml
from traffic import Profile, TenantGroup, Tenants, Trace

SITUATIONS = Path(__file__).parents[3] / "ratesim" / "scenarios" / "situations"
NEAR = 0.15  # of a figure of the log
RARE = 0.001  # of a share: a single client of the log that is denied alone is not in a recipe
CANDIDATES = ["redis", "memory", "postgres", "hybrid eventual 1 s", "hybrid lease 1 s"]
SEEDS = {"quickstart": 6, "llm-tokens": 12}  # the figures of samples of 500 requests vary most


def load(name: str) -> Scenario:
    path = SITUATIONS / f"{name}.toml"
    return Scenario.load(path if path.is_file() else name)


def with_seed(scenario: Scenario, seed: int) -> Scenario:
    return scenario.model_copy(update={"seed": seed})


def figures(scenario: Scenario, candidate: str, seeds: int) -> dict[str, float]:
    """The means over seeds, each of which draws other copies of the log, or another sample of the recipe."""
    rows = []
    for seed in range(1, seeds + 1):
        row = run(with_seed(scenario, seed), candidate, seed=seed).row()
        shares = {"denied": row["denied"] / row["requests"]}
        rows.append({name: row[name] for name in ("latency_p99", "over_admission", "worst_excess")} | shares)
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def busiest(scenario: Scenario, seeds: int, seconds: float) -> float:
    return float(np.mean([len(with_seed(scenario, seed).trace(seed).busiest(seconds)) for seed in range(1, seeds + 1)]))


def test_a_recipe_is_a_table_of_a_scenario_that_reads_back() -> None:
    group = TenantGroup(session_requests=(3.0,), session_gap=(0.25,), user_memory=0.5, users=4.0)
    text = recipe_toml(Tenants(2.0, 5, 100.0, (group, TenantGroup(costs=(9.0,))), Profile((1.0, 2.0), 50.0), stretch=True))
    workload = tomllib.loads(text)["workload"]
    assert workload["tenants"][0]["session_gap"] == ["250ms"]
    assert workload["tenants"][0]["user_memory"] == "50%"
    scenario = Scenario.parse(f'{text}\n[limit]\nrate = "1/second"\n')
    assert scenario.workload.recipe().groups[1].costs == (9.0,)
    assert scenario.workload.recipe().stretch


def test_the_cuts_of_a_scenario_stay_and_its_log_goes(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    Trace(np.sort(rng.uniform(0, 600, 2000)), rng.integers(0, 9, 2000), map(str, range(9))).to_csv(tmp_path / "a.csv")
    log = Scenario.from_log(tmp_path / "a.csv", limit="9/minute", scale=3, speed=2, nodes=2)
    recipe = recipe_scenario(log)
    assert recipe.workload.log is None
    assert (recipe.workload.scale, recipe.workload.speed) == (3, 2)
    assert (recipe.limit, recipe.deployment) == (log.limit, log.deployment)
    assert len(recipe.trace()) == pytest.approx(6000, rel=0.01)
    assert recipe_scenario(log) == recipe


def test_a_limiter_of_the_quickstart_takes_the_recipe_for_the_log() -> None:
    log = load("quickstart")
    recipe = recipe_scenario(log)
    one, other = (figures(each, "memory", 2) for each in (log, recipe))
    assert other["over_admission"] == pytest.approx(one["over_admission"], rel=NEAR)
    assert other["latency_p99"] == pytest.approx(one["latency_p99"], rel=NEAR)


@pytest.mark.nightly
@pytest.mark.parametrize("name", SEEDS)
def test_the_figures_of_a_recipe_are_those_of_its_log(name: str) -> None:
    log, seeds = load(name), SEEDS[name]
    recipe = recipe_scenario(log)
    for candidate in ("redis", "memory", "memory, sticky"):
        one, other = (figures(each, candidate, seeds) for each in (log, recipe))
        assert other.pop("denied") == pytest.approx(one.pop("denied"), rel=NEAR, abs=RARE), candidate
        assert other == pytest.approx(one, rel=NEAR), candidate
    for seconds in (0.1, 1.0):
        assert busiest(recipe, seeds, seconds) == pytest.approx(busiest(log, seeds, seconds), rel=NEAR)


@pytest.mark.nightly
@pytest.mark.parametrize("name", SEEDS)
def test_the_recommendation_for_a_recipe_is_that_for_its_log(name: str) -> None:
    log = load(name)
    one, other = (recommend(each, candidates=CANDIDATES, processes=1) for each in (log, recipe_scenario(log)))
    assert other.choice == one.choice
