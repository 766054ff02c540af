"""What is worked out of a log: golden values from made traffic whose law is known, and exact counts by hand."""

from __future__ import annotations

import numpy as np
import pytest

from ratesim.formatting import format_amount, format_count, format_length, format_limit, format_period, shorten
from ratesim.limit import InvalidLimitError, Limit
from ratesim.pages.your_log.analysis import analyze_log
from ratesim.pages.your_log.arrivals import arrivals, busiest, dispersion, gaps, over_time
from ratesim.pages.your_log.rejections import rejected_requests
from ratesim.pages.your_log.skew import client, exponent, gini, skew
from ratesim.simulation.analysis.limit_suggestion import Trial, round_rates
from ratesim.simulation.results.oracle import exact_trace
from traffic import OnOff, Poisson, Steady, Trace, Uniform, Workload, Zipf


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# When requests come ----------------------------------------------------------------------------------------------------


def test_of_poissons_arrivals_the_index_of_dispersion_lies_in_its_interval_nineteen_times_in_twenty():
    inside = []
    for seed in range(60):
        found = dispersion(Poisson(50.0).times(700.0, rng(seed)))
        assert [each.seconds for each in found] == [0.001, 0.01, 0.1, 1.0, 10.0]
        inside += [each.low <= each.index <= each.high for each in found]
    # 300 of them, those of one trace not independent: 95 % and four standard deviations as if there were 60.
    assert np.mean(inside) > 0.95 - 4.0 * np.sqrt(0.95 * 0.05 / 60)


def test_the_index_is_near_one_of_poissons_arrivals_also_in_whole_seconds():
    times = np.floor(Poisson(20.0).times(7200.0, rng(3), start=1.7e9))
    found = {each.seconds: each for each in dispersion(times)}
    assert set(found) == {1.0, 10.0, 60.0}
    assert found[1.0].index == pytest.approx(1.0, abs=5 * np.sqrt(2 / 7200))
    assert found[60.0].index == pytest.approx(1.0, abs=5 * np.sqrt(2 / 120))


def test_on_and_off_is_above_one_and_more_so_in_longer_windows():
    # Requests at 200/s for 1 s in the mean, then silence for 4 s.
    found = {each.seconds: each.index for each in dispersion(OnOff(200.0, 1.0, 4.0).times(2000.0, rng(1)))}
    assert found[0.001] < found[0.1] < found[1.0] < found[10.0]
    # Windows far longer than on + off: 1 + 2 rate off^2 on / (on + off)^2 = 1 + 2 * 200 * 16 / 25 = 257.
    assert found[10.0] == pytest.approx(257, rel=0.35)


def test_a_steady_pace_is_below_one():
    assert all(each.index < each.low for each in dispersion(Steady(10.0).times(1000.0, rng())) if each.seconds >= 1.0)


def test_the_index_is_the_variance_over_the_mean_of_the_counts():
    times = np.floor(OnOff(5.0, 3.0, 7.0).times(500.0, rng(2)))
    counts = np.bincount((times - times[0]).astype(int))
    (each,) = [each for each in dispersion(times) if each.seconds == 1.0]
    assert each.windows == len(counts)
    assert each.index == pytest.approx(counts.var(ddof=1) / counts.mean())


@pytest.mark.parametrize("times", [[5.0], [5.0, 5.0, 5.0], [1.0, 2.0]])
def test_a_log_that_is_too_short_has_no_index(times):
    assert dispersion(np.array(times)) == ()


def test_the_busiest_second_and_minute_may_begin_anywhere():
    trace = Trace([0.0, 0.9, 1.1, 1.8, 59.9, 60.5], [0] * 6, ["a"])
    assert busiest(trace.time, 1.0) == 3
    assert (arrivals(trace).second, arrivals(trace).minute) == (3, 5)


def test_gaps_of_poissons_arrivals_vary_once_and_their_median_is_that_of_the_exponential():
    found = gaps(Poisson(100.0).times(500.0, rng(4)))
    assert found is not None
    assert found.variation == pytest.approx(1.0, abs=0.02)
    assert found.median == pytest.approx(np.log(2) / 100, rel=0.02)
    assert found.high == pytest.approx(np.log(100) / 100, rel=0.03)
    assert gaps(np.array([1.0])) is None


@pytest.mark.parametrize("span", [0.0, 0.5, 100.0, 1e5, 1e9])
def test_the_steps_over_time_hold_every_request_and_are_few(span):
    trace = Trace(np.sort(1.7e9 + rng().random(1000) * span), [0] * 1000, ["a"], status=[429, 200] * 500)
    line = over_time(trace)
    assert line.requests.sum() == 1000
    assert line.refused.sum() == 500
    assert 1 <= len(line.requests) <= 242


# How unequal the clients are -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("true", [0.6, 0.8, 1.0, 1.3])
def test_the_exponent_of_zipfs_law_is_found_within_its_interval(true):
    held = 0
    for seed in range(30):
        fit = exponent(Zipf(1000, true).draw(100_000, rng(seed)), 1000)
        assert fit is not None
        assert fit.value == pytest.approx(true, abs=0.05)
        held += fit.low <= true <= fit.high
    assert held >= 24  # of 30 at 95 %, fewer once in ten thousand


