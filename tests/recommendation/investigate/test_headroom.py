"""Headroom: the load at which a requirement is no longer met, found by runs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from stub_world import answered

from ratesim import Scenario
from ratesim.recommendation.investigate.headroom import Headroom, headroom
from ratesim.recommendation.investigate.load_growth import load_growths
from ratesim.simulation.cost_model.profile import ModelError, Profile
from ratesim.simulation.experiments.adaptive import run_adaptive
from ratesim.simulation.experiments.job import Job
from ratesim.simulation.scenario.grid import variants
from ratesim.simulation.scenario.scenario import Candidate
from traffic import Trace

REDIS = Candidate(name="redis", storage="redis://localhost")
RECIPE = {"requests_per_second": 100, "keys": 50, "duration": "30s"}


def validated(*errors: ModelError) -> Profile:
    shipped = Profile.shipped()
    redis = msgspec.structs.replace(shipped.backends["redis"], errors=errors)
    return msgspec.structs.replace(shipped, backends={**shipped.backends, "redis": redis})


def wrong_by(p99: float, up_to: float) -> ModelError:
    return ModelError(utilization=up_to, p50=p99, p95=p99, p99=p99, throughput=p99)


PROFILE = validated(wrong_by(0.0, up_to=1.0))  # a model without an error
BASE = 0.5e-3  # seconds: the p99 of an idle store in these worlds


def scenario(workload: dict[str, Any] = RECIPE, **requirements: Any) -> Scenario:
    asked = requirements or {"p99": "2ms"}
    return Scenario.of({"workload": workload, "limit": {"rate": "10/second"}, "requirements": asked})


def found(
    asked: Scenario, world: Any, profile: Profile = PROFILE, **options: Any
) -> tuple[dict[tuple[str, str], Headroom], list[Job]]:
    result, jobs = answered(headroom(asked, REDIS, profile, asked.trace(), **options), world)
    return {(each.requirement, each.way): each for each in result}, jobs


def load(job: Job) -> float:
    """In multiples of today's."""
    assert job.scenario.workload.requests_per_second is not None
    return job.scenario.workload.scale * job.scenario.workload.requests_per_second / 100


def queue(capacity: float) -> Any:
    """The p99 grows as that of a queue: base / (1 - load / capacity), and everything fails beyond."""

    def world(job: Job) -> dict[str, Any]:
        rho = load(job) / capacity
        if rho >= 1:
            return {"latency_p99": math.nan, "failed": 100, "requests": 100}
        return {"latency_p99": BASE / (1 - rho), "failed": 0, "requests": 100}

    return world


@pytest.mark.parametrize("capacity", [2.0, 7.3, 100.0, 900.0])
def test_the_load_at_which_a_queue_is_too_long_is_found(capacity: float) -> None:
    both, jobs = found(scenario(), queue(capacity))
    crossing = 0.75 * capacity  # where 0.5 ms / (1 - rho) are 2 ms
    assert set(both) == {("p99", "more clients"), ("p99", "busier clients")}
    for each in both.values():
        assert each.meets is not None
        assert each.fails is not None
        assert each.meets <= crossing <= each.fails <= 1.1 * each.meets
        assert each.today == pytest.approx(BASE / (1 - 1 / capacity))
        assert each.at_meets is not None
        assert each.at_meets <= 2e-3
        assert each.sentence.startswith("Met ")
        assert "2 ms is allowed" in each.sentence
    assert len(jobs) <= 2 * (2 * 5 + 4)  # for each way the ladder up to 4**5 or what fails, and four halvings


def test_a_finer_answer_may_be_asked_for() -> None:
    both, _ = found(scenario(), queue(100.0), ratio=1.01)
    for each in both.values():
        assert each.meets is not None
        assert each.fails is not None
        assert each.meets <= 75.0 <= each.fails <= 1.01 * each.meets


def test_what_is_met_at_every_load_says_up_to_which_was_looked() -> None:
    both, jobs = found(scenario(), lambda job: {"latency_p99": BASE}, most=1000.0)
    for each in both.values():
        assert (each.meets, each.fails, each.at_fails) == (1000.0, None, None)
        assert "up to 1,000 times" in each.sentence
        assert "the most that was looked at" in each.sentence
    assert max(map(load, jobs)) == 1000.0


