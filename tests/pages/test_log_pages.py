"""The pages that make their own traffic, with a log: its requests are simulated, and what makes no sense is left out."""

from __future__ import annotations

import re
from html import unescape

import numpy as np
import pytest

from ratesim.limit import Limit
from ratesim.pages.algorithms import cells as algorithms
from ratesim.pages.consistency import analysis as consistency_analysis
from ratesim.pages.consistency import cells as consistency
from ratesim.pages.eviction import cells as eviction
from ratesim.pages.faults import analysis as faults_analysis
from ratesim.pages.faults import cells as faults
from ratesim.pages.incident.analysis import GatewaySetup, simulated
from ratesim.pages.log_traffic import LogFields

pytestmark = pytest.mark.slow  # whole analyses

REQUESTS = 240


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """Two clients of which one sends nine of ten requests, each of cost 2, in pairs."""
    file = tmp_path_factory.mktemp("log") / "two <b>.csv"
    rows = (f"{1.7e9 + 60 * (i // 2) + 0.5 * (i % 2)},{'small' if i % 10 == 9 else 'big'},2\n" for i in range(REQUESTS))
    file.write_text("when,who,tokens\n" + "".join(rows))
    return {"log": str(file), "key": "who", "time": "when", "cost": "tokens"}


def words(page: str) -> str:
    return " ".join(unescape(re.sub(r"<svg.*?</svg>|<[^>]*>", " ", page, flags=re.DOTALL)).split())


def test_consistency_runs_each_policy_on_the_log_and_leaves_the_skew_out(log, monkeypatch):
    memory, redis = consistency_analysis.POLICIES[:2]
    monkeypatch.setattr(consistency_analysis, "POLICIES", (memory, redis))
    monkeypatch.setattr(consistency_analysis, "INTERVALS", (0.1,))
    monkeypatch.setattr(consistency_analysis, "NODES", (2,))
    found = consistency.mapped("60/second", 120.0, nodes=2, duration=2.0, **log)
    rows = found.part("policies").set_index("policy")
    # Of 2 x 240 of cost in two windows, 0.9 is of one client whose limit is 60; the other one stays below it.
    assert rows.loc["Redis", "over"] == 0.0
    assert rows.loc["Redis", "all"] == pytest.approx((2 * 60 + 48) / 480, abs=0.05)
    assert rows.loc["memory alone", "over"] > 0.3
    assert set(found.rows["part"]) == {"policies", "nodes"}
    assert "their skew is not varied" in words(consistency.by_skew(found).data)
    said = consistency.policies(found).data
    assert "all 240 requests of two &lt;b&gt;.csv at 120 requests per second" in said
    assert "<b>.csv" not in said


def test_faults_sends_the_log_while_they_hold(log, monkeypatch):
    monkeypatch.setattr(faults_analysis, "NAMES", ("redis",))
    found = faults.compare_under_faults("partition", 4.0, 4.0, 2, "10/second", requests=12.0, **log)
    (run,) = found.candidates
    assert int(run.phases["requests"].sum()) == 12 * 18  # until 10 s after the fault
    assert run.failed > 0.5
    assert "the first 216 requests of two" in words(faults.answer(found).data)
    assert found.given["log"] == log["log"]


def test_a_gateway_gets_the_rhythm_of_the_log_for_one_key(log):
    traffic = LogFields(**log).traffic()
    setup = GatewaySetup(
        part="", limit=Limit(40.0, 1.0, "fixed_window"), replicas=4, offered=60.0, interval=0.0, log=traffic
    )
    rows = simulated([setup], [1], 2)
    assert rows["excess"].tolist() == [0.0, 0.0]  # Redis is asked for every request
    assert rows["admitted"].iloc[0] == pytest.approx(20 / 60, abs=0.02)  # each costs 2
    never = simulated([setup.__class__(**{**vars(setup), "interval": np.inf})], [1], 2)
    assert never["excess"].sum() > 40.0
    assert "log" not in rows


def test_eviction_and_algorithms_show_the_log_beside_their_workloads(log):
    found = eviction.compared("10/minute", requests=200, keys=20, entries=64, **log)
    mine = found.rows[found.rows["workload"] == "your log"]
    assert set(mine["requests"]) == {200}
    assert len(found.rows["workload"].unique()) == 9
    assert "your log" in set(found.hits["trace"])
    assert "Your log: the first 200 requests of two" in words(eviction.answer(found).data)
    several = algorithms.compared("10/minute", keys=10, requests=2_000, sources=200, **log)
    assert len(several.traces["your log"]) == REQUESTS
    assert several.real.requests == REQUESTS
    said = words(algorithms.published(several).data)
    assert "your log, 10 per 60 s" in said
    assert "ships with ratesim" not in said