def test_clients_that_ask_equally_often_have_an_exponent_of_nought():
    fit = exponent(Uniform(100).draw(50_000, rng(5)), 100)
    assert fit is not None
    assert fit.low <= 0.0 <= fit.high
    assert fit.value == pytest.approx(0.0, abs=0.03)


def test_the_interval_is_wide_where_the_law_is_not_theirs():
    law = exponent(Zipf(50, 1.0).draw(20_000, rng(6)), 50)
    steps = exponent(rng(6).choice(50, 20_000, p=np.repeat([0.06, 0.01, 0.03], [10, 30, 10]) / 1.2), 50)
    assert law is not None
    assert steps is not None
    assert steps.high - steps.low > 3 * (law.high - law.low)


def test_too_few_clients_that_ask_often_have_no_exponent():
    assert exponent(np.zeros(10_000, np.int64), 1) is None
    assert exponent(rng().integers(0, 5000, 10_000), 5000) is None


def test_shares_and_the_gini_coefficient_by_hand():
    trace = Trace(np.arange(10.0), [1, 1, 1, 1, 1, 1, 0, 0, 0, 3], ["b", "a", "never", "c"])
    found = skew(trace)
    assert (found.clients, found.order.tolist(), found.counts.tolist()) == (3, [1, 0, 3], [6, 3, 1])
    assert found.tops == {1: 0.6}
    assert found.percent == 0.6
    # Mean difference of two clients over twice the mean: (3 + 5 + 2) * 2 / 9 / (2 * 10 / 3) = 1/3.
    assert found.gini == pytest.approx(1 / 3)
    assert gini(np.array([5, 5, 5])) == pytest.approx(0.0)


def test_what_a_client_does_by_hand():
    trace = Trace(
        [0.0, 30.0, 59.0, 60.0, 200.0], [0, 0, 0, 1, 0], ["a", "b"], cost=[1, 2, 4, 8, 5],
        endpoint=[0, 1, 1, 0, 1], endpoints=["GET /x", "GET /y"], status=[200, 429, 429, 429, 200],
    )  # fmt: skip
    found = client(trace, 0, 60.0)
    assert (found.name, found.requests, found.cost, found.peak, found.refused) == ("a", 4, 12.0, 7.0, 2)
    assert (found.share, found.cost_share) == (0.8, 0.6)
    assert (found.endpoint, found.asked_share) == ("GET /y", 0.75)
    assert client(trace, 0, 1000.0).peak == 12.0


# Who would be limited --------------------------------------------------------------------------------------------------


def ten_clients() -> Trace:
    """Client i asks i + 1 times in the first second of one minute."""
    key = np.concatenate([np.full(i + 1, i) for i in range(10)])
    return Trace(np.sort(rng().random(55)) + 1.7e9, key, [f"c{i}" for i in range(10)])


@pytest.mark.parametrize(("rate", "touched", "denied"), [(1, 9, 45), (5, 5, 15), (9, 1, 1), (10, 0, 0)])
def test_who_is_touched_and_what_is_denied_is_counted_exactly(rate, touched, denied):
    effect = Trial(ten_clients()).effect(rate, 60.0)
    assert (effect.touched, effect.clients) == (touched, 10)
    assert (effect.denied, effect.requests) == (denied, 55)
    assert (effect.touched_share, effect.denied_share) == (touched / 10, denied / 55)


@pytest.mark.parametrize("algorithm", ["fixed_window", "token_bucket", "sliding_log", "gcra"])
def test_it_is_what_an_exact_limiter_denies_by_every_algorithm(algorithm):
    trace = Workload(Poisson(30.0), Zipf(20, 1.0), 60.0).trace(rng(1))
    denied = ~exact_trace(Limit(10.0, 10.0, algorithm), trace)
    effect = Trial(trace, algorithm).effect(10.0, 10.0)
    assert 0 < effect.denied == denied.sum()
    assert effect.touched == len(set(trace.key[denied].tolist()))


@pytest.mark.parametrize(
    ("touched", "denied", "rate", "below"),
    [(0.0, 0.0, 10, 8), (0.2, 1.0, 8, 6), (0.5, 1.0, 5, 4), (0.5, 0.2, 6, 5), (0.9, 0.99, 1, None)],
)
def test_the_suggested_limit_is_the_smallest_round_rate_that_does_not_do_too_much(touched, denied, rate, below):
    found = Trial(ten_clients()).suggest(60.0, touched, denied)
    assert found.effect.limit == Limit(rate, 60.0)
    assert (found.below.limit.rate if found.below else None) == below
    assert found.effect.touched_share <= touched
    assert found.effect.denied_share <= denied
    if found.below:
        assert found.below.touched_share > touched or found.below.denied_share > denied


