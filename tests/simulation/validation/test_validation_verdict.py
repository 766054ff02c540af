"""The verdict of a validation, on ratios whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from ratesim.simulation.cost_model.profile import ModelError
from ratesim.simulation.validation.verdict import FULL, LATENCIES, LEAST_ROUNDS, Verdict, estimate, judge, merge_errors

LOADS = (0.1, 0.3, 0.6, 0.85)


def rounds(centers: dict[float, float], number: int = 20, spread: float = 0.05, seed: int = 1) -> Verdict:
    """Judge ratios that lie around one center at each load; the throughput is right."""
    rng = np.random.default_rng(seed)
    ratios = {
        load: {name: center * np.exp(spread * rng.standard_normal(number)) for name in LATENCIES}
        for load, center in centers.items()
    }
    return judged(ratios, np.exp(0.02 * rng.standard_normal(number)))


def judged(ratios, throughput) -> Verdict:
    """Judge redis where a part is as busy as the load says."""
    return judge("redis", ratios, throughput, {load: load for load in ratios})


def test_a_right_model_is_within_up_to_the_highest_load():
    verdict = rounds(dict.fromkeys(LOADS, 1.0))
    assert all(each.is_within for each in verdict.loads)
    assert [each.utilization for each in verdict.errors] == list(LOADS)
    assert all(0 < each.p50 < 0.08 and each.rounds == 20 for each in verdict.errors)
    assert verdict.describe().startswith("redis: p50 within ")
    assert "up to 85 % of capacity; throughput within " in verdict.describe()
    assert verdict.describe().endswith(" % at saturation")


@pytest.mark.parametrize(("factor", "error"), [(1.3, 0.3), (0.75, 1 / 0.75 - 1)])
def test_a_wrong_model_has_its_error_and_direction(factor, error):
    verdict = rounds(dict.fromkeys(LOADS, factor), spread=0.02)
    assert not any(each.is_within for each in verdict.loads)
    assert [each.p95 for each in verdict.errors] == pytest.approx([error] * len(LOADS), abs=0.04)
    assert all(each.p95 >= error - 0.01 for each in verdict.errors)  # the end of the interval, not its middle
    assert ("too high" if factor > 1 else "too low") in verdict.describe()
    assert "up to" not in verdict.describe()


def test_it_is_within_up_to_the_load_at_which_it_begins_to_miss():
    verdict = rounds({0.1: 1.0, 0.3: 1.02, 0.6: 0.97, 0.85: 0.75}, spread=0.03)
    said = verdict.describe()
    assert "up to 60 % of capacity; at 85 %: simulated over measured p50 0.7" in said
    assert [each.utilization for each in verdict.errors] == list(LOADS)
    assert verdict.errors[-1].p50 == pytest.approx(1 / 0.75 - 1, abs=0.05)


def test_a_measured_figure_is_within_the_stated_error_of_the_simulated_one():
    """Whatever the direction of the miss: simulated * (1 - error) <= measured <= simulated * (1 + error)."""
    for factor in (0.7, 0.9, 1.1, 1.4):
        figure = estimate(np.full(10, factor), 0.15)
        assert factor * (1 - figure.error) <= 1.0 + 1e-12
        assert factor * (1 + figure.error) >= 1.0 - 1e-12


def test_too_few_rounds_cannot_tell():
    few = rounds(dict.fromkeys(LOADS, 1.0), number=LEAST_ROUNDS - 1)
    assert few.errors == ()
    because = "cannot tell, 5 rounds kept where 6 are needed"
    assert few.describe() == f"redis: at 10 %, 30 %, 60 %, 85 %: {because}; at saturation: {because}"
    none = judged({0.1: dict.fromkeys(LATENCIES, ())}, ())
    assert none.errors == ()
    assert "cannot tell, 0 rounds" in none.describe()


def test_rounds_that_are_too_far_apart_cannot_tell():
    """A neighbor halves the speed in half of the rounds, and no covariate shows it."""
    ratios = np.array([1.0, 0.5] * 10)
    verdict = judged(dict.fromkeys(LOADS, dict.fromkeys(LATENCIES, ratios)), ratios)
    assert verdict.errors == ()
    assert "cannot tell, the rounds are too far apart (p50 0.75" in verdict.describe()
    assert "at saturation: cannot tell, the rounds are too far apart (throughput 0.75" in verdict.describe()


def test_nothing_is_said_beyond_a_load_that_cannot_be_told():
    known = dict.fromkeys(LATENCIES, np.ones(10))
    verdict = judged({0.1: known, 0.3: dict.fromkeys(LATENCIES, np.ones(2)), 0.6: known}, np.ones(10))
    assert [each.utilization for each in verdict.errors] == [0.1]
    assert "up to 10 % of capacity; at 30 %: cannot tell" in verdict.describe()


def test_errors_never_shrink_with_the_load_and_end_where_they_are_no_statement():
    verdict = rounds({0.1: 1.2, 0.3: 1.0, 0.6: 1.0, 0.85: 0.4}, spread=0.01)
    assert [each.utilization for each in verdict.errors] == [0.1, 0.3, 0.6]
    assert [each.p50 for each in verdict.errors] == pytest.approx([0.2] * 3, abs=0.02)


def test_a_throughput_that_is_off_is_said_beside_latencies_that_are_not():
    latencies = dict.fromkeys(LOADS, dict.fromkeys(LATENCIES, np.ones(10)))
    high = judged(latencies, np.full(10, 1.2))
    assert "up to 85 % of capacity; at saturation: simulated over measured throughput 1.20" in high.describe()
    assert [each.throughput for each in high.errors] == pytest.approx([0.2] * len(LOADS))
    assert judged(latencies, np.ones(3)).errors == ()


def test_errors_are_stored_by_utilization_as_far_as_it_tells_loads_apart():
    figures = {load: dict.fromkeys(LATENCIES, np.full(10, 1.0 + load / 10)) for load in LOADS}
    verdict = judge("redis", figures, np.ones(10), {0.1: 0.4, 0.3: 0.83, 0.6: 0.997, 0.85: 1.001})
    assert [each.utilization for each in verdict.errors] == [0.4, 0.83, FULL]
    assert [each.p50 for each in verdict.errors] == pytest.approx([0.01, 0.03, 0.06])


def test_the_same_rounds_give_the_same_verdict_in_any_order():
    values = np.exp(0.1 * np.random.default_rng(3).standard_normal(20))
    assert estimate(values, 0.15) == estimate(values, 0.15)
    turned = estimate(values[::-1], 0.15)
    assert (turned.ratio, turned.low, turned.high) == pytest.approx(
        (estimate(values, 0.15).ratio, estimate(values, 0.15).low, estimate(values, 0.15).high), abs=0.03
    )


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(5)
    found = [estimate(np.exp(0.2 * rng.standard_normal(20)), 0.15) for _ in range(200)]
    assert 0.82 < np.mean([each.low <= 1.0 <= each.high for each in found]) <= 1.0


def test_the_errors_of_a_backend_are_the_worst_of_its_configurations():
    def of(utilization: float, error: float, rounds: int) -> ModelError:
        return ModelError(utilization=utilization, p50=error, p95=error, p99=error, throughput=0.01, rounds=rounds)

    durable, off = (of(0.2, 0.1, 20), of(0.4, 0.2, 20)), (of(0.1, 0.05, 12), of(0.3, 0.18, 20), of(0.6, 0.3, 20))
    assert merge_errors([durable, off]) == (of(0.1, 0.1, 12), of(0.2, 0.18, 20), of(0.3, 0.2, 20), of(0.4, 0.3, 20))
    assert merge_errors([off, durable]) == merge_errors([durable, off])
    assert merge_errors([durable, ()]) == ()
    assert merge_errors([off]) == off
