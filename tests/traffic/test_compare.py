import numpy as np
import pytest
from matplotlib import pyplot

from traffic import OnOff, PerKey, Poisson, Trace, TraceError, Workload, Zipf, compare
from traffic.bursts import kolmogorov, preceding

TRACE = Workload(Poisson(20.0), Zipf(30), 100.0).trace(np.random.default_rng(1))


def test_kolmogorov_is_the_largest_difference_of_shares() -> None:
    assert kolmogorov(np.array([1.0, 2.0, 3.0, 4.0]), np.array([3.0, 4.0, 5.0, 6.0])) == 0.5
    assert kolmogorov(np.array([1.0]), np.array([2.0])) == 1.0
    assert kolmogorov(TRACE.time, TRACE.time) == 0.0


def test_the_window_before_a_request_holds_the_cost_of_its_key() -> None:
    trace = Trace([0.0, 0.5, 1.0, 1.2, 9.0], [0, 1, 0, 0, 1], ["a", "b"], cost=[1.0, 5.0, 2.0, 3.0, 7.0])
    assert preceding(trace, 1.0).tolist() == [1.0, 2.0, 5.0, 5.0, 7.0]  # a window is open at its beginning
    assert preceding(trace, 1.1).tolist() == [1.0, 3.0, 5.0, 5.0, 7.0]
    assert preceding(trace, 1.0, per_key=False).tolist() == [1.0, 6.0, 7.0, 10.0, 7.0]
    assert preceding(trace.head(0), 1.0).tolist() == []


def test_a_window_never_reaches_into_another_key() -> None:
    rng = np.random.default_rng(2)
    trace = Trace(1.7e9 + np.sort(rng.uniform(0, 3e5, 500)), rng.integers(0, 50, 500), [str(each) for each in range(50)])
    found = np.sort(preceding(trace, 1e5))
    brute = [
        np.sum((trace.key == k) & (trace.time <= t) & (trace.time > t - 1e5))
        for t, k in zip(trace.time, trace.key, strict=True)
    ]
    assert found.tolist() == sorted(brute)


def test_a_recipe_is_alike_to_its_own_sample_and_unlike_another() -> None:
    same = compare(TRACE, Workload(Poisson(20.0), Zipf(30), 100.0))
    assert not [each.aspect for each in same.distances if each.is_large and each.aspect != "dispersion"]
    other = compare(TRACE, PerKey(OnOff(20.0, 1.0, 29.0), 30, 100.0))
    large = {each.aspect for each in other.distances if each.is_large}
    assert {"dispersion", "bursts of all", "ranks of keys", "bursts of a key"} <= large


def test_costs_are_compared_where_there_are_any() -> None:
    assert "costs" not in {each.aspect for each in compare(TRACE, Workload(Poisson(20.0), Zipf(30), 100.0)).distances}
    dear = compare(TRACE, Workload(Poisson(20.0), Zipf(30), 100.0, cost=2.0))
    assert next(each for each in dear.distances if each.aspect == "costs").distance == 1.0


def test_a_comparison_is_a_frame_a_table_and_a_figure() -> None:
    found = compare(TRACE, Workload(Poisson(20.0), Zipf(30), 100.0))
    frame = found.to_frame()
    assert list(frame.columns) == ["aspect", "window", "distance", "between_samples", "is_large", "meaning"]
    assert len(frame) == len(found.distances)
    assert found._repr_html_().count("<tr>") == len(frame) + 1
    axes = found.plot()
    assert [each.get_title() != "" for each in axes] == [True] * 4
    assert found.plot(axes) is axes
    pyplot.close("all")


def test_a_trace_without_a_duration_is_refused() -> None:
    with pytest.raises(TraceError, match="at one time has no rate"):
        compare(TRACE.head(1), Workload(Poisson(20.0), Zipf(30), 100.0))
