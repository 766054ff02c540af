"""Over-admission, which the storage adds, beside the busiest window, which the algorithm may allow."""

from __future__ import annotations

import math

import numpy as np
import pytest
from test_recommendation import REDIS, assessed, rows

from ratesim.limit import Limit
from ratesim.recommendation.assess.assessment import student_interval
from ratesim.recommendation.assess.rejections import rejection_reason, relaxations
from ratesim.recommendation.decide.verdict import algorithm_note, figures, numbers, use
from ratesim.simulation.analysis.limit_pressure import limit_pressure
from ratesim.simulation.results.accuracy import measure_accuracy
from ratesim.simulation.results.oracle import exact_trace
from traffic import Trace


def with_windows(table, *excess):
    return [{**row, "worst_excess": value} for row, value in zip(table, excess, strict=True)]


def the(table, **requirements):
    (found,) = assessed(table, **requirements)
    return found


EXACT = with_windows(REDIS, 0.3, 0.3, 0.3)


def test_an_exact_storage_is_told_from_an_algorithm_that_exceeds_the_limit():
    found = the(EXACT, p99="2ms", max_over_admission="1%")
    assert use(found, [found], "USD", 0.3).startswith(
        "Use redis: p99 1.05 ms (2 ms allowed), no over-admission (1 % allowed) added to an exact sliding_window, busiest "
        "window 1.30 x the limit (as sliding_window itself allows), at "
    )
    _, added, busiest, _ = numbers(found, "USD", "yours", 0.3)
    assert (added.value, added.what) == ("exactly 0", "added by the storage to an exact sliding_window")
    assert (busiest.value, busiest.what, busiest.against) == (
        "1.30 x the limit",
        "in the busiest window",
        "as sliding_window itself allows",
    )


def test_a_storage_that_adds_something_is_set_beside_the_algorithm():
    found = the(with_windows(rows("hybrid", [1e-3] * 3, 0.004), 0.5, 0.5, 0.5), max_over_admission="1%")
    assert figures(found, 0.3).endswith("1.50 x the limit (where sliding_window itself allows 1.30 x the limit)")
    assert figures(found, 0.501).endswith("busiest window 1.50 x the limit (as sliding_window itself allows)")
    assert figures(found).endswith("busiest window 1.50 x the limit")


def test_a_window_within_the_limit_needs_no_excuse():
    found = the(with_windows(REDIS, -0.1, -0.1, -0.1))
    assert figures(found, -0.1).endswith("busiest window 0.90 x the limit")


@pytest.mark.parametrize(("allowed", "verdict"), [("50%", "passes"), ("30%", "passes"), ("29%", "fails"), (0, "fails")])
def test_the_busiest_window_is_a_requirement_of_its_own(allowed, verdict):
    found = the(EXACT, max_over_admission=0, max_worst_excess=allowed)
    by_name = {check.requirement: check.verdict for check in found.checks}
    assert by_name["max_worst_excess"] == verdict
    assert by_name["max_over_admission"] == "passes"


def test_a_busiest_window_that_varies_is_too_close_to_call_and_may_be_below_the_limit():
    found = the(with_windows(REDIS, 0.1, 0.2, 0.3), max_worst_excess="20%")
    assert [check.undecided_by for check in found.missed] == ["seeds"]
    below = student_interval([-0.5, -0.4, -0.6], least=-1.0)
    assert below.low < below.mean < below.high < 0


def test_a_busiest_window_is_a_reason_and_what_would_let_it_pass_is_said():
    found = the(EXACT, max_worst_excess="20%")
    assert rejection_reason(found, None, "USD") == (
        "fails busiest window: busiest window 1.30 x the limit (1.20 x the limit allowed)"
    )
    (relaxed,) = relaxations([found])
    assert (relaxed.requirement, relaxed.to) == ("max_worst_excess", "1.30 x the limit")


def test_a_figure_that_misses_its_threshold_by_little_does_not_read_as_the_threshold():
    table = with_windows(rows("hybrid", [2.0004e-3] * 3, 0.0103), 0.304, 0.304, 0.304)
    missed = the(table, p99="2ms", max_over_admission="1%", max_worst_excess="30%").missed
    assert {f"{each.evidence} ({each.required})" for each in missed} == {
        "p99 2.0004 ms (2 ms allowed)",
        "over-admission 1.03 % (1 % allowed)",
        "busiest window 1.304 x the limit (1.30 x the limit allowed)",
    }
    assert "within 1.300 x the limit by fixed_window: an exact limiter itself reaches 1.304 x" in algorithm_note(
        0.3, "fixed_window", 0.304
    )


def test_an_exact_window_at_the_limit_leaves_nothing_narrow():
    (check,) = (each for each in the(REDIS, max_worst_excess=0).checks if each.requirement == "max_worst_excess")
    assert (check.verdict, check.margin) == ("passes", math.inf)


def test_a_limit_that_its_own_algorithm_exceeds_is_no_matter_of_the_storage():
    said = algorithm_note(0.2, "sliding_window", 0.3)
    assert said.startswith("No storage keeps the busiest window within 1.20 x the limit by sliding_window: an exact limiter")
    assert "itself reaches 1.30 x the limit" in said
    assert algorithm_note(0.3, "sliding_window", 0.3) == algorithm_note(None, "sliding_window", 0.3) == ""
    assert algorithm_note(0.3, "sliding_window", math.nan) == ""


@pytest.mark.parametrize("algorithm", ["fixed_window", "sliding_window", "sliding_log", "token_bucket"])
def test_what_the_algorithm_allows_is_measured_on_an_exact_limiter(algorithm):
    rng = np.random.default_rng(3)
    herds = 120.0 * rng.integers(1, 6, 2000) + rng.normal(0, 5, 2000)  # around edges of windows
    trace = Trace(np.sort(herds), rng.integers(0, 3, 2000), list("abc"))
    limit = Limit.parse("50/minute", algorithm)
    found = limit_pressure(limit, trace, 30.0).exact_worst_excess
    admitted = exact_trace(limit, trace)
    own = measure_accuracy(limit, trace.key, trace.time, trace.cost, admitted, since=trace.time[0] + 30.0)
    assert found == own.worst_excess
    reached = {"fixed_window": (0.9, 1.0), "token_bucket": (0.1, 1.0), "sliding_log": (0.0, 0.0)}
    low, high = reached.get(algorithm, (0.0, 1.0))
    assert low <= found <= high
