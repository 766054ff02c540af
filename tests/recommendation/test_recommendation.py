"""What a study's figures make of the recommendation."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import pandas as pd
import pytest

from ratesim.recommendation import recommend
from ratesim.recommendation.evidence import interval, persistence
from ratesim.recommendation.rules import sketch
from ratesim.simulation.scenario import Deployment, Requirements, Scenario
from ratesim.wording import harmless, seconds, share

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


def study(*tables, binds=True, suggestion=None, **requirements):
    scenario = Scenario.of(
        {
            "workload": {"requests_per_second": 10.0},
            "limit": {"rate": "10/minute"},
            "requirements": requirements,
        }
    )
    binding = {"exact_denied_share": 0.17 if binds else 0.0002, "binds": binds, "suggestion": suggestion}
    results = pd.DataFrame([row for table in tables for row in table])
    return SimpleNamespace(scenario=scenario, results=results, binding=binding)


ALL = (MEMORY, REDIS, POSTGRES, HYBRID)


def reasons(recommendation):
    return {loser.candidate: loser.reason for loser in recommendation.losers}


def test_of_those_that_pass_the_one_that_loads_the_store_least_is_chosen():
    chosen = recommend(study(*ALL, p99="2ms", max_over_admission="1%", persistence="session"))
    assert chosen.choice == "hybrid"
    assert chosen.verdict.startswith("Use hybrid: p99 0.51 ms (2 ms allowed), over-admission 0.45 % (1 % allowed)")
    assert reasons(chosen)["redis"].startswith(
        "passes, but costs more: 60 µs of the shared store per request, 3 times 20 µs"
    )
    assert reasons(chosen)["postgres"].startswith("fails p99: p99 2.5 ms [")
    assert "also misses over-admission" in reasons(chosen)["memory"]


def test_no_over_admission_means_exactly_none():
    almost = rows("hybrid", [0.5e-3] * 3, [0.0, 0.0, 1e-9], 20e-6)
    chosen = recommend(study(almost, REDIS, max_over_admission=0))
    assert chosen.choice == "redis"
    assert reasons(chosen)["hybrid"].startswith("fails over-admission: over-admission less than 0.001 %")


def test_the_recommendation_changes_with_the_requirement():
    exact = recommend(study(*ALL, max_over_admission=0))
    quick = recommend(study(*ALL, p99="0.05ms"))
    assert (exact.choice, quick.choice) == ("redis", "memory")


def test_an_impossible_pair_says_so_and_shows_the_nearest():
    none = recommend(study(*ALL, max_over_admission=0, p99="0.05ms"))
    assert none.choice is None
    assert none.verdict.startswith("No candidate meets all requirements; the nearest is hybrid")
    alone = {each.candidate: each.reason for each in none.nearest}
    assert alone["memory"].startswith("misses only over-admission")
    assert alone["redis"].startswith("misses only p99: p99 1.05 ms")
    assert len(none.losers) == 4
    assert none.storage_toml.startswith("# No candidate")


def test_an_interval_across_the_threshold_is_too_close_to_call():
    shaky = rows("redis", [1.8e-3, 2.0e-3, 2.1e-3], 0.0, 60e-6)
    assert recommend(study(shaky, POSTGRES, p99="5ms")).choice == "redis"
    close = recommend(study(shaky, POSTGRES, p99="2ms"))
    assert close.choice is None
    assert "redis is too close to call" in close.verdict
    surer = recommend(study(shaky, HYBRID, p99="2ms"))
    assert surer.choice == "hybrid"
    assert reasons(surer)["redis"].startswith("is not shown to meet p99")


def test_equal_costs_go_to_the_fewer_moving_parts():
    strong = rows("hybrid", [0.9e-3] * 3, 0.0, 60.1e-6)
    chosen = recommend(study(strong, REDIS))
    assert chosen.choice == "redis"
    assert reasons(chosen)["hybrid"] == "passes at the same cost, but has more moving parts than redis"


def test_a_candidate_that_leaves_requests_undecided_fails_whatever_its_latency():
    lossy = rows("redis", [1e-3] * 3, 0.0, 10e-6, failed=20)
    chosen = recommend(study(lossy, HYBRID))
    assert chosen.choice == "hybrid"
    assert reasons(chosen)["redis"].startswith("fails p99: 2 % of the requests get no decision")


def test_a_backend_that_may_not_be_used_fails_whatever_it_measures():
    chosen = recommend(study(*ALL, p99="5ms", max_over_admission="1%", allowed=["memory", "postgres", "hybrid"]))
    assert chosen.choice == "postgres"
    assert ", without Redis, at " in chosen.verdict
    assert reasons(chosen)["redis"] == "fails allowed backends: needs Redis (without Redis, as required)"
    assert reasons(chosen)["hybrid"].startswith("fails allowed backends")
    assert "but redis, its best, fails allowed backends" in chosen.sketch.sentence


def test_memory_that_cannot_hold_the_keys_fails():
    chosen = recommend(study(MEMORY, REDIS, key_count=2_000_000))
    assert chosen.choice == "redis"
    assert reasons(chosen)["memory"] == "fails key count: room for 1,000,000 keys (2,000,000 required)"


def test_memory_of_too_few_bytes_for_the_keys_fails():
    small = [{**row, "storage": "memory://?memory_limit=100000"} for row in MEMORY]  # at 200 bytes for each key
    chosen = recommend(study(small, REDIS, key_count=501))
    assert reasons(chosen)["memory"] == "fails key count: room for 500 keys (501 required)"


def test_a_limit_that_hardly_binds_is_said_in_the_verdict():
    loose = recommend(study(*ALL, binds=False, suggestion="5/minute"))
    assert "the limit hardly ever binds, so the choice rests on latency and cost alone; 5/minute would bind" in loose.verdict
    assert loose.binding.endswith("5/minute would deny 5 to 30 %.")
    assert recommend(study(*ALL)).binding == ""


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


@pytest.mark.parametrize(
    ("requirements", "deployment", "backend"),
    [
        ({"p99": "0.9ms", "persistence": "durable"}, {}, "memory"),
        ({}, {"type": "single_instance", "nodes": 1}, "memory"),
        ({"persistence": "session"}, {}, "hybrid"),
        ({"persistence": "durable"}, {"type": "high_availability"}, "postgres"),
        ({"p99": "1ms"}, {}, "redis"),
    ],
)
def test_the_rule_table_of_the_sketch(requirements, deployment, backend):
    assert sketch(Requirements(**requirements), Deployment(**deployment)).backend == backend


def test_where_the_rule_table_would_choose_otherwise_the_evidence_says_why_not():
    chosen = recommend(study(*ALL, p99="0.9ms", max_over_admission="1%"))
    assert chosen.choice == "hybrid"
    assert "says memory (a latency target below 1 ms), but memory, its best, fails over-admission" in chosen.sketch.sentence


def test_the_configuration_is_toml_with_the_options_as_values():
    import tomllib

    pasted = tomllib.loads(recommend(study(HYBRID)).storage_toml)
    assert pasted["storage"]["options"] == {"consistency": "eventual", "write": "write_back", "sync_interval": 0.1}
    assert pasted["storage"]["url"] == STORAGE["hybrid"]
    assert pasted["limit"] == {"rate": "10/minute", "algorithm": "sliding_window"}


def test_a_recommendation_is_json():
    told = json.loads(recommend(study(*ALL, persistence="durable")).to_json())
    assert told["choice"] == "postgres"
    assert told["assessments"][0]["p99"]["seeds"] == 3


def test_an_interval_is_students_and_not_below_zero():
    known = interval([1.0, 2.0, 3.0])  # mean 2, standard error 1/sqrt(3), t(2) = 4.303
    assert known.mean == 2.0
    assert known.high == pytest.approx(2 + 4.303 / math.sqrt(3))
    assert known.low == 0.0
    assert interval([2.0]).low == interval([2.0]).high == 2.0
    many = interval([0.0, 2.0] * 50)  # t(99) = 1.984
    assert many.high - 1 == pytest.approx(1.984 * math.sqrt(100 / 99) / 10, rel=1e-3)


def test_only_a_zero_reads_as_exactly_zero():
    assert share(0.0) == "exactly 0"
    assert share(1e-9) == "less than 0.001 %"
    assert [share(0.01), share(0.2)] == ["1 %", "20 %"]
    assert [seconds(3e-6), seconds(5.2e-4), seconds(1.5)] == ["3 µs", "0.52 ms", "1.5 s"]


def test_control_characters_do_not_reach_a_terminal():
    assert harmless("a\x1b[31m\u202eb é") == "a\\x1b[31m\\u202eb é"
