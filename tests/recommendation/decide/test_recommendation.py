"""What a study's figures make of the recommendation."""

from __future__ import annotations

import math
from dataclasses import replace

import pandas as pd
import pytest

from ratesim.formatting import escape_control_chars, format_percent, format_seconds
from ratesim.recommendation import recommend
from ratesim.recommendation.assess.assessment import assess, student_interval
from ratesim.recommendation.assess.pareto import best, front, rank
from ratesim.recommendation.assess.persistence import persistence
from ratesim.recommendation.assess.rejections import closest_misses, rejection_reason, relaxations, violations_text
from ratesim.recommendation.baseline.rule_table import (
    DataRequirements,
    DeploymentType,
    LatencyTarget,
    PerformanceRequirements,
)
from ratesim.recommendation.decide.verdict import caveat, confidence, limit_pressure_note, no_choice, use
from ratesim.recommendation.investigate.fault_impact import FaultImpact
from ratesim.simulation.analysis.limit_pressure import LimitPressure
from ratesim.simulation.scenario.scenario import Requirements

STORAGE = {"memory": "memory://", "redis": "redis://localhost", "postgres": "postgresql://localhost"}
STORAGE["hybrid"] = "hybrid+redis://localhost?consistency=eventual&write=write_back&sync_interval=0.1"


def rows(name, p99, over=0.0, busy=0.0, backend=None, routing="round_robin", failed=0):
    """One row for each p99 and over-admission that is given."""
    backend = backend or name
    count = max(len(p99), 1)
    over = over if isinstance(over, list) else [over] * count
    fixed = {
        "candidate": name,
        "backend": backend,
        "routing": routing,
        "storage": STORAGE[backend],
        "algorithm": "sliding_window",
        "worst_excess": 0.0,
        "requests": 1000,
        "failed": failed,
        "false_denial": 0.0,
        "l2_operations_per_request": 1.0,
        "l2_busy_per_request": busy,
        "bytes_per_key": 200.0,
    }
    return [
        {**fixed, "seed": i, "latency_p50": p99[i] / 2, "latency_p99": p99[i], "over_admission": over[i]}
        for i in range(count)
    ]


MEMORY = rows("memory", [3e-6] * 3, [0.2, 0.21, 0.19])
REDIS = rows("redis", [1.0e-3, 1.1e-3, 1.05e-3], 0.0, 60e-6)
POSTGRES = rows("postgres", [2.5e-3, 2.6e-3, 2.4e-3], 0.0, 200e-6)
HYBRID = rows("hybrid", [0.5e-3, 0.52e-3, 0.51e-3], [0.004, 0.005, 0.0045], 20e-6)


ALL = (MEMORY, REDIS, POSTGRES, HYBRID)


def assessed(*tables, costs=None, blasts=None, **requirements):
    """The candidates of these tables, in the order of rank."""
    results = pd.DataFrame([row for table in tables for row in table])
    found = assess(results, Requirements(**requirements), 8, costs)
    return sorted((replace(each, blast_radius=(blasts or {}).get(each.candidate)) for each in found), key=rank)


def chosen(*tables, **asked):
    found = best(assessed(*tables, **asked))
    return None if found is None else found.candidate


def reasons(*tables, **asked):
    found = assessed(*tables, **asked)
    return {each.candidate: rejection_reason(each, best(found), "USD") for each in found if each is not best(found)}


def test_of_those_that_pass_the_one_that_loads_the_store_least_is_chosen():
    asked = {"p99": "2ms", "max_over_admission": "1%", "persistence": "session"}
    assert chosen(*ALL, **asked) == "hybrid"
    why = reasons(*ALL, **asked)
    assert why["redis"] == (
        "passes, but costs more: 60 µs of the shared store per request against 20 µs of the shared store per request"
    )
    assert why["postgres"].startswith("fails p99: p99 2.5 ms [")
    assert "also misses over-admission" in why["memory"]
    found = assessed(*ALL, **asked)
    said = use(best(found), [each for each in found if each.passes], "USD")
    assert said.startswith("Use hybrid: p99 0.51 ms (2 ms allowed), over-admission 0.45 % (1 % allowed)")


