"""The claims of the baseline, beside a study's figures."""

from __future__ import annotations

import math
import re

import msgspec
import pandas as pd
import pytest

from ratesim import run
from ratesim.formatting import format_seconds
from ratesim.recommendation.baseline.claim_checks import MEASURES
from ratesim.recommendation.baseline.claims import CLAIMS, CheckedClaim, claims
from ratesim.simulation.cost_model.profile import Profile
from ratesim.simulation.scenario.scenario import Candidate, Scenario

STORAGE = {"memory": "memory://", "redis": "redis://localhost", "postgres": "postgresql://localhost"}
STORAGE["hybrid"] = "hybrid+redis://localhost?consistency=eventual&write=write_back&sync_interval=0.1"
STORAGE["strong"] = "hybrid+redis://localhost?consistency=strong&write=write_through"
NO_ROWS = pd.DataFrame({name: [] for name in ("backend", "candidate", "storage", "routing")})


@pytest.fixture(scope="module")
def profile() -> Profile:
    return Profile.load()


def row(name, backend=None, **figures):
    usual = {"latency_p50": 1e-3, "over_admission": 0.0, "false_denial": 0.0, "l2_operations_per_request": 1.0}
    usual |= {"l2_busy_per_request": 5e-5, "utilization": 0.2, "bytes_per_key": 300.0}
    usual |= {"routing": "round_robin", "storage": STORAGE[name]}
    return {"candidate": name, "backend": backend or name, **usual, **figures}


def live(**p50):
    """Make live rows by the median of their operation times; what a replay took is no part of a claim."""
    rows = [{"candidate": name, "operation_p50": value, "latency_p50": 0.02} for name, value in p50.items()]
    return pd.DataFrame(rows, columns=["candidate", "operation_p50", "latency_p50"])


def about(found: tuple[CheckedClaim, ...], backend: str, measure: str) -> CheckedClaim:
    (one,) = [each for each in found if (each.backend, each.measure) == (backend, measure)]
    return one


ROWS = [
    row("memory", latency_p50=3e-6, over_admission=0.2, l2_operations_per_request=0.0, l2_busy_per_request=0.0),
    row("redis"),
    row("postgres", latency_p50=2e-3, l2_busy_per_request=4e-4),
    row("hybrid", latency_p50=4e-6, over_admission=0.004, bytes_per_key=700.0),
    row("strong", "hybrid", latency_p50=1.1e-3),
]
LIVE = {"memory": 4e-6, "redis": 5e-4, "postgres": 9e-4}


def test_every_backend_has_claims_and_each_claim_has_a_figure():
    assert {claim.backend for claim in CLAIMS} == {"memory", "redis", "postgres", "hybrid"}
    assert {claim.kind for claim in CLAIMS} == {"advantage", "disadvantage"}
    assert {(claim.backend, claim.measure) for claim in CLAIMS} == set(MEASURES)
    assert len(MEASURES) == len(CLAIMS)


def test_a_latency_is_held_against_operations_one_at_a_time(profile):
    found = claims(pd.DataFrame(ROWS), live(**LIVE), profile)
    holds = {backend: about(found, backend, "operation_p50").holds for backend in LIVE}
    assert holds == {"memory": "yes", "redis": "yes", "postgres": "no"}
    said = about(found, "redis", "operation_p50").measured
    assert said.startswith("p50 0.5 ms, measured live on one machine: operations of the storage, one at a time")
    assert said.endswith(" one at a time, from the profile")


def test_a_store_that_is_faster_than_claimed_refutes_the_claim_and_is_said_to_be_faster(profile):
    found = claims(pd.DataFrame(ROWS), live(postgres=2.9e-4), profile)
    assert about(found, "postgres", "operation_p50").why == "it is faster: 0.29 ms at the median"
    slow = claims(pd.DataFrame(ROWS), live(postgres=6e-3), profile)
    assert about(slow, "postgres", "operation_p50").why == "it is slower: 6 ms at the median"


