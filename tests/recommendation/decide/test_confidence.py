"""How sure a choice is: no more than each of its reasons allows, the live replay among them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from made_assessments import an_assessment

from ratesim.recommendation.assess.assessment import Check, Interval
from ratesim.recommendation.assess.live_control import LiveControl, live_control
from ratesim.recommendation.assess.model_error import LatencyError
from ratesim.recommendation.decide.confidence_reasons import Reason, least
from ratesim.recommendation.decide.verdict import confidence, no_confidence

VALIDATED = LatencyError("redis", "profile", "store", 0.2, 0.6, 20, "m", 0.1, 0.1)


def chosen(allowed: float = 4e-3, high: float = 1.2e-3, error: LatencyError | None = VALIDATED, seeds: int = 3):
    check = Check("p99", "p99", "passes", "p99 1 ms", "p99 1 ms", f"{allowed * 1e3:g} ms allowed", margin=allowed / high)
    found = an_assessment(checks=(check,), model_error=error)
    return replace(found, p99=Interval(1e-3, 0.9e-3, high, seeds))


def level(found, live: LiveControl | None = None, requests: int = 10_000, disagreement: str = "") -> str:
    return confidence(found, [], "USD", requests, disagreement, live).level


def replayed(times: float) -> LiveControl:
    return LiveControl("p99", times * 0.5e-3, 0.5e-3)


@pytest.mark.parametrize(
    ("times", "allowed"), [(0.5, "high"), (1.0, "high"), (1.6, "high"), (1.7, "fair"), (2.7, "fair"), (2.8, "low")]
)
def test_a_live_replay_that_is_slower_than_its_simulation_lowers_what_the_model_allows(times, allowed):
    assert level(chosen()) == "high"  # 4 ms over 1.2 ms
    assert level(chosen(), replayed(times)) == allowed


def test_a_live_replay_never_raises_what_the_model_allows():
    near = chosen(allowed=1.3e-3)
    assert level(near) == level(near, replayed(0.1)) == "low"


def test_the_least_level_counts_and_the_reason_for_it_is_named():
    found = confidence(chosen(), [], "USD", 10_000, "", replayed(2.0))
    assert {each.name: each.level for each in found.reasons} == {
        "p99": "high",
        "seeds": "high",
        "model's error": "high",
        "live replay": "fair",
    }
    assert found.level == least(found.reasons) == "fair"
    assert found.sentence.startswith("Fair confidence, over 3 seeds: ")
    assert "It is not higher for live replay." in found.sentence
    assert (
        "Live replay: p99 1 ms live, 0.5 ms simulated; by as much more the p99 is up to 2.4 ms (4 ms allowed)."
    ) in found.sentence


def test_a_machine_that_was_disturbed_and_a_verdict_of_another_machine_are_no_reasons_for_high_confidence():
    disturbed = LiveControl("p99", float("nan"), float("nan"), "other programs used 30 % of the machine")
    assert level(chosen(), disturbed) == "fair"
    borrowed = chosen(error=replace(VALIDATED, source="shipped"))
    assert [level(borrowed, live) for live in (None, disturbed, replayed(1.0))] == ["fair", "fair", "high"]
    assert level(chosen(error=replace(VALIDATED, source="unknown")), replayed(1.0)) == "fair"


def test_thin_evidence_is_thin_whatever_else_there_is():
    assert level(chosen(), replayed(1.0), requests=999) == "too thin"
    assert level(chosen(), replayed(1.0), disagreement="redis p99 4 ms live, 1 ms simulated.") == "too thin"
    assert level(chosen(seeds=1), replayed(1.0)) == "low"
    behind = confidence(chosen(), [], "USD", 10_000, "", replayed(1.0), "hybrid p99 4 ms live, 1 ms simulated.")
    assert (behind.level, behind.reasons[-1].text) == ("fair", "hybrid p99 4 ms live, 1 ms simulated.")
    order = [Reason("", each, "") for each in ("high", "fair", "low", "too thin")]
    assert [least(tuple(order[: n + 1])) for n in range(4)] == ["high", "fair", "low", "too thin"]


def test_the_control_of_a_candidate_is_of_its_own_replay():
    row = {
        "candidate": "redis",
        "store": "redis",
        "latency_p99": 2e-3,
        "simulated_p99": 1e-3,
        "disturbed": "",
        "failure": "",
    }
    found = live_control("redis", [{**row, "candidate": "other", "latency_p99": 9.0}, row])
    assert found is not None
    assert (found.slower, found.sentence) == (
        2.0,
        "The same replay on one node over loopback: p99 2 ms live, 1 ms simulated.",
    )
    assert live_control("memory", [row]) is None
    assert live_control("redis", [row | {"simulated_p99": float("nan")}]) is None
    assert live_control("redis", [row | {"failure": "valkey 9 was ended by SIGKILL"}]) is None
    busy = live_control("redis", [row | {"disturbed": "steal"}])
    assert busy is not None
    assert (busy.sentence, busy.disturbed) == ("", "steal")
    operations = {"operation_p50": 3e-6, "simulated_operation": 2e-6, "latency_p99": 5e-5, "simulated_p99": 1e-5}
    small = live_control("redis", [row | operations])
    assert small is not None
    assert small.text == "p50 of operations one at a time 3 µs live, 2 µs simulated"


def test_where_every_candidate_fails_few_requests_are_the_only_doubt():
    failing = an_assessment(checks=(Check("p99", "p99", "fails", "p99 9 ms", "p99 9 ms", "4 ms allowed"),))
    close = an_assessment(checks=(Check("p99", "p99", "too close to call", "p99 4 ms", "p99 4 ms", "4 ms allowed"),))
    few, many = (no_confidence([failing, failing], requests) for requests in (300, 10_000))
    assert (few.level, few.sentence) == (
        "too thin",
        "Of 300 requests no 99th percentile is known: give a longer log.",
    )
    assert many.level == "low"
    for requests in (300, 10_000):
        assert "not all of them fail for sure" in no_confidence([failing, close], requests).sentence