def test_a_price_decides_where_there_is_one():
    costs = {"redis": 60.0, "hybrid": 40.0, "postgres": 200.0, "memory": 1.0}
    asked = {"p99": "2ms", "max_over_admission": "1%", "persistence": "session", "costs": costs}
    assert chosen(*ALL, **asked) == "hybrid"
    dearer = asked | {"costs": costs | {"hybrid": 61.0}}
    assert chosen(*ALL, **dearer) == "redis"
    assert reasons(*ALL, **dearer)["hybrid"] == "passes, but costs more: 61 USD a month against 60 USD a month"


def test_a_figure_reads_otherwise_than_the_threshold_that_it_misses():
    slow, much = rows("redis", [2.0003e-3] * 3), rows("hybrid", [1e-3] * 3, 0.010004)
    why = {each.candidate: each.missed[0].evidence for each in assessed(slow, much, p99="2ms", max_over_admission="1%")}
    assert why == {"redis": "p99 2.0003 ms", "hybrid": "over-admission 1.0004 %"}
    (same,) = assessed(rows("redis", [2e-3] * 3), p99="2ms")
    assert same.checks[0].evidence == "p99 2 ms"


def test_no_over_admission_means_exactly_none():
    almost = rows("hybrid", [0.5e-3] * 3, [0.0, 0.0, 1e-9], 20e-6)
    assert chosen(almost, REDIS, max_over_admission=0) == "redis"
    why = reasons(almost, REDIS, max_over_admission=0)["hybrid"]
    assert why.startswith("fails over-admission: over-admission less than 0.001 %")


def test_the_choice_changes_with_the_requirement():
    assert (chosen(*ALL, max_over_admission=0), chosen(*ALL, p99="0.05ms")) == ("redis", "memory")


def test_an_impossible_pair_says_so_and_shows_the_nearest():
    found = assessed(*ALL, max_over_admission=0, p99="0.05ms")
    assert best(found) is None
    assert no_choice(found).startswith("No candidate meets all requirements; the nearest is hybrid")
    alone = {each.candidate: violations_text(each) for each in closest_misses(found)}
    assert alone["memory"].startswith("misses only over-admission")
    assert alone["redis"].startswith("misses only p99: p99 1.05 ms")


def test_where_none_passes_it_is_said_which_single_requirement_relaxed_to_what_would_let_one_pass():
    found = assessed(*ALL, max_over_admission=0, p99="0.05ms")
    relaxed = {each.requirement: each for each in relaxations(found)}
    assert set(relaxed) == {"p99", "max_over_admission"}
    assert relaxed["p99"].candidate == "redis"
    assert relaxed["max_over_admission"].sentence == (
        "With over-admission relaxed to 23 %, and nothing else, memory would pass."
    )
    for each, share_or_ms in ((relaxed["p99"], {"p99": relaxed["p99"].to.replace(" ", "")}), (None, {})):
        if each is not None:
            assert chosen(*ALL, max_over_admission=0, **share_or_ms) == "redis"


def test_what_misses_two_requirements_is_no_matter_of_one():
    found = assessed(rows("memory", [3e-3] * 3, [0.2] * 3), p99="1ms", max_over_admission="1%", persistence="durable")
    assert relaxations(found) == ()


def test_an_interval_across_the_threshold_is_too_close_to_call():
    shaky = rows("redis", [1.8e-3, 2.0e-3, 2.1e-3], 0.0, 60e-6)
    assert chosen(shaky, POSTGRES, p99="5ms") == "redis"
    assert chosen(shaky, POSTGRES, p99="2ms") is None
    assert "redis is too close to call" in no_choice(assessed(shaky, POSTGRES, p99="2ms"))
    assert chosen(shaky, HYBRID, p99="2ms") == "hybrid"
    assert reasons(shaky, HYBRID, p99="2ms")["redis"].startswith("is not shown to meet p99")


def test_equal_costs_go_to_the_fewer_moving_parts():
    strong = rows("hybrid", [0.9e-3] * 3, 0.0, 60.1e-6)
    assert chosen(strong, REDIS) == "redis"
    assert reasons(strong, REDIS)["hybrid"] == (
        "passes at the same cost, but has 4 more moving parts (a circuit breaker in each node, a fallback in each node, "
        "views of the store in each node, a flush loop) than redis"
    )


def test_a_simple_candidate_is_not_dominated_by_an_intricate_one():
    quicker = rows("hybrid", [0.2e-3] * 3, 0.0, 60.1e-6)
    found = assessed(quicker, REDIS)
    assert {each.candidate for each in front(found)} == {"redis", "hybrid"}


