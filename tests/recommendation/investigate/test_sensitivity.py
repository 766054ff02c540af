"""Sensitivity: what would have to be otherwise for another choice, and by how much."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from stub_world import answered

from ratesim import Scenario
from ratesim.formatting import format_percent
from ratesim.recommendation.assess.assessment import assess
from ratesim.recommendation.investigate.assumptions import Assumption, assumptions
from ratesim.recommendation.investigate.sensitivity import Flip, sensitivity
from ratesim.simulation.cost_model.profile import Profile
from ratesim.simulation.experiments.adaptive import Row, run_adaptive
from ratesim.simulation.experiments.job import Job
from ratesim.simulation.scenario.scenario import Candidate
from ratesim.storage import StorageURL

PROFILE = Profile.load()
EVENTUAL = "hybrid+redis://localhost?consistency=eventual&write=write_back&sync_interval=0.1&l1_ttl=0.1&flush_batch=64"
MEMORY = Candidate(name="memory", storage="memory://", routing="round_robin")
REDIS = Candidate(name="redis", storage="redis://localhost")
POSTGRES = Candidate(name="postgres", storage="postgresql://localhost")
HYBRID = Candidate(name="hybrid", storage=EVENTUAL)
ALL = (MEMORY, REDIS, POSTGRES, HYBRID)
BUSY = {"memory": 0.0, "hybrid": 1e-6, "redis": 2e-6, "postgres": 3e-6}  # of the shared store, for a request
RECIPE = {"requests_per_second": 50, "keys": 20, "duration": "20s"}


def scenario(workload: dict[str, Any] = RECIPE, **deployment: Any) -> Scenario:
    return Scenario.of(
        {
            "workload": workload,
            "limit": {"rate": "10/second"},
            "deployment": {"nodes": 8, **deployment},
            "requirements": {"p99": "2ms", "max_over_admission": "1%"},
        }
    )


def cheapest(asked: Scenario, rows: list[Row]) -> str | None:
    """The first that meets the requirements, by what it asks of the shared store."""
    found = assess(pd.DataFrame(rows), asked.requirements, asked.deployment.nodes)
    passing = sorted((each.l2_busy_per_request, each.candidate) for each in found if each.passes)
    return passing[0][1] if passing else None


def world(**p99_or_over: Any) -> Any:
    """By candidate, a function of the job that gives figures; who is not named fails."""

    def row(job: Job) -> dict[str, Any]:
        name = job.candidate.name
        figures = p99_or_over[name](job) if name in p99_or_over else {"latency_p99": 9.0}
        return {"latency_p99": 1e-3, "over_admission": 0.0, "l2_busy_per_request": BUSY[name], **figures}

    return row


def fine(job: Job) -> dict[str, Any]:
    return {}


def found(
    asked: Scenario, rows: Any, chosen: str | None, contenders: tuple[Candidate, ...] = ALL, **options: Any
) -> tuple[dict[tuple[str, str], Flip], list[Job]]:
    flips, jobs = answered(sensitivity(asked, contenders, chosen, PROFILE, cheapest, asked.trace(), **options), rows)
    return {(each.assumption, each.direction): each for each in flips}, jobs


def rtt(job: Job) -> float:
    return job.scenario.deployment.rtt or 0.5e-3


def test_the_round_trip_at_which_another_is_better_is_found() -> None:
    by, jobs = found(scenario(), world(redis=lambda job: {"latency_p99": 1.5 * rtt(job)}, postgres=fine), "redis")
    up, down = by["round trip", "up"], by["round trip", "down"]
    assert up.value is not None
    assert up.keeps is not None
    assert up.keeps <= 2e-3 / 1.5 <= up.value <= 1.2 * up.keeps
    assert (up.today, up.to) == (0.5e-3, "postgres")
    assert up.sentence == f"From a round trip of {up.value * 1e3:.3g} ms on (0.5 ms today) postgres would be chosen."
    assert (down.value, down.to, down.looked) == (None, None, pytest.approx(0.5e-3 / 16))
    assert down.sentence == "Down to a round trip of 31.2 µs (0.5 ms today) the choice stays redis."
    others = {key for key in by if by[key].flips} - {("round trip", "up")}
    assert not others
    of_the_network = [job for job in jobs if job.scenario.deployment.rtt is not None]
    assert len(of_the_network) <= 3 * (4 + 3)  # both coarse steps each way, three halvings; memory has no network
    assert "memory" not in {job.candidate.name for job in of_the_network}


def test_the_service_time_at_which_another_is_better_is_found() -> None:
    today = PROFILE.backends["redis"].service(1, 0.5)

    def slow(job: Job) -> dict[str, Any]:
        return {"latency_p99": 1e-3 * job.profile.backends["redis"].service(1, 0.5) / today}

    by, jobs = found(scenario(), world(redis=slow, postgres=fine), "redis")
    up = by["service time of redis", "up"]
    assert up.value is not None
    assert up.keeps is not None
    assert up.keeps <= 2 * today <= up.value <= 1.2 * up.keeps
    assert up.to == "postgres"
    assert not by["service time of postgres", "up"].flips
    slower = [job for job in jobs if job.profile.backends["redis"] != PROFILE.backends["redis"]]
    assert {job.candidate.name for job in slower} == {"redis", "hybrid"}  # whom it concerns
    assert {job.candidate.name for job in jobs if job.profile.backends["postgres"] != PROFILE.backends["postgres"]} == {
        "postgres"
    }


def test_the_number_of_nodes_at_which_another_is_better_is_found() -> None:
    """Memory on one node or two is exact enough here, and costs nothing."""

    def near(job: Job) -> dict[str, Any]:
        return {"over_admission": 0.006 * (job.scenario.deployment.nodes - 1)}

    def far(job: Job) -> dict[str, Any]:
        return {"latency_p99": 1e-3 if job.scenario.deployment.nodes < 100 else 3e-3}

    by, _ = found(scenario(), world(memory=near, redis=far), "redis")
    down, up = by["nodes", "down"], by["nodes", "up"]
    assert (down.value, down.keeps, down.to) == (2, 3, "memory")
    assert down.sentence == "At 2 nodes or less (8 today) memory would be chosen."
    assert up.value is not None
    assert up.keeps is not None
    assert up.keeps < 100 <= up.value <= 1.2 * up.keeps
    assert up.to is None
    assert up.sentence.endswith("on (8 today) no candidate would meet all requirements.")


def test_a_single_instance_may_become_several_and_no_less() -> None:
    def near(job: Job) -> dict[str, Any]:
        return {"over_admission": 0.006 * (job.scenario.deployment.nodes - 1)}

    by, _ = found(scenario(type="single_instance", nodes=1), world(memory=near, redis=fine), "memory")
    up = by["nodes", "up"]
    assert (up.value, up.keeps, up.to) == (3, 2, "redis")
    assert ("nodes", "down") not in by


def test_the_sync_interval_of_the_choice_moves_with_the_life_of_its_views() -> None:
    def behind(job: Job) -> dict[str, Any]:
        hybrid = StorageURL.parse(job.candidate.storage).hybrid
        assert hybrid is not None
        assert hybrid.l1_ttl == hybrid.sync_interval
        assert hybrid.flush_batch == 64
        return {"over_admission": 0.025 * hybrid.sync_interval}

    by, _ = found(scenario(), world(hybrid=behind, redis=fine), "hybrid")
    up = by["sync interval", "up"]
    assert up.value is not None
    assert up.keeps is not None
    assert up.keeps <= 0.4 <= up.value <= 1.2 * up.keeps
    assert (up.today, up.to) == (0.1, "redis")
    assert not by["sync interval", "down"].flips


def test_a_life_of_views_that_is_another_stays() -> None:
    other = Candidate(name="hybrid", storage=EVENTUAL.replace("l1_ttl=0.1", "l1_ttl=5"))
    _, jobs = found(scenario(), world(hybrid=fine), "hybrid", (other, REDIS))
    assert {StorageURL.parse(job.candidate.storage).hybrid.l1_ttl for job in jobs if job.candidate.name == "hybrid"} == {5.0}  # type: ignore[union-attr]


def test_a_choice_without_an_interval_has_none_to_vary() -> None:
    by, jobs = found(scenario(), world(redis=fine), "redis")
    unvaried = by["sync interval", "none"]
    assert unvaried.sentence == "The sync interval was not varied: redis has none."
    assert not unvaried.flips
    assert {job.candidate.storage for job in jobs if job.candidate.name == "hybrid"} == {EVENTUAL}


def test_the_skew_of_a_recipe_is_its_exponent() -> None:
    def hot(job: Job) -> dict[str, Any]:
        return {"latency_p99": 1e-3 * job.scenario.workload.zipf}

    by, _ = found(scenario(), world(redis=hot, postgres=fine), "redis")
    up = by["skew", "up"]
    assert up.value is not None
    assert up.keeps is not None
    assert up.keeps <= 2 <= up.value <= 1.2 * up.keeps
    assert up.looked == 4.0
    assert "From a zipf exponent of 2" in up.sentence


def test_the_skew_of_a_hot_key_is_its_share_and_stays_below_all() -> None:
    recipe = {**RECIPE, "popularity": "hot_key", "hot_share": 0.3}

    def hot(job: Job) -> dict[str, Any]:
        assert job.scenario.workload.hot_share is not None
        return {"latency_p99": 1e-3 if job.scenario.workload.hot_share > 0.1 else 3e-3}

    by, _ = found(scenario(recipe), world(redis=hot), "redis")
    assert by["skew", "up"].looked == 0.9
    down = by["skew", "down"]
    assert down.value is not None
    assert down.keeps is not None
    assert down.value <= 0.1 <= down.keeps <= 1.2 * down.value


@pytest.mark.slow
def test_a_log_is_made_more_skewed_by_merging_keys_and_never_less() -> None:
    log = {"log": "traffic/data/apache_access_10k.log.gz", "key": "client"}

    def hot(job: Job) -> dict[str, Any]:
        return {"latency_p99": 1e-3 if (job.scenario.workload.top_share or 0) < 0.5 else 3e-3}

    by, jobs = found(scenario(log), world(redis=hot), "redis")
    up = by["skew", "up"]
    assert up.today is not None
    assert up.value is not None
    assert up.keeps is not None
    assert up.today == scenario(log).trace().summary()["top_key_share"] == pytest.approx(0.048, abs=0.001)
    tried = [job.scenario.workload.top_share for job in jobs if job.scenario.workload.top_share]
    flips = min(share for share in tried if share >= 0.5)
    own = next(job.scenario.trace().summary()["top_key_share"] for job in jobs if not job.scenario.workload.top_share)
    assert own > 2 * up.today  # the busiest stretch is busy for its busiest key
    # The same part of the others' requests is merged in all of the traffic as in the excerpt.
    assert (up.value - up.today) / (1 - up.today) == pytest.approx((flips - own) / (1 - own))
    assert up.sentence == (
        f"From a busiest key with {format_percent(up.value)} of the requests on (4.8 % today; on the excerpt from "
        f"{format_percent(own)} to {format_percent(flips)}) no candidate would meet all requirements."
    )
    assert ("skew", "down") not in by
    for job in jobs:
        if (asked := job.scenario.workload.top_share) is not None:
            assert job.scenario.trace().summary()["top_key_share"] == pytest.approx(asked, abs=0.02)


def test_the_share_of_the_busiest_key_is_that_of_all_of_the_traffic_and_says_what_the_excerpt_has() -> None:
    """Pure: 4.8 % of the whole, 22 % of its busiest stretch."""
    asked = scenario({**RECIPE, "popularity": "uniform"})
    skew = next(each for each in assumptions(asked, ALL, "redis", PROFILE, 0.048, 0.22) if each.name == "skew")
    assert isinstance(skew, Assumption)
    assert skew.today == skew.low == 0.048
    (today, all_of_it) = (skew.other(value, REDIS).fields["workload.top_share"] for value in (0.048, 1.0))
    assert (today, all_of_it) == (pytest.approx(0.22), 1.0)
    assert skew.told(0.524) == (
        "a busiest key with 52 % of the requests",
        "4.8 % today; on the excerpt from 22 % to 61 %",
    )
    same = next(each for each in assumptions(asked, ALL, "redis", PROFILE, 0.22, 0.22) if each.name == "skew")
    assert isinstance(same, Assumption)
    assert same.told(0.61)[1] == "22 % today"
    assert same.told(0.2204) == ("a busiest key with 22.04 % of the requests", "22 % today")


def test_of_a_closed_loop_the_skew_is_not_varied() -> None:
    loop = {"keys": 20, "duration": "20s", "clients": {"users": 50}}
    by, _ = found(scenario(loop), world(redis=fine), "redis")
    assert by["skew", "none"].sentence == "The skew was not varied: the users of a closed loop share its keys evenly."


def test_without_a_shared_store_there_is_no_network_to_vary() -> None:
    by, _ = found(scenario(), world(memory=fine), "memory", (MEMORY,))
    for name in ("round trip", "service time"):
        assert by[name, "none"].sentence.endswith("no contender has a shared store.")


def test_where_the_excerpt_speaks_for_another_every_sentence_says_so() -> None:
    by, _ = found(scenario(), world(redis=fine, postgres=fine), "postgres")
    said = "In one run, without faults, the evidence speaks for redis today, not for postgres."
    assert all(flip.sentence.endswith(said) for (_, direction), flip in by.items() if direction != "none")
    by, _ = found(scenario(), world(redis=fine, postgres=fine), None)
    said = "the evidence speaks for redis today, although nobody is chosen on all of the traffic."
    assert all(flip.sentence.endswith(said) for (_, direction), flip in by.items() if direction != "none")


def test_where_nobody_is_chosen_it_is_told_what_would_let_one_pass() -> None:
    by, _ = found(scenario(), world(redis=lambda job: {"latency_p99": 5.0 * rtt(job)}), None)
    down = by["round trip", "down"]
    assert down.value is not None
    assert down.keeps is not None
    assert down.value <= 0.4e-3 <= down.keeps <= 1.2 * down.value
    assert down.to == "redis"
    assert by["round trip", "up"].sentence == "Up to a round trip of 8 ms (0.5 ms today) nobody is chosen either."
    assert by["sync interval", "none"].sentence == "The sync interval was not varied: no candidate is chosen."


def test_runs_are_short_and_without_faults_and_of_every_seed() -> None:
    busy = scenario({**RECIPE, "requests_per_second": 5000}).model_dump(mode="json", exclude_unset=True)
    asked = Scenario.of(busy | {"faults": [{"kind": "crash", "start": 1, "duration": 5}]})
    _, jobs = found(asked, world(redis=fine), "redis", requests=1000, seeds=2)
    assert {job.seed for job in jobs} == {1, 2}
    for job in jobs[:8]:
        assert not job.scenario.faults
        assert len(job.scenario.trace(job.seed)) <= 2200


@pytest.mark.slow
def test_a_real_choice_has_real_flips() -> None:
    """Against memory that nobody shares, and a hybrid that is late: at 1 node, and at longer ways, it is another's turn."""
    asked = scenario({"requests_per_second": 200, "keys": 10, "duration": "4s"})
    contenders = (MEMORY, REDIS)

    def ask(**options: Any) -> Any:
        inquiry = sensitivity(asked, contenders, "redis", PROFILE, cheapest, asked.trace(), requests=300)
        return run_adaptive(inquiry, processes=1, **options)

    result = ask()
    by = {(each.assumption, each.direction): each for each in result.result}
    down = by["nodes", "down"]
    assert down.value is not None
    assert 1 <= down.value < 8
    assert down.to == "memory"  # one node alone is exact
    up = by["round trip", "up"]
    assert up.value is not None
    assert 0.5e-3 < up.value < 2e-3  # the 99th percentile of a round trip is more than itself
    assert up.to is None

    def again(done: int, total: int, what: str) -> None:
        pytest.fail(f"{what} was run again")

    assert ask(known=result.rows, progress=again).result == result.result
