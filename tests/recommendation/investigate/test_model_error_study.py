"""A study above the load up to which its model was validated: no seed is added, and every place says at least."""

from __future__ import annotations

import json
import re

import msgspec
import pytest

from ratesim import Scenario, recommend
from ratesim.pages.recommendation import cells, detail_cells
from ratesim.recommendation.decide.check import check
from ratesim.recommendation.decide.markdown import markdown
from ratesim.recommendation.decide.recommendation import Recommendation
from ratesim.recommendation.investigate.study import Study, study
from ratesim.simulation.cost_model.profile import ModelError, Profile


@pytest.fixture(scope="module")
def found() -> Study:
    """A redis that was validated up to next to no load."""
    asked = Scenario.of(
        {
            "workload": {"requests_per_second": 50, "keys": 5, "duration": 3},
            "limit": {"rate": "5/second"},
            "requirements": {"p99": "1s", "max_over_admission": "1%"},
            "candidates": [{"name": "redis", "storage": "redis://h"}],
            "replications": 2,
        }
    )
    shipped = Profile.shipped()
    error = ModelError(utilization=1e-5, p50=0.1, p95=0.2, p99=0.25, throughput=0.05, rounds=20)
    redis = msgspec.structs.replace(shipped.backends["redis"], errors=(error,))
    profile = msgspec.structs.replace(shipped, backends={**shipped.backends, "redis": redis}, source="mine.json")
    return study(asked, profile=profile, live=False, beyond=False, processes=1)


@pytest.fixture(scope="module")
def made(found: Study) -> Recommendation:
    return recommend(found)


def test_no_seed_is_added_where_none_would_tell(found: Study, made: Recommendation) -> None:
    assert len(found.findings.results.rows) == 2
    assert made.choice is None
    assert check(made).status == 3
    assert "near saturation a simulated p99 is a lower bound" in check(made).sentence


def test_the_file_has_a_lower_bound_and_whose_verdict_it_is(made: Recommendation) -> None:
    (redis,) = json.loads(made.to_json())["assessments"]
    assert (redis["p99"]["is_lower_bound"], redis["p99"]["high"]) == (True, None)
    assert redis["p99"]["low"] < redis["p99"]["mean"]
    assert redis["model_error"]["source"] == "profile"
    assert [each["undecided_by"] for each in redis["checks"] if each["requirement"] == "p99"] == ["load"]


def test_every_place_says_at_least(found: Study, made: Recommendation) -> None:
    least = made.assessments[0].p99.figure(lambda seconds: f"{seconds * 1e3:.3g} ms")
    assert least.startswith("at least ")
    assert made.numbers[0].value == least
    for text in (
        markdown(made),
        cells.verdict(found, made).data,
        cells.candidates(found, made).data,
        cells.tradeoff(found, made).data,
        made.closest_misses[0].reason,
    ):
        assert least in text
    assert "at least" in detail_cells.faults(made).data


def test_the_small_print_says_how_large_the_error_is_and_from_where(found: Study, made: Recommendation) -> None:
    page = cells.candidates(found, made).data
    assert re.search(r"<tr><t[hd][^>]*>redis</t[hd]>.*<td[^>]*>at least<br><small>at [^<]+ utilization</small>", page)
    assert f"Redis was validated up to 0.001 % utilization in 20 rounds on {found.profile.machine}." in page
    assert "Service times are from the profile mine.json" in page