def test_a_smaller_blast_radius_decides_between_equals():
    twin = [{**row, "candidate": "redis, other"} for row in REDIS]
    for harmed, better in (("redis", "redis, other"), ("redis, other", "redis")):
        assert chosen(REDIS, twin, blasts={"redis": 0.1, "redis, other": 0.1} | {harmed: 0.9}) == better
    why = reasons(REDIS, twin, blasts={"redis": 0.9, "redis, other": 0.1})
    assert why["redis"] == "passes, but redis, other is no worse in anything and better in blast radius"


def test_a_candidate_that_leaves_requests_undecided_fails_whatever_its_latency():
    lossy = rows("redis", [1e-3] * 3, 0.0, 10e-6, failed=20)
    assert chosen(lossy, HYBRID) == "hybrid"
    assert reasons(lossy, HYBRID)["redis"].startswith("fails p99: 2 % of the requests get no decision")


def test_a_backend_that_may_not_be_used_fails_whatever_it_measures():
    asked = {"p99": "5ms", "max_over_admission": "1%", "allowed": ["memory", "postgres", "hybrid"]}
    found = assessed(*ALL, **asked)
    assert chosen(*ALL, **asked) == "postgres"
    assert ", without Redis, at " in use(best(found), [best(found)], "USD")
    why = reasons(*ALL, **asked)
    assert why["redis"] == "fails allowed backends: needs Redis (without Redis, as required)"
    assert why["hybrid"].startswith("fails allowed backends")


def test_what_is_denied_without_need_can_be_limited_too():
    strict = [{**row, "false_denial": 0.05} for row in HYBRID]
    assert chosen(strict, REDIS, max_over_admission="1%") == "hybrid"
    assert chosen(strict, REDIS, max_over_admission="1%", max_false_denial="1%") == "redis"
    assert reasons(strict, REDIS, max_false_denial="1%")["hybrid"] == "fails false denial: false denial 5 % (1 % allowed)"


def test_memory_that_cannot_hold_the_keys_fails():
    assert chosen(MEMORY, REDIS, key_count=2_000_000) == "redis"
    why = reasons(MEMORY, REDIS, key_count=2_000_000)["memory"]
    assert why == "fails key count: room for 1,000,000 keys (2,000,000 required)"


def test_memory_of_too_few_bytes_for_the_keys_fails():
    small = [{**row, "storage": "memory://?memory_limit=100000"} for row in MEMORY]  # at 200 bytes for each key
    assert reasons(small, REDIS, key_count=501)["memory"] == "fails key count: room for 500 keys (501 required)"


def test_a_limit_that_hardly_binds_is_said():
    loose = limit_pressure_note("10/minute", LimitPressure(0.0002, False, "5/minute", 0.0, 0.012))
    assert loose.startswith(
        "The limit 10/minute hardly ever binds here: an exact limiter denies only 0.02 % of the requests"
    )
    assert loose.endswith(
        " 5/minute is the smallest round rate that denies at most 1 % of the keys and 5 % of the requests; here it denies "
        "1.2 % of the requests."
    )
    unbound = limit_pressure_note("10/minute", LimitPressure(0.0, False, "8/minute", 0.0, 0.0))
    assert "an exact limiter denies nothing" in unbound
    assert unbound.endswith("; here it denies nothing.")
    assert limit_pressure_note("10/minute", LimitPressure(0.17, True, None)) == ""


def test_confidence_follows_the_margin_and_thin_evidence_is_called_thin():
    def level(p99, requests=10_000, seeds=3):
        redis = rows("redis", [1.0e-3, 1.001e-3, 1.002e-3][:seeds], 0.0, 60e-6)
        (found,) = assessed(redis, p99=p99, max_over_admission="1%")
        return confidence(found, [], "USD", requests).level

    assert [level("5ms"), level("1.5ms"), level("1.1ms")] == ["high", "fair", "low"]
    assert level("5ms", seeds=1) == "low"
    assert level("5ms", requests=999) == "too thin"


@pytest.mark.parametrize(
    ("storage", "kept"),
    [
        ("memory://", "none"),
        ("redis://localhost", "session"),
        ("hybrid+redis://localhost?consistency=strong", "session"),
        ("postgresql://localhost", "durable"),
        ("postgresql://localhost?unlogged=true", "session"),
        ("hybrid+postgresql://localhost?consistency=strong", "durable"),
        ("hybrid+postgresql://localhost", "session"),
    ],
)
def test_what_survives_follows_from_the_storage(storage, kept):
    assert persistence(storage) == kept


