"""What another preference would choose, and what that gains and loses in numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from made_assessments import an_assessment

from ratesim.recommendation import recommend
from ratesim.recommendation.assess.assessment import Check, Interval
from ratesim.recommendation.assess.pareto import best, moving_parts, parts
from ratesim.recommendation.assess.rejections import rejection_reason
from ratesim.recommendation.decide.alternatives import other_preferences
from ratesim.recommendation.decide.markdown import markdown, plain
from ratesim.recommendation.decide.verdict import use
from ratesim.recommendation.investigate.study import study
from ratesim.simulation.scenario.scenario import Scenario

STRONG = "hybrid+redis://h?consistency=strong&write=write_through"
PARTS = "2 more moving parts (a circuit breaker in each node, a fallback in each node)"


def of(value: float) -> Interval:
    return Interval(value, value, value, 3)


def redis(**changes):
    return an_assessment("redis", p99=1.72e-3, blast_radius=1.0, **changes)


def strong(**changes):
    return an_assessment("hybrid strong", STRONG, p99=1.78e-3, **{"blast_radius": 0.4, "backend": "hybrid"} | changes)


def test_the_safer_choice_is_told_with_what_it_gains_and_what_it_loses():
    safety, simplicity = other_preferences([redis(), strong()], "cost", "USD")
    assert safety.sentence == (
        "With `--prefer safety` hybrid strong would be chosen: blast radius 40 % instead of 100 %, at the same cost; in "
        f"exchange for p99 1.78 ms instead of 1.72 ms, {PARTS}."
    )
    assert (safety.prefer, safety.choice) == ("safety", "hybrid strong")
    assert simplicity.sentence == "With `--prefer simplicity` the choice stays redis."


def test_each_alternative_is_what_that_preference_chooses():
    dear = an_assessment("postgres", "postgresql://h", cost=90.0, blast_radius=0.2, backend="postgres")
    cheap = strong(cost=30.0)
    candidates = [redis(), cheap, dear]
    chosen = {prefer: best(candidates, prefer).candidate for prefer in ("cost", "safety", "simplicity")}
    assert chosen == {"cost": "hybrid strong", "safety": "postgres", "simplicity": "redis"}
    for prefer in chosen:
        others = {each.prefer: each.choice for each in other_preferences(candidates, prefer, "USD")}
        assert others == {other: name for other, name in chosen.items() if other != prefer}
    told = next(each for each in other_preferences(candidates, "cost", "USD") if each.prefer == "safety")
    assert "90 USD a month instead of 30 USD a month" in told.sentence


def test_a_change_that_both_choices_need_is_neither_gained_nor_lost():
    routing, algorithm = "the routing from round_robin to sticky", "the algorithm from sliding_window to gcra"
    needed = {"redis": (routing, algorithm), "hybrid strong": (algorithm, "the clients")}
    safety, _ = other_preferences([redis(), strong()], "cost", "USD", lambda each: needed[each.candidate])
    gained, _, lost = safety.sentence.partition("; in exchange for ")
    assert f"no change of {routing}" in gained
    assert lost.endswith("a change of the clients.")
    assert algorithm not in safety.sentence


def test_a_smaller_blast_radius_that_counts_as_the_same_is_named():
    choice = replace(redis(), blast_radius=0.074)
    near = strong(blast_radius=0.056, over_admission=of(0.0027))
    safety, _ = other_preferences([choice, near, replace(near, candidate="other", blast_radius=0.06)], "cost", "USD")
    assert safety.sentence == (
        "With `--prefer safety` the choice stays redis. The blast radius of hybrid strong, 5.6 % instead of 7.4 %, counts "
        "as the same: it is compared in steps of 5 %."
    )


def test_what_is_noise_does_not_decide_what_is_safer():
    near = strong(blast_radius=0.98)
    assert best([redis(), near], "safety").candidate == "redis"
    worse = replace(strong(blast_radius=0.4), over_admission=of(0.2))
    assert best([redis(), worse], "safety").candidate == "hybrid strong"
    one, other = (replace(redis(), candidate=name, over_admission=of(over)) for name, over in (("a", 0.0204), ("b", 0.0001)))
    assert best([one, other], "safety").candidate == "b"
    fuller, emptier = (replace(redis(), candidate=n, worst_excess=of(w)) for n, w in (("full", 0.9), ("less", 0.3)))
    assert best([fuller, emptier], "safety").candidate == "less"


def test_a_blast_radius_that_was_not_tried_is_not_safe():
    assert best([strong(blast_radius=None, cost=1.0), redis()], "safety").candidate == "redis"


def test_a_change_beside_the_storage_is_a_loss():
    safety, _ = other_preferences(
        [redis(), strong()], "cost", "USD", lambda each: ("the routing from a to b",) * (each.candidate != "redis")
    )
    assert safety.sentence.endswith(f"{PARTS}, a change of the routing from a to b.")


def test_a_candidate_that_is_too_close_to_call_and_would_come_first_is_named():
    check = Check("p99", "p99", "too close to call", "", "", "2 ms allowed")
    safety, _ = other_preferences([redis(), strong(checks=(check,))], "cost", "USD")
    assert safety.sentence == (
        "With `--prefer safety` the choice stays redis. hybrid strong would come before it, and is too close to call."
    )


def test_without_a_choice_there_are_no_alternatives():
    check = Check("p99", "p99", "fails", "", "", "2 ms allowed")
    assert other_preferences([redis(checks=(check,))], "cost", "USD") == ()


@pytest.mark.parametrize(
    ("prefer", "said"),
    [
        ("cost", "the simplest of the 2 that pass at that cost."),
        ("safety", "the safest of the 2 contenders that pass, with the least blast radius."),
        ("simplicity", "the simplest of the 2 contenders that pass, with the fewest moving parts."),
    ],
)
def test_the_verdict_says_in_what_the_choice_comes_first(prefer, said):
    candidates = [redis(), strong()]
    assert use(best(candidates, prefer), candidates, "USD", prefer=prefer).endswith(said)


def test_why_another_one_was_rejected_follows_the_preference():
    assert rejection_reason(redis(), strong(), "USD", "safety") == (
        "passes, but has a larger blast radius: 100 % against 40 %"
    )
    assert rejection_reason(strong(), redis(), "USD", "simplicity") == f"passes, but has {PARTS} than redis"


def test_parts_are_counted_by_their_names():
    assert moving_parts(an_assessment("memory", "memory://", topology="none")) == ()
    assert moving_parts(an_assessment("memory, sticky", "memory://", routing="sticky")) == ("sticky routing",)
    session = an_assessment("s", "hybrid+redis://h?consistency=session&write=write_behind&read=refresh_ahead")
    assert moving_parts(session) == (
        "a Redis server",
        "connections of each node to it",
        "a circuit breaker in each node",
        "a fallback in each node",
        "views of the store in each node",
        "a queue of writes",
        "its flush loop",
        "background reads",
        "tokens that clients return",
    )


@pytest.mark.slow
def test_what_an_alternative_names_is_chosen_with_that_preference(tmp_path):
    workload = {"requests_per_second": 20, "keys": 10, "duration": 60}
    candidates = [
        {"name": "redis", "storage": "redis://localhost"},
        {"name": "strong", "storage": "hybrid+redis://localhost?consistency=strong&write=write_through"},
        {"name": "eventual", "storage": "hybrid+redis://localhost?sync_interval=0.1&l1_ttl=0.1"},
    ]
    asked = {"workload": workload, "limit": {"rate": "10/second"}, "deployment": {"nodes": 4}, "replications": 2}
    found = {}
    for prefer in ("cost", "safety", "simplicity"):
        requirements = {"max_over_admission": "50%", "prefer": prefer}
        scenario = Scenario.of({**asked, "candidates": candidates, "requirements": requirements})
        found[prefer] = recommend(study(scenario, live=False, beyond=False, runs=tmp_path, processes=1))
    assert found["safety"].choice != found["simplicity"].choice == "redis"
    for prefer, recommendation in found.items():
        others = {each.prefer: each.choice for each in recommendation.alternatives}
        assert others == {other: found[other].choice for other in found if other != prefer}
    text = markdown(found["cost"])
    assert all(plain(each.sentence) in text for each in found["cost"].alternatives)
    assert all(
        len(each) == parts(one)
        for each, one in zip(found["cost"].moving_parts.values(), found["cost"].assessments, strict=True)
    )