@pytest.mark.parametrize(("p50", "holds"), [(9e-5, "no"), (1e-4, "yes"), (9.99e-4, "yes"), (1e-3, "no")])
def test_the_bounds_are_those_of_the_claim(profile, p50, holds):
    assert about(claims(pd.DataFrame(ROWS), live(redis=p50), profile), "redis", "operation_p50").holds == holds


def test_memory_is_the_least_only_where_no_server_is_as_fast(profile):
    found = about(claims(pd.DataFrame(ROWS), live(memory=4e-6, redis=3e-6), profile), "memory", "operation_p50")
    assert (found.holds, found.why) == ("no", "a server is as fast, 3 µs at the median")


def test_memory_is_as_fast_as_the_profile_says_where_the_live_process_was_slower(profile):
    slow = 5 * profile.backends["memory"].latency_p50 + 1e-5
    found = about(claims(pd.DataFrame(ROWS), live(memory=slow, redis=5e-4), profile), "memory", "operation_p50")
    itself = format_seconds(profile.backends["memory"].latency_p50)
    assert (found.holds, found.why.split(" at ")[0]) == ("yes", itself)
    assert found.why.endswith("by the profile; the process of the live replay was slower than that")
    memory = msgspec.structs.replace(profile.backends["memory"], latency_p50=slow)
    slower = msgspec.structs.replace(profile, backends={**profile.backends, "memory": memory})
    refuted = about(claims(pd.DataFrame(ROWS), live(memory=slow), slower), "memory", "operation_p50")
    assert (refuted.holds, refuted.why) == ("no", f"it is slower: {format_seconds(slow)} at the median")


def test_a_hybrid_beside_a_memory_that_is_slow_here_is_as_fast_as_that(profile):
    found = about(claims(pd.DataFrame(ROWS), live(memory=2e-5, hybrid=1.9e-5), profile), "hybrid", "operation_p50")
    assert (found.holds, found.why.split(";")[0]) == ("yes", "the fastest of them is as fast as memory was beside it")


def test_every_verdict_on_a_latency_names_a_figure_of_its_row(profile):
    """Whatever was measured, what the reason names stands among the figures: one value, once."""
    for p50 in (3e-6, 1.2e-5, 9e-5, 2e-4, 4e-3, 6e-3):
        for backend in LIVE:
            found = about(claims(pd.DataFrame(ROWS), live(**{backend: p50}), profile), backend, "operation_p50")
            (named,) = re.findall(r"[\d.]+ (?:µs|ms)", found.why)
            assert f"p50 {named}" in found.measured


def test_what_was_not_timed_live_is_not_measured(profile):
    disturbed = live(redis=5e-4).assign(disturbed="the loop was woken 4 ms late at the median")
    failed = live(redis=math.nan).assign(failure="valkey 9 was ended by SIGKILL")
    replays = [
        (live(), "it was not replayed live"),
        (live(redis=math.nan), "no live operation was timed"),
        (live(redis=5e-4).drop(columns="operation_p50"), "no live operation was timed"),  # of an older version
        (disturbed, "the machine was disturbed: the loop was woken 4 ms late at the median"),
        (failed, "valkey 9 was ended by SIGKILL"),
    ]
    for replayed, why in replays:
        each = about(claims(pd.DataFrame(ROWS), replayed, profile), "redis", "operation_p50")
        assert (each.holds, each.why) == ("not measured", why)
        assert each.measured.startswith("p50 ")  # the profile's, which is no live figure


def test_memory_that_is_not_shared_is_seen_by_what_it_admits_too_much(profile):
    found = about(claims(pd.DataFrame(ROWS), live(), profile), "memory", "over_admission")
    assert (found.measured, found.holds) == ("over-admission 20 %, where routing does not go by key", "yes")
    sticky = pd.DataFrame([row("memory", routing="sticky", over_admission=0.0)])
    assert about(claims(sticky, live(), profile), "memory", "over_admission").holds == "not measured"
    nothing = pd.DataFrame([row("memory", over_admission=0.0)])
    assert about(claims(nothing, live(), profile), "memory", "over_admission").holds == "not measured"


