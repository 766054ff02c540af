"""Excerpts: the busiest stretch of a traffic, or all of its time with fewer keys."""

from __future__ import annotations

from ratesim import Scenario
from ratesim.recommendation.investigate.sampling import busiest_window, sample_keys

LINE = '10.0.0.{} - - [17/May/2015:10:{:02d}:{:02d} +0000] "GET /a HTTP/1.1" 200 1\n'


def recipe(**workload: object) -> Scenario:
    return Scenario.of(
        {
            "workload": {"requests_per_second": 100, "keys": 50, "duration": 100, **workload},
            "limit": {"rate": "10/second"},
            "faults": [{"kind": "crash", "start": 50, "duration": 10}],
        }
    )


def test_the_busiest_stretch_of_a_log_is_kept_as_it_is(tmp_path) -> None:
    quiet = [LINE.format(1, minute, 0) for minute in range(30)]
    rush = [LINE.format(2, 30, second) for second in range(60)]
    (tmp_path / "access.log").write_text("".join(quiet + rush))
    scenario = Scenario.of({"workload": {"log": str(tmp_path / "access.log")}, "limit": {"rate": "5/second"}})
    cut = busiest_window(scenario, scenario.trace(), 20).trace()
    assert 15 <= len(cut) <= 22
    assert {cut.keys[key] for key in cut.key} == {"10.0.0.2"}


def test_two_periods_of_the_limit_are_covered_where_that_is_not_much_more() -> None:
    slow = recipe().model_copy(update={"limit": recipe().limit.model_copy(update={"rate": "10 per 3 seconds"})})
    assert busiest_window(slow, slow.trace(), 200).workload.duration >= 6.0
    daily = slow.model_copy(update={"limit": slow.limit.model_copy(update={"rate": "10/day"})})
    assert len(busiest_window(daily, daily.trace(), 200).trace()) < 5 * 200


def test_a_stretch_of_time_has_no_faults_and_a_thinned_traffic_keeps_them() -> None:
    scenario = recipe()
    assert busiest_window(scenario, scenario.trace(), 500).faults == ()
    thin = sample_keys(scenario, scenario.trace(), 500)
    assert thin.faults == scenario.faults
    trace = thin.trace()
    assert 100 < len(trace) < 1500
    assert trace.duration > 90.0


def test_of_a_traffic_that_has_a_head_a_part_has_a_shorter_one_and_lasts_as_long() -> None:
    whole = recipe(scale=2, head=16_000)
    trace = whole.trace()
    thin = sample_keys(whole, trace, 2000).trace()
    assert len(thin) == 2000
    assert 0.6 < thin.duration / trace.duration < 1.6


def test_what_is_short_already_is_not_cut() -> None:
    scenario = recipe()
    assert busiest_window(scenario, scenario.trace(), 1_000_000).workload == scenario.workload
    assert sample_keys(scenario, scenario.trace(), 1_000_000) == scenario


def test_arrivals_that_change_are_cut_where_they_are_busiest() -> None:
    crowd = recipe(arrivals="flash_crowd", surge=20, surge_at=60, ramp=1, hold=5, fade=1)
    trace = crowd.trace()
    cut = busiest_window(crowd, trace, 500).trace()
    assert cut.time[0] - trace.time[0] > 55.0


def test_a_warm_up_takes_at_most_a_fifth_of_an_excerpt() -> None:
    scenario = recipe().model_copy(update={"warmup": 50.0})
    cut = busiest_window(scenario, scenario.trace(), 500)
    assert cut.warmup <= cut.workload.duration / 5


def test_of_a_closed_loop_there_are_fewer_users() -> None:
    loop = {"clients": {"users": 100, "think": 1.0}, "duration": 50}
    scenario = Scenario.of({"workload": loop, "limit": {"rate": "5/second"}})
    trace = scenario.trace()
    thin = sample_keys(scenario, trace, len(trace) // 10)
    assert thin.workload.clients is not None
    assert thin.workload.clients.users == 10