def test_a_ladder_goes_from_nobody_touched_to_half_denied():
    rows = Trial(ten_clients()).ladder(60.0)  # 1 would deny 45 of 55, and 2 denies 36
    assert [(each.limit.rate, each.touched) for each in rows] == [(2.0, 8), (5.0, 5), (10.0, 0)]


def test_round_rates_are_those_that_people_write_down():
    assert round_rates(1.0, 9.0) == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0]
    assert round_rates(9.5, 31.0) == [8.0, 10.0, 15.0, 20.0, 25.0, 30.0, 40.0]
    assert round_rates(0.02, 0.031) == [0.02, 0.025, 0.03, 0.04]
    assert round_rates(1.0, 1.0) == [1.0]
    with pytest.raises(ValueError, match="a limit goes from"):
        round_rates(1e-9, 1.0)


def test_costs_count_not_requests():
    trace = Trace([0.0, 1.0, 2.0], [0, 1, 1], ["a", "b"], cost=[900.0, 10.0, 10.0])
    assert Trial(trace).suggest(60.0, 0.0, 0.0).effect.limit.rate == 1000.0
    assert Trial(trace).suggest(60.0, 0.5, 0.5).effect.limit.rate == 20.0


def test_where_nothing_costs_anything_there_is_no_limit_to_suggest():
    with pytest.raises(ValueError, match="every request costs 0"):
        Trial(Trace([0.0], [0], ["a"], cost=0.0))


# What was refused already ----------------------------------------------------------------------------------------------


def test_answers_429_are_counted_and_so_is_who_came_again():
    trace = Trace([0, 10, 69, 200, 201], [0, 0, 0, 1, 0], "ab", cost=[1, 2, 3, 4, 5], status=[429, 429, 503, 429, 200])
    found = rejected_requests(trace, 60.0)
    assert (found.known, found.many, found.clients, found.again, found.unavailable) == (True, 3, 2, 2, 1)
    assert found.share == 0.6
    assert (found.cost, found.other_cost) == (7 / 3, 4.0)


def test_a_log_without_answers_says_nothing_of_them():
    assert not rejected_requests(Trace([0], [0], "a"), 60.0).known
    assert rejected_requests(Trace([0], [0], "a", status=[200]), 60.0).many == 0


def test_what_was_answered_429_is_demand_as_all_else(tmp_path):
    lines = "".join(f"{i / 10},u,{429 if i >= 5 else 200}\n" for i in range(15))
    (tmp_path / "a.csv").write_text(f"time,user,status\n{lines}")
    found = analyze_log(str(tmp_path / "a.csv"), key="user")
    assert len(found.trace) == 15
    assert found.suggestion.effect.limit.rate == 15.0
    assert (found.rejected.many, found.rejected.again) == (10, 9)


# How it is asked and said ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        ({"touched": 1.5}, "touched 1.5: is a share"),
        ({"denied": "all"}, "denied: 'all' is not a share"),
        ({"denied": "0.05"}, 'denied: 0.05 has no unit; write "5%"'),
        ({"denied": float("nan")}, "denied nan: is a share"),
        ({"period": "fortnight"}, "period 'fortnight': write second, minute"),
        ({"period": "0 seconds"}, "period '0 seconds': write"),
        ({"algorithm": "guess"}, "guess"),
        ({"time_unit": "years"}, "parameter time_unit: 'years': known are s, ms"),
        ({"log": "nowhere.log"}, "nowhere.log: no such file"),
        ({"key": "color"}, "no field 'color' for the key; its fields are remote_addr"),
        ({"cost": "bytes"}, "no field 'bytes' for the cost"),
        ({"format": "xml"}, "unknown format 'xml'"),
        ({"status": "code"}, "no field 'code' for the status"),
    ],
)
def test_what_cannot_be_asked_is_one_line_that_says_so(asked, problem):
    with pytest.raises((ValueError, InvalidLimitError)) as caught:
        analyze_log(**asked)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_and_figures_read_well():
    assert [format_amount(x) for x in (1234567.0, 99.5, 3.0, 0.03351)] == ["1,234,567", "99.5", "3", "0.0335"]
    assert [format_length(x) for x in (0.01, 1, 90, 3600, 86400 * 3)] == ["10 ms", "1 s", "1.5 min", "1 hour", "3 days"]
    assert [format_period(x) for x in (1, 60, 10, 0.001)] == ["second", "minute", "10 seconds", "0.001 seconds"]
    assert [format_count(1, "client"), format_count(1753, "client")] == ["1 client", "1,753 clients"]
    assert shorten("a" * 40) == "a" * 40
    assert (len(shorten("a" * 5000)), "…" in shorten("a" * 5000)) == (40, True)


@pytest.mark.parametrize("limit", [Limit(1e6, 60.0), Limit(0.5, 3600.0), Limit(123456789.0, 10.0), Limit(3.0, 0.5)])
def test_a_limit_is_said_so_that_it_can_be_read(limit):
    assert Limit.parse(format_limit(limit)) == limit