def test_the_rules_answer_at_once_and_by_the_same_function():
    ruled = recommend(PerformanceRequirements(LatencyTarget.SUB_MILLISECOND), DeploymentType.CLUSTERED, DataRequirements())
    assert ruled.backend == "memory"
    assert ruled.url.startswith("memory://")


def test_the_caveat_is_the_one_thing_that_matters_most():
    (redis,) = assessed(REDIS, p99="2ms")
    (sticky,) = assessed(rows("memory", [3e-6] * 3, 0.0, routing="sticky"))
    (slow,) = assessed(rows("redis", [5e-3]), p99="2ms")
    down = FaultImpact("redis", "partition, 30 s", 83, 1.0, 1.0, 0.0, 0.0, 1.0)
    wrong = FaultImpact("redis", "failover of the store, 30 s", 496, 0.0, 1e-3, 0.3, 0.0, 0.29)
    assert caveat(redis, slow, (), (down,), "It hardly binds.", "shipped", live=True).startswith(
        "On all of the traffic, once, it misses"
    )
    assert caveat(redis, None, (), (down,), "It hardly binds.", "shipped", live=True) == "It hardly binds."
    assert caveat(sticky, None, (), (), "", "shipped", live=True).startswith("It rests on the balancer")
    assert caveat(sticky, None, (), (), "", "shipped", live=True, to_one_node=0.34).endswith(
        " The busiest key takes 34 % of the requests to one node."
    )
    assert caveat(redis, None, (), (down,), "", "shipped", live=True).endswith(
        "in a partition, 30 s, 100 % of the 83 requests got no decision."
    )
    assert "29 % of the 496 requests were decided otherwise" in caveat(redis, None, (), (wrong,), "", "shipped", live=True)
    assert "`ratesim calibrate` measures yours" in caveat(redis, None, (), (), "", "shipped", live=True)
    spared = FaultImpact("redis", "crash of one primary, 30 s, elsewhere", 83, 0.0, 1e-3, 0.0, 0.0, 0.0)
    assert caveat(redis, None, (), (spared,), "", "shipped", live=True).startswith(
        "It was spared a fault of the scenario, crash of one primary, 30 s: it has no such primary."
    )
    for live, said in ((True, "the live columns show"), (False, "`ratesim validate` shows")):
        assert said in caveat(redis, None, (), (), "", "mine.json", live)


def test_an_interval_is_students_and_not_below_zero():
    known = student_interval([1.0, 2.0, 3.0])  # mean 2, standard error 1/sqrt(3), t(2) = 4.302653
    assert known.mean == 2.0
    assert known.high == pytest.approx(2 + 4.302653 / math.sqrt(3))
    assert known.low == 0.0
    assert student_interval([2.0]).low == student_interval([2.0]).high == 2.0
    many = student_interval([0.0, 2.0] * 50)  # t(99) = 1.984
    assert many.high - 1 == pytest.approx(1.984 * math.sqrt(100 / 99) / 10, rel=1e-3)


def test_an_interval_of_what_is_not_finite_has_no_width():
    for values, mean in (([1.0, math.inf, 2.0], math.inf), ([1.0, math.nan], math.nan)):
        known = student_interval(values)
        assert known.mean == pytest.approx(mean, nan_ok=True)
        assert known.seeds == len(values)
    assert student_interval([math.inf, math.inf]).text(format_percent) == "without bound"


def test_a_candidate_that_admits_without_bound_fails_and_no_relaxation_helps():
    wild = rows("memory", [3e-6] * 3, [math.inf, 0.1, 0.2])
    found = assessed(wild, max_over_admission="1%")
    assert not found[0].passes
    assert relaxations(found) == ()


def test_only_a_zero_reads_as_exactly_zero():
    assert format_percent(0.0) == "exactly 0"
    assert format_percent(1e-9) == "less than 0.001 %"
    assert [format_percent(0.01), format_percent(0.2)] == ["1 %", "20 %"]
    assert [format_seconds(3e-6), format_seconds(5.2e-4), format_seconds(1.5)] == ["3 µs", "0.52 ms", "1.5 s"]


def test_control_characters_do_not_reach_a_terminal():
    assert escape_control_chars("a\x1b[31m\u202eb é") == "a\\x1b[31m\\u202eb é"