def test_what_is_not_met_today_is_looked_at_no_further() -> None:
    both, jobs = found(scenario(), lambda job: {"latency_p99": 3e-3})
    for each in both.values():
        assert (each.meets, each.fails, each.today, each.at_fails) == (None, 1.0, 3e-3, 3e-3)
        assert each.sentence == "Not met at today's load (p99 3 ms; 2 ms is allowed)."
    assert max(map(load, jobs)) <= 4.0


def test_requests_that_get_no_decision_count_against_the_p99() -> None:
    def world(job: Job) -> dict[str, Any]:
        return {"latency_p99": BASE, "requests": 1000, "failed": 20 if load(job) > 10 else 9}

    both, _ = found(scenario(), world)
    for each in both.values():
        assert each.meets is not None
        assert each.fails is not None
        assert each.meets <= 10 <= each.fails
        assert each.failed_share == 0.02
        assert "2 % of the requests get no decision" in each.sentence


def test_requirements_and_ways_have_limits_of_their_own_and_share_their_runs() -> None:
    def world(job: Job) -> dict[str, Any]:
        busier = job.scenario.workload.requests_per_second / 100  # type: ignore[operator]
        return {"latency_p99": BASE * load(job), "over_admission": 0.002 * busier, "simulated_seconds": 10.0}

    both, jobs = found(scenario(p99="10ms", max_over_admission="1%"), world)
    more, busier = both["max_over_admission", "more clients"], both["max_over_admission", "busier clients"]
    assert more.fails is None
    assert busier.meets is not None
    assert busier.fails is not None
    assert busier.meets <= 5.0 <= busier.fails
    for way in ("more clients", "busier clients"):
        p99 = both["p99", way]
        assert p99.meets is not None
        assert p99.fails is not None
        assert p99.meets <= 20.0 <= p99.fails
    ladder = [job for job in jobs if load(job) in (1.0, 4.0, 16.0, 64.0)]
    assert len(ladder) == len({(load(job), job.values.get("workload.scale")) for job in ladder})


def test_where_none_may_be_admitted_too_much_one_is_too_many() -> None:
    def world(job: Job) -> dict[str, Any]:
        return {"over_admission": 0.0 if load(job) < 20 else 1e-6, "simulated_seconds": 10.0}

    both, _ = found(scenario(max_over_admission=0), world)
    for each in both.values():
        assert each.meets is not None
        assert each.fails is not None
        assert each.meets <= 20 <= each.fails
        assert "none is allowed" in each.sentence


def test_a_run_that_covers_less_than_a_period_says_so() -> None:
    said = [
        each.sentence
        for covered in (0.3, 2.0)
        for each in found(scenario(max_over_admission="1%"), lambda job, s=covered: {"simulated_seconds": s})[0].values()
    ]
    assert ["less than the 1 s of the limit" in sentence for sentence in said] == [True, True, False, False]


def test_over_admission_is_looked_at_while_a_run_covers_a_period() -> None:
    """Of 100 requests/s, 1000 requests cover the second of this limit up to ten times the load."""
    exact = {"over_admission": 0.0, "latency_p99": BASE}
    both, jobs = found(scenario(p99="2ms", max_over_admission="1%"), lambda job: exact, requests=1000)
    for way in ("more clients", "busier clients"):
        assert both["max_over_admission", way].meets == 4.0
        assert both["p99", way].meets == 4096.0
        assert both["p99", way].rate == pytest.approx(100, rel=0.2)
    assert max(map(load, jobs)) == 4096.0


def test_a_step_that_covers_less_than_a_period_does_not_show_one() -> None:
    both, _ = found(scenario(max_over_admission="1%"), lambda job: {"over_admission": 0.0}, requests=200)
    for each in both.values():
        assert each.meets == 4.0
        assert "the most that was looked at" in each.sentence
        assert "less than the 1 s of the limit" in each.sentence


def test_without_a_number_nothing_is_asked() -> None:
    assert found(scenario(persistence="session"), None) == ({}, [])