def test_a_redis_that_decides_otherwise_than_one_limiter_is_not_atomic(profile):
    found = claims(pd.DataFrame(ROWS), live(), profile)
    assert about(found, "redis", "false_denial").holds == about(found, "redis", "over_admission").holds == "yes"
    off = claims(pd.DataFrame([row("redis", false_denial=1e-9)]), live(), profile)
    assert about(off, "redis", "false_denial").holds == "no"


def test_postgres_is_held_against_redis(profile):
    found = claims(pd.DataFrame(ROWS), live(), profile)
    assert about(found, "postgres", "l2_busy_per_request").holds == "yes"
    assert about(found, "postgres", "concurrency").holds == "yes"
    alone = claims(pd.DataFrame(ROWS[2:3]), live(), profile)
    assert about(alone, "postgres", "l2_busy_per_request").holds == "not measured"
    assert about(alone, "postgres", "concurrency").holds == "not measured"


def test_a_store_that_the_runs_left_idle_saturates_as_one_that_is_busy(profile):
    cold = [row(name, l2_busy_per_request=busy, utilization=1e-3) for name, busy in (("redis", 9e-4), ("postgres", 1e-3))]
    found = about(claims(pd.DataFrame(cold), live(), profile), "postgres", "concurrency")
    assert found.holds == "yes"
    assert found.measured.endswith(f"; redis {1 / profile.backends['redis'].warm:,.0f}")


def test_of_the_hybrids_only_those_that_decide_on_a_view_may_disagree(profile):
    found = claims(pd.DataFrame(ROWS), live(), profile)
    assert about(found, "hybrid", "over_admission").measured.startswith("over-admission 0.4 %")
    assert about(found, "hybrid", "over_admission").holds == "yes"
    assert about(found, "hybrid", "over_admission by policy").holds == "yes"
    assert about(found, "hybrid", "bytes_per_key").holds == "yes"
    strict = claims(pd.DataFrame([row("strong", "hybrid")]), live(), profile)
    assert about(strict, "hybrid", "over_admission").holds == "not measured"


def test_a_hybrid_is_as_fast_as_memory_when_the_fastest_is(profile):
    def hybrid(**p50):
        return about(claims(pd.DataFrame(ROWS), live(**p50), profile), "hybrid", "operation_p50")

    assert hybrid(memory=4e-6, hybrid=6e-6, strong=3e-4).holds == "yes"
    assert hybrid(memory=4e-6, hybrid=6e-6, strong=3e-4).measured.startswith("p50 6 µs, memory 4 µs, measured live")
    assert hybrid(memory=4e-6, strong=3e-4).holds == "no"
    assert hybrid(hybrid=6e-6).why == "memory was not measured live"
    assert hybrid().why == "hybrid was not measured live"


def test_a_claim_is_json(profile):
    told = msgspec.json.decode(msgspec.json.encode(claims(pd.DataFrame(ROWS), live(**LIVE), profile)))
    assert {each["backend"] for each in told} == {"memory", "redis", "postgres", "hybrid"}
    assert set(told[0]) == {"backend", "kind", "claim", "measure", "measured", "holds", "why"}


def test_a_study_without_candidates_measures_nothing(profile):
    found = claims(NO_ROWS, live(), profile)
    assert len(found) == len(CLAIMS)
    assert {each.holds for each in found} == {"not measured"}


def test_a_real_run_has_every_figure(profile):
    scenario = Scenario.of(
        {
            "workload": {"requests_per_second": 200.0, "duration": 5, "keys": 5},
            "limit": {"rate": "100/minute"},
            "deployment": {"nodes": 4},
        }
    )
    named = [Candidate(name=name, storage=storage) for name, storage in STORAGE.items()]
    results = pd.DataFrame([run(scenario, candidate, profile=profile).row() for candidate in named])
    found = claims(results, live(memory=4e-6, hybrid=6e-6), profile)
    missing = [each for each in found if not each.measured]
    assert missing == []
    assert about(found, "memory", "over_admission").holds == "yes"
    assert about(found, "redis", "false_denial").holds == "yes"
    assert about(found, "postgres", "concurrency").measured.startswith("about ")
