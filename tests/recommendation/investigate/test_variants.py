"""Other algorithms, on request: the contenders by each of them, and what each admits in a worst window."""

from __future__ import annotations

import tomllib

import pytest

from ratesim import Scenario, recommend
from ratesim.recommendation.decide.recommendation import Recommendation
from ratesim.recommendation.investigate.study import study
from ratesim.simulation.scenario.scenario import ScenarioError

REDIS = {"name": "redis", "storage": "redis://h"}
BY_GCRA = {"name": "redis, gcra", "storage": "redis://h", "algorithm": "gcra"}


def asked(candidate: dict[str, str] = REDIS, **limit: object) -> Scenario:
    return Scenario.of(
        {
            "workload": {
                "requests_per_second": 100,
                "keys": 5,
                "duration": 8,
                "arrivals": "edge_herd",
                "edge": 1.0,
                "edge_spread": 0.1,
                "edge_before": "50%",
            },
            "limit": {"rate": "10/second", "algorithm": "fixed_window", **limit},
            "candidates": [candidate],
            "replications": 2,
        }
    )


@pytest.fixture(scope="module")
def made() -> Recommendation:
    return recommend(study(asked(variants=["sliding_log"]), live=False, beyond=False, processes=1))


def test_each_contender_is_tried_by_each_algorithm(made: Recommendation) -> None:
    assert {(each.candidate, each.algorithm) for each in made.assessments} == {
        ("redis", "fixed_window"),
        ("redis, sliding_log", "sliding_log"),
    }


def test_a_herd_at_the_edge_gets_twice_the_rate_of_a_fixed_window_and_once_that_of_a_log(made: Recommendation) -> None:
    worst = {each.algorithm: 1.0 + each.worst_excess.mean for each in made.assessments}
    assert worst["fixed_window"] > 1.5
    assert worst["sliding_log"] == 1.0


def test_the_configuration_is_by_the_algorithm_that_was_chosen() -> None:
    chosen = recommend(study(asked(BY_GCRA), live=False, beyond=False, processes=1))
    assert tomllib.loads(chosen.storage_toml)["limit"]["algorithm"] == "gcra"


def test_an_algorithm_that_is_none_is_refused_with_what_is_known() -> None:
    with pytest.raises(ScenarioError, match="nonsense"):
        asked(variants=["nonsense"])
    with pytest.raises(ScenarioError, match="nonsense"):
        asked(BY_GCRA | {"algorithm": "nonsense"})


def test_a_scenario_with_variants_is_written_out_and_read_back() -> None:
    scenario = asked(variants=["gcra", "sliding_log"])
    assert Scenario.parse(scenario.to_toml()) == scenario
