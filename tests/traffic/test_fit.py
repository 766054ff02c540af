import numpy as np
import pytest

import traffic
from traffic import OnOff, PerKey, Poisson, Profile, Tenants, Trace, TraceError, Workload, Zipf, compare
from traffic.quantiles import quantile_mean

DATA = __import__("pathlib").Path(traffic.__file__).parent / "data"


@pytest.fixture(scope="module")
def log() -> Trace:
    return traffic.read_log(DATA / "apache_access_10k.log.gz", key="client")


def far(trace: Trace, recipe: Tenants, aspect: str) -> dict[float | None, float]:
    return {each.window: each.distance for each in compare(trace, recipe).distances if each.aspect == aspect}


def test_a_recipe_has_the_requests_keys_and_cost_of_its_log_and_none_of_its_names(log: Trace) -> None:
    recipe = Workload.fit(log)
    assert recipe.keys == log.summary()["keys"]
    assert recipe.rate * recipe.duration == pytest.approx(len(log))
    assert recipe == Workload.fit(log)
    assert not any(key in repr(recipe) for key in log.keys)
    drawn = recipe.trace(np.random.default_rng(1))
    assert len(drawn) == pytest.approx(len(log), rel=0.01)
    assert np.sort(np.bincount(drawn.key))[::-1][0] == pytest.approx(482, rel=0.15)  # of the busiest client
    # Every stamp of this log lies in one minute of its hour.
    assert (recipe.profile.period, len(recipe.profile.rates)) == (3600.0, 60)
    bursts = far(log, recipe, "bursts of a key")
    assert max(bursts[each] for each in (1.0, 10.0, 3600.0)) < 0.05
    assert max(bursts.values()) < 0.15


def test_a_log_of_one_key_comes_in_the_bursts_that_it_has(log: Trace) -> None:
    one = Trace(log.time, np.zeros(len(log), np.int64), ["all"])
    recipe = Workload.fit(one)
    assert recipe.keys == 1
    assert quantile_mean(recipe.groups[0].session_requests) == pytest.approx(len(log) / 84, rel=0.01)  # 84 hours
    bursts = far(one, recipe, "bursts of all")
    assert max(bursts[each] for each in (1.0, 10.0, 60.0, 600.0)) < 0.03


def test_a_log_that_is_poisson_stays_so() -> None:
    trace = Workload(Poisson(20.0), Zipf(100), 300.0).trace(np.random.default_rng(3))
    comparison = compare(trace, Workload.fit(trace))
    assert not [each for each in comparison.distances if each.aspect.startswith("bursts") and each.is_large]


def test_clients_that_come_and_go_stay_so() -> None:
    trace = PerKey(OnOff(10.0, 2.0, 30.0), 30, 600.0).trace(np.random.default_rng(4))
    bursts = far(trace, Workload.fit(trace), "bursts of a key")
    assert max(bursts.values()) < 0.1


def test_a_rate_by_time_of_day_is_found() -> None:
    true = Tenants(0.05, 5, 3 * 86400.0, profile=Profile(tuple(1 + (8 <= hour < 20) * 4.0 for hour in range(24)), 86400.0))
    trace = true.trace(np.random.default_rng(5))
    recipe = Workload.fit(trace)
    times, until = recipe.profile.curve(recipe.duration)
    expected = true.profile.curve(recipe.duration)
    np.testing.assert_allclose(np.interp(expected[0], times, until), expected[1], atol=0.03)


def test_sessions_of_users_and_costs_are_kept() -> None:
    rng = np.random.default_rng(6)
    trace = PerKey(Poisson(2.0), 10, 300.0, traffic.Lognormal(50.0, 1.0)).trace(rng).in_sessions(7, rng)
    recipe = Workload.fit(trace)
    assert {group.users for group in recipe.groups} == {7.0}
    drawn = recipe.trace(rng)
    assert drawn.cost.mean() == pytest.approx(trace.cost.mean(), rel=0.01)
    assert np.quantile(drawn.cost, 0.9) == pytest.approx(np.quantile(trace.cost, 0.9), rel=0.05)


def test_a_part_of_a_large_log_is_tried_and_all_of_it_is_fitted(monkeypatch: pytest.MonkeyPatch, log: Trace) -> None:
    monkeypatch.setattr(__import__("sys").modules["traffic.fit"], "TRIED", 2000)
    recipe = Workload.fit(log)
    assert recipe.keys == log.summary()["keys"]
    assert recipe.rate * recipe.duration == pytest.approx(len(log))


@pytest.mark.parametrize("times", [[], [5.0], [5.5, 5.5]])
def test_requests_without_a_duration_are_refused(times: list[float]) -> None:
    with pytest.raises(TraceError, match="at one time have no rate"):
        Workload.fit(Trace(times, [0] * len(times), ["a"]))


@pytest.mark.parametrize("times", [[0.25, 1.5], [0.0, 0.0, 3.5], [1.0, 2.0, 3.0]])
def test_the_shortest_trace_has_a_recipe(times: list[float]) -> None:
    recipe = Workload.fit(Trace(times, range(len(times)), [str(each) for each in range(len(times))]))
    assert recipe.keys == len(times)
    assert len(recipe.trace(np.random.default_rng(1))) == pytest.approx(len(times), abs=1)
