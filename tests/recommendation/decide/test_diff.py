"""Two recommendations, and what of their difference is noise."""

from __future__ import annotations

import copy
import json

import pytest

from ratesim.recommendation.decide.diff import DiffError, diff, load, text


def figure(mean, half=0.0, seeds=3):
    return {"mean": mean, "low": max(mean - half, 0.0), "high": mean + half, "seeds": seeds}


def candidate(name, p99, half=0.0, over=0.0, verdict="passes", cost=60.0):
    checks = [{"requirement": "p99", "verdict": verdict}]
    none = figure(0.0)
    return {
        "candidate": name,
        "p99": figure(p99, half),
        "over_admission": figure(over),
        "worst_excess": none,
        "false_denial": none,
        "checks": checks,
        "cost": cost,
    }


BEFORE = {
    "schema_version": 3,
    "scenario": "shop",
    "limit": "10/minute, gcra",
    "currency": "USD",
    "deployment": {"nodes": 8},
    "traffic": {"requests": 1000.0},
    "requirements": {"p99": 0.002, "persistence": "none"},
    "choice": "redis",
    "assessments": [candidate("redis", 1.0e-3, 0.1e-3), candidate("memory", 3e-6, over=0.2, verdict="fails")],
}


def changed(**of_redis):
    after = copy.deepcopy(BEFORE)
    after["assessments"][0] |= of_redis
    return after


def test_the_same_twice_differs_in_nothing():
    found = diff(BEFORE, BEFORE)
    assert not found.has_changed
    assert text(found) == "The choice is still redis.\nNo figure moved."


def test_what_is_in_force_is_the_contender_that_is_the_same():
    of = {"storage": "redis://localhost", "routing": "round_robin", "algorithm": "gcra"}
    before, after = changed(**of), changed(**of, candidate="in force") | {"choice": "in force"}
    assert text(diff(before, after)) == text(diff(after, before)) == "The choice is still redis.\nNo figure moved."
    other = changed(**of | {"storage": "redis://localhost?pool_size=2"}, candidate="in force") | {"choice": "in force"}
    assert diff(before, other).choice == ("redis", "in force")


@pytest.mark.parametrize(("mean", "noise"), [(1.1e-3, True), (1.14e-3, True), (1.15e-3, False)])
def test_a_figure_within_the_interval_of_a_difference_is_noise(mean, noise):
    (move,) = diff(BEFORE, changed(p99=figure(mean, 0.1e-3))).changes  # sqrt(2) * 0.1 ms apart at most
    assert (move.what, move.noise) == ("p99", noise)


def test_of_one_seed_nothing_is_known_to_have_moved():
    (move,) = diff(BEFORE, changed(p99=figure(9e-3, 0.0, seeds=1))).changes
    assert move.noise


def test_an_exact_figure_that_changes_at_all_has_moved():
    (move,) = diff(BEFORE, changed(over_admission=figure(1e-9))).changes
    assert not move.noise
    assert (move.before, move.after) == ("exactly 0", "less than 0.001 %")


def test_two_figures_that_differ_are_told_with_as_many_digits_as_tell_them_apart():
    (move,) = diff(BEFORE, changed(p99=figure(1.0004e-3, 0.1e-3))).changes
    assert (move.before, move.after) == ("1 ms", "1.0004 ms")
    line = text(diff(BEFORE, changed(p99=figure(1.0004e-3, 1e-9)))).splitlines()[1]
    assert line == "redis: p99 moved, within noise, from 1 ms to 1.0004 ms."


def test_a_difference_that_no_digit_shows_is_not_told():
    found = diff(BEFORE, changed(p99=figure(1.0000000004e-3)))
    assert found.changes == ()
    assert not found.has_changed


def test_another_choice_a_verdict_a_cost_and_what_was_asked_are_told():
    after = changed(checks=[{"requirement": "p99", "verdict": "fails"}], cost=90.0)
    after |= {"choice": "postgres", "requirements": {"p99": 0.001, "persistence": "none"}}
    after["assessments"].append(candidate("postgres", 2e-3))
    found = diff(BEFORE, after)
    assert found.has_changed
    said = text(found).splitlines()
    assert said[0] == "The choice moved: redis before, postgres after."
    assert "The question changed: required p99: 0.002 before, 0.001 after." in said
    assert "Only in the second: postgres." in said
    assert "redis: verdict moved, from passes to fails." in said
    assert "redis: cost moved, from 60.00 USD a month to 90.00 USD a month." in said


def test_costs_in_another_currency_are_not_compared_and_other_nodes_are_told():
    found = diff(BEFORE, changed(cost=9000.0) | {"currency": "JPY", "deployment": {"nodes": 3}})
    assert found.changes == ()
    assert found.question == ("currency: USD before, JPY after", "nodes: 8 before, 3 after")


def test_a_candidate_that_gives_no_answer_any_more_has_moved():
    gone = {"mean": None, "low": None, "high": None, "seeds": 3}
    (move,) = diff(BEFORE, changed(p99=gone)).changes
    assert not move.noise
    assert move.after == "none"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is no JSON"),
        ("[]", "is no recommendation"),
        ('{"choice": null}', "is no recommendation"),
        (json.dumps(BEFORE | {"schema_version": 99}), "has version 99, and this is 3"),
        (
            json.dumps({key: value for key, value in BEFORE.items() if key != "traffic"}),
            "Object missing required field `traffic`",
        ),
        (
            json.dumps(BEFORE | {"assessments": [{"candidate": "redis"}]}),
            r"Object missing required field `p99` - at `\$.assessments\[0\]`",
        ),
    ],
)
def test_a_file_that_is_none_is_named(tmp_path, content, said):
    file = tmp_path / "recommendation.json"
    file.write_text(content)
    with pytest.raises(DiffError, match=f"recommendation.json: {said}"):
        load(file)
    with pytest.raises(DiffError, match="cannot be read"):
        load(tmp_path / "missing.json")
