"""Rejected candidates in a dozen rows: by family and reason, with the ranges of their figures."""

from __future__ import annotations

from dataclasses import replace

from made_assessments import an_assessment

from ratesim.recommendation.assess.assessment import Check, Interval
from ratesim.recommendation.decide.rejection_groups import rejection_groups

EVENTUAL = "hybrid+redis://h?consistency=eventual"


def a_miss(requirement: str, label: str, measured: str, verdict: str = "fails") -> Check:
    return Check(requirement, label, verdict, measured, measured, "1 % allowed", violation=1.0)


def eventual(number: int, over: float, **changes):
    check = a_miss("max_over_admission", "over-admission", f"over-admission {over}")
    found = an_assessment(f"eventual {number}", EVENTUAL, checks=(check,), backend="hybrid", **changes)
    return replace(found, over_admission=Interval(over, over, over, 1))


def test_a_family_with_one_reason_is_one_row_with_the_range_of_the_figure_that_is_missed():
    (group,) = rejection_groups([eventual(number, 0.02 * number) for number in (2, 1, 4)], None, "USD")
    assert group.family == "hybrid, eventual over Redis"
    assert group.candidates == ("eventual 2", "eventual 1", "eventual 4")
    assert group.reason == "fails over-admission (1 % allowed)"
    assert group.figures == "over-admission 2 to 8 %"


def test_two_reasons_of_a_family_are_two_rows_and_the_larger_comes_first():
    late = an_assessment("late", EVENTUAL, p99=0.02, checks=(a_miss("p99", "p99", "p99 20 ms"),), backend="hybrid")
    groups = rejection_groups([late, eventual(1, 0.02), eventual(2, 0.03)], None, "USD")
    assert [(len(each.candidates), each.figures) for each in groups] == [(2, "over-admission 2 to 3 %"), (1, "p99 20 ms")]


def test_those_that_pass_are_held_against_the_choice_by_what_is_preferred():
    chosen, dear = an_assessment(), an_assessment("postgres", "postgresql://h", cost=88.0, backend="postgres")
    (group,) = rejection_groups([dear], chosen, "USD")
    assert (group.reason, group.figures) == ("passes, but costs more", "88 USD a month")
    (group,) = rejection_groups([dear], chosen, "USD", "simplicity")
    assert (group.reason, group.figures) == ("passes, but has more moving parts", "moving parts 3")


def test_some_that_are_too_close_and_some_that_fail_are_said_to_be_both():
    close = replace(eventual(1, 0.011), checks=(a_miss("max_over_admission", "over-admission", "", "too close to call"),))
    (alone,), (both,) = (rejection_groups(each, None, "USD") for each in ([close], [close, eventual(2, 0.02)]))
    assert alone.reason.startswith("is not shown to meet over-admission")
    assert both.reason.startswith("fails or is too close on over-admission")


def test_what_is_no_number_is_named():
    lost = an_assessment(
        "memory", "memory://", backend="memory", checks=(a_miss("persistence", "persistence", "no persistence"),)
    )
    assert rejection_groups([lost], None, "USD")[0].figures == "no persistence"


def test_there_are_never_more_rows_than_asked_for_and_every_candidate_is_in_one():
    many = [
        an_assessment(
            f"{requirement} {storage}", storage, backend=storage.partition("+")[0].partition(":")[0], checks=(miss,)
        )
        for storage in (
            "memory://",
            "redis://h",
            "postgresql://h",
            EVENTUAL,
            f"hybrid+{EVENTUAL[7:]}",
            "hybrid+postgresql://h",
        )
        for requirement in ("p99", "max_over_admission", "max_false_denial", "max_worst_excess", "persistence")
        for miss in [a_miss(requirement, requirement, "little")]
    ]
    for rows in (12, 4):
        groups = rejection_groups(many, None, "USD", rows=rows)
        assert len(groups) <= rows
        assert sorted(name for each in groups for name in each.candidates) == sorted(each.candidate for each in many)
    assert groups[-1].family == "others"
    assert rejection_groups([], None, "USD") == ()


def test_a_share_that_is_just_above_the_allowed_one_does_not_read_as_it():
    (group,) = rejection_groups([eventual(1, 0.0103), eventual(2, 0.58)], None, "USD", "cost")
    assert group.figures == "over-admission 1.03 to 58 %"