def test_several_seeds_are_judged_by_their_mean() -> None:
    def world(job: Job) -> dict[str, Any]:
        return {"latency_p99": BASE * load(job) * (0.8 if job.seed % 2 else 1.2)}

    both, jobs = found(scenario(), world, seeds=2)
    for each in both.values():
        assert each.meets is not None
        assert each.fails is not None
        assert each.meets <= 4.0 <= each.fails
    assert {job.seed for job in jobs} == {1, 2}


def test_a_load_is_met_where_it_is_with_the_model_s_error() -> None:
    both, _ = found(scenario(), lambda job: {"latency_p99": BASE * load(job)}, validated(wrong_by(0.25, up_to=1.0)))
    for each in both.values():
        assert each.meets is not None
        assert each.fails is not None
        assert each.meets <= 4.0 / 1.25 <= each.fails
        assert each.is_open
        assert ", not shown with " in each.sentence
    both, _ = found(scenario(), lambda job: {"latency_p99": 3e-3}, validated(wrong_by(0.25, up_to=1.0)))
    assert not any(each.is_open for each in both.values())
    assert all(each.sentence.startswith("Not met at today's load") for each in both.values())


def test_a_load_at_which_the_model_was_not_validated_is_not_shown_to_be_met() -> None:
    def world(job: Job) -> dict[str, Any]:
        return {"latency_p99": BASE, "utilization_max": min(load(job) / 100, 1.0)}

    both, _ = found(scenario(), world, validated(wrong_by(0.25, up_to=0.5)))
    for each in both.values():
        assert each.meets is not None
        assert each.fails is not None
        assert each.meets <= 50.0 <= each.fails <= 1.1 * each.meets
        assert each.is_open
        assert "(p99 at least 0.375 ms [0.5 ms simulated]; 2 ms is allowed)" in each.sentence


def test_faults_are_left_out() -> None:
    asked = scenario().model_dump(mode="json", exclude_unset=True) | {
        "faults": [{"kind": "crash", "start": 1, "duration": 5}]
    }
    _, jobs = found(Scenario.of(asked), lambda job: {"latency_p99": 3e-3})
    assert all(not job.scenario.faults for job in jobs)


LOG = {"log": "traffic/data/apache_access_10k.log.gz", "key": "client"}
EVEN: dict[str, dict[str, Any]] = {
    "poisson": RECIPE,
    "poisson, sped up and scaled": {**RECIPE, "speed": 2.0, "scale": 3.0},
    "hot key": {**RECIPE, "popularity": "hot_key", "hot_share": 0.5},
    "steady": {**RECIPE, "arrivals": "steady"},
    "a closed loop": {"keys": 20, "duration": "30s", "clients": {"users": 100, "think": 1}},
    "a log": LOG,
    "a part of a log": {**LOG, "head": 3000, "speed": 10},
}
IN_BURSTS: dict[str, dict[str, Any]] = {
    "clients that come and go": {**RECIPE, "arrivals": "on_off", "on": 1, "off": 1, "per_key": True},
    "a herd": {**RECIPE, "arrivals": "edge_herd", "edge": 5, "edge_spread": 2.5},
    "a crowd": RECIPE
    | {"arrivals": "flash_crowd", "surge": 10, "surge_at": 10, "ramp": 1, "hold": 15, "fade": 1, "duration": "60s"},
}


def at_loads(workload: dict[str, Any], requests: int) -> Iterator[tuple[str, dict[float, Trace]]]:
    asked = scenario(workload)
    for growth in load_growths(asked, asked.trace(), requests, 64.0):
        traces = {}
        for factor in (1.0, 16.0, 64.0):
            (variant,) = variants(growth.scenario, {field: [value] for field, value in growth.at(factor).items()})
            traces[factor] = variant.scenario.trace()
            assert len(traces[factor]) <= 1.1 * requests
        yield growth.way, traces


@pytest.mark.parametrize("workload", EVEN.values(), ids=list(EVEN))
def test_so_many_times_the_load_is_so_many_times_the_requests_in_a_second(workload: dict[str, Any]) -> None:
    for way, traces in at_loads(workload, 20_000 if "log" in workload else 2000):
        for factor in (16.0, 64.0):
            assert traces[factor].rate == pytest.approx(factor * traces[1.0].rate, rel=0.35), (way, factor)


