"""The report's table shows a live replay beside its own simulation, and no figures of a disturbed machine."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pandas as pd
import pytest

from ratesim import Scenario, recommend
from ratesim.pages.recommendation.cells import candidates
from ratesim.pages.recommendation.detail_cells import rules
from ratesim.recommendation.assess.model_error import LatencyError
from ratesim.recommendation.investigate.study import Study, study

CALM = {
    "candidate": "memory",
    "server": "this process",
    "requests": 1000,
    "errors": 0,
    "note": "one API node, 400 requests/s",
    "disturbed": "",
    "failure": "",
    "latency_p50": 6e-4,
    "latency_p99": 2e-3,
    "simulated_p50": 5.8e-4,
    "simulated_p99": 1.5e-3,
    "lateness_p99": 7.5e-4,
}


@pytest.fixture(scope="module")
def found() -> Study:
    asked = {
        "workload": {"requests_per_second": 50.0, "keys": 5, "duration": 3.0},
        "limit": {"rate": "5/second"},
        "deployment": {"nodes": 2},
        "candidates": [{"name": "memory", "storage": "memory://"}],
    }
    return study(Scenario.of(asked), live=False, beyond=False, processes=1)


def shown(found: Study, **row: object) -> str:
    live = replace(found, live=pd.DataFrame([CALM | row]))
    said = recommend(live)
    return candidates(live, said).data + rules(live, said).data


def test_a_live_quantile_stands_beside_that_of_its_own_simulation(found):
    page = shown(found)
    assert "p50 live / own simulation (ratio)" in page
    assert "0.6 ms / 0.58 ms (0.97)" in page
    assert "2 ms / 1.5 ms (0.75)" in page
    assert "a control of the model, and no figures of your deployment" in page
    assert "itself held a request back, and not the time to wake it (p99 of the first: memory 0.75 ms)" in page


def test_eight_columns_come_first_and_all_else_stands_below_with_the_requests_that_it_is_of(found):
    page = candidates(replace(found, live=pd.DataFrame([CALM])), recommend(found)).data
    first, second = (re.findall(r'<th scope="col">(.*?)</th>', table) for table in page.split("<table>")[1:])
    decides = ["candidate", "verdict", "p50", "p99", "over-admission", "busiest window", "a month", "blast radius"]
    assert first == decides
    assert second[:4] == ["candidate", "servers", "on the front", "false denials"]
    assert len(second) <= 8
    assert not set(first[1:]) & set(second)
    requests = found.summary["requests"]
    assert f"<caption>The contenders, simulated on all {requests:,.0f} requests with up to " in page


def test_a_part_of_the_traffic_is_named_as_one(found):
    said = replace(recommend(found), parts={"in full": "2,000 of 9,999 requests, within 60 s of 90 s"})
    assert "simulated on 2,000 of 9,999 requests, within 60 s of 90 s with up to" in candidates(found, said).data


def test_figures_of_a_disturbed_machine_are_not_shown_as_the_storages(found):
    page = shown(found, disturbed="other programs took 40 % of the cores")
    assert page.count("machine disturbed") == 2
    assert "memory: the machine was disturbed in each of its replays" in page
    assert "other programs took 40 % of the cores." in page
    assert "0.58 ms" not in page
    assert "held a request back" not in page


def test_a_row_of_an_older_version_shows_what_it_has(found):
    page = shown(found, simulated_p50=math.nan, simulated_p99=math.nan)
    assert "0.58 ms" not in page
    assert "0.6 ms" in page


def test_without_replays_there_are_no_live_columns(found):
    assert "own simulation" not in candidates(found, recommend(found)).data


@pytest.mark.parametrize(("source", "is_known"), [("unknown", False), ("profile", True)])
def test_a_model_that_was_not_validated_has_no_load_above_which_it_errs(found, source, is_known):
    said = recommend(found)
    error = LatencyError("redis", source, "store", 0.1, 0.6, 20, "EPYC", 0.1, 0.1)
    page = candidates(found, replace(said, assessments=tuple(replace(each, model_error=error) for each in said.assessments)))
    assert ("Above that a simulated latency is a lower bound." in page.data) is is_known
    assert ("The model&#x27;s error is not known. Redis was not validated." in page.data) is not is_known