@pytest.mark.parametrize("workload", IN_BURSTS.values(), ids=list(IN_BURSTS))
def test_of_arrivals_in_bursts_it_is_the_bursts_that_are_looked_at(workload: dict[str, Any]) -> None:
    for way, traces in at_loads(workload, 2000):
        for factor in (16.0, 64.0):
            assert traces[factor].rate >= 0.8 * factor * traces[1.0].rate, (way, factor)


@pytest.mark.parametrize("workload", [*EVEN.values(), *IN_BURSTS.values()], ids=[*EVEN, *IN_BURSTS])
def test_more_clients_have_more_keys_and_busier_ones_the_same(workload: dict[str, Any]) -> None:
    names = set(scenario(workload).trace().keys)
    for way, traces in at_loads(workload, 2000):
        trace = traces[16.0]
        asking = {trace.keys[key] for key in trace.key}
        if way == "more clients":
            assert asking - names
        else:
            assert asking <= names


def test_one_limit_for_all_requests_has_no_more_clients_than_busier_ones() -> None:
    ways = {}
    for key in ("none", "client"):
        asked = scenario({**LOG, "key": key})
        ways[key] = [each.way for each in load_growths(asked, asked.trace(), 2000, 64.0)]
    assert ways == {"none": ["busier clients"], "client": ["more clients", "busier clients"]}


def test_a_warm_up_leaves_most_of_every_excerpt() -> None:
    asked = Scenario.of({"workload": RECIPE, "limit": {"rate": "10/second"}, "warmup": "10s"})
    for growth in load_growths(asked, asked.trace(), 1000, 64.0):
        for factor in (1.0, 8.0, 64.0):
            (variant,) = variants(growth.scenario, {field: [value] for field, value in growth.at(factor).items()})
            assert 0 < variant.scenario.warmup <= 0.25 * variant.scenario.trace().duration


def test_a_real_store_meets_its_p99_only_where_it_is_not_busy_all_the_time() -> None:
    """As that of any queue, its p99 leaves its bound.

    How idle it is today does not say at which load: a server that is not woken for each request does more.
    """
    asked = scenario({"requests_per_second": 1000, "keys": 200, "duration": "10s"}, p99="3ms", max_over_admission=0)
    inquiry = headroom(asked, REDIS, PROFILE, asked.trace(), requests=1500, ratio=1.3)
    result = run_adaptive(inquiry, processes=1)
    today = next(row for row in result.rows.values() if row["simulated_seconds"] > 0.5)
    by = {(each.requirement, each.way): each for each in result.result}
    for way in ("more clients", "busier clients"):
        p99 = by["p99", way]
        assert p99.meets is not None
        assert p99.fails is not None
        last = next(row for row in result.rows.values() if row["latency_p99"] == p99.at_meets)
        assert p99.meets >= 1.0
        assert today["utilization"] < last["utilization"] < 1.0
        assert p99.fails <= 1.3 * p99.meets
        assert by["max_over_admission", way].fails is None  # one server decides for all, however many ask

    again = run_adaptive(
        headroom(asked, REDIS, PROFILE, asked.trace(), requests=1500, ratio=1.3),
        processes=1,
        known=result.rows,
        progress=lambda done, total, what: pytest.fail(f"{what} was run again"),
    )
    assert again.result == result.result


def test_loads_that_only_a_latency_was_looked_at_are_no_bound_of_over_admission() -> None:
    """A run at 256 times the load covers less than a period of the limit; p99 is looked at there all the same."""
    asked = scenario(p99="2ms", max_over_admission="1%")
    both, jobs = found(asked, lambda job: {"latency_p99": BASE, "over_admission": 0.0}, most=1000.0)
    assert max(map(load, jobs)) == 1000.0
    for (requirement, _), each in both.items():
        assert each.fails is None
        most = "was looked at" if requirement == "p99" else "a run shows over about a period of the limit"
        assert each.meets == (1000.0 if requirement == "p99" else 64.0)
        assert f"the most that {most} (" in each.sentence
