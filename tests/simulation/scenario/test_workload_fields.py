"""Workloads as people write them in a scenario: every recipe, and every way to get one wrong."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ratesim import Scenario
from ratesim.simulation.scenario.scenario import EPOCH, ScenarioError, WorkloadSpec
from traffic import (
    MMPP,
    Churning,
    Diurnal,
    EdgeHerd,
    FlashCrowd,
    Hawkes,
    HotKey,
    InTurn,
    Lognormal,
    OnOff,
    PerKey,
    Steady,
    Uniform,
)

LIMIT = '[limit]\nrate = "10/minute"\n'


def scenario(lines: str) -> Scenario:
    return Scenario.parse(f"[workload]\n{lines}\n{LIMIT}")


TENANTS = 'arrivals = "tenants"\ntenants = [{ session_requests = [4], session_gap = ["20ms"] }]'

RECIPES = {
    'arrivals = "steady"': Steady(100.0),
    'arrivals = "on_off"\non = "2s"\noff = "6s"': OnOff(400.0, 2.0, 6.0),
    'arrivals = "on_off"\non = "2s"\noff = "6s"\ntail = 2': OnOff(400.0, 2.0, 6.0, 2.0),
    'arrivals = "hawkes"\nbranching = "50%"\ndelay = "2s"': Hawkes(100.0, 0.5, 2.0),
    # Quiet for 3 s at 50/s and busy for 1 s at 250/s: 100/s in the mean.
    'arrivals = "mmpp"\nburst = 5\nburst_for = "1s"\nquiet_for = "3s"': MMPP(50.0, 250.0, 3.0, 1.0),
    'arrivals = "diurnal"\namplitude = "50%"\nday = "10s"': Diurnal(100.0, 0.5, 10.0),
    'arrivals = "flash_crowd"\nsurge = 20\nsurge_at = "30s"\nramp = "1s"\nhold = "5s"\nfade = "10s"': FlashCrowd(
        100.0, 20.0, 30.0, 1.0, 5.0, 10.0
    ),
    'arrivals = "edge_herd"\nedge = "10s"\nedge_spread = "50ms"\nedge_before = "50%"': EdgeHerd(10.0, 1000, 0.05, 0.5),
}


@pytest.mark.parametrize(("lines", "arrivals"), RECIPES.items(), ids=[repr(each) for each in RECIPES.values()])
def test_requests_per_second_is_the_mean_of_every_way_to_come(lines: str, arrivals: object) -> None:
    asked = scenario(f"requests_per_second = 100\n{lines}")
    recipe = asked.workload.recipe()
    assert recipe.arrivals == arrivals
    again = Scenario.parse(asked.to_toml())
    assert again == asked
    assert again.trace() == asked.trace()
    if "flash" not in lines:  # which is more by its crowd
        long = scenario(f'requests_per_second = 100\nduration = "10000s"\n{lines}').trace()
        assert len(long) / 10000 == pytest.approx(100, rel=0.12)  # four standard errors of on_off


POPULATIONS = {
    'popularity = "uniform"': Uniform(50),
    'popularity = "hot_key"\nhot_share = "80%"': HotKey(50, 0.8),
    'popularity = "in_turn"': InTurn(50),
    'popularity = "uniform"\nlifetime = "15s"': Churning(Uniform(50), 4.0),
}


@pytest.mark.parametrize(("lines", "keys"), POPULATIONS.items(), ids=[repr(each) for each in POPULATIONS.values()])
def test_keys_may_be_asked_for_in_several_ways(lines: str, keys: object) -> None:
    asked = scenario(f"requests_per_second = 10\nkeys = 50\n{lines}")
    assert asked.workload.recipe().keys == keys
    assert Scenario.parse(asked.to_toml()).trace() == asked.trace()


def test_tenants_with_users_come_in_groups() -> None:
    groups = 'tenants = [{ keys = "10%", requests = "80%" }, { keys = "90%", requests = "20%", costs = [9] }]'
    asked = scenario(f'requests_per_second = 100\nkeys = 50\narrivals = "tenants"\nprofile = [1, 3]\n{groups}')
    assert Scenario.parse(asked.to_toml()) == asked
    trace = asked.trace()
    counts = np.bincount(trace.key)
    assert counts.tolist() == pytest.approx([960] * 5 + [27] * 45, abs=1)
    assert set(trace.cost[trace.key >= 5].tolist()) == {9.0}
    assert np.mean(trace.time - EPOCH < 30) == pytest.approx(0.25, abs=0.01)
    assert (trace.session == trace.key).all()
    users = scenario('requests_per_second = 100\narrivals = "tenants"\ntenants = [{ users = 3 }]').trace()
    assert (users.session // 3 == users.key).all()


def test_clients_may_come_and_go_each_in_a_rhythm_of_its_own() -> None:
    asked = scenario('requests_per_second = 100\nkeys = 20\narrivals = "on_off"\non = "1s"\noff = "9s"\nper_key = true')
    assert asked.workload.recipe() == PerKey(OnOff(50.0, 1.0, 9.0), 20, 60.0, 1.0, EPOCH)
    assert len(asked.trace()) == pytest.approx(6000, rel=0.4)


def test_what_a_request_costs_may_be_a_number_or_drawn() -> None:
    assert scenario("requests_per_second = 10\ncost = 2.5").trace().cost.tolist()[:2] == [2.5, 2.5]
    drawn = scenario("requests_per_second = 1000\ncost = 300\ncost_sigma = 1")
    assert drawn.workload.recipe().cost == Lognormal(300.0, 1.0)
    assert np.log(drawn.trace().cost).mean() == pytest.approx(math.log(300) - 0.5, abs=0.05)
    loop = scenario("cost = 3\nclients = { users = 2 }").trace()
    assert set(loop.cost.tolist()) == {3.0}


def test_a_plain_recipe_is_what_it_always_was() -> None:
    plain = scenario("requests_per_second = 10").trace()
    named = scenario('requests_per_second = 10\narrivals = "poisson"\npopularity = "zipf"\nzipf = 1.0').trace()
    assert plain == named
    assert len(plain.keys) == 1000


def test_steady_arrivals_on_whole_seconds_stay_there() -> None:
    assert np.diff(scenario('requests_per_second = 1\narrivals = "steady"').trace().time).tolist() == [1.0] * 59


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ('arrivals = "on_of"', "arrivals"),
        ('arrivals = "on_off"\non = "1s"', "'on_off' needs off"),
        ('arrivals = "mmpp"\nburst_for = "1s"', "'mmpp' needs burst, quiet_for"),
        ('arrivals = "flash_crowd"\nsurge = 2', "'flash_crowd' needs surge_at, ramp, hold, fade"),
        ('arrivals = "diurnal"', "'diurnal' needs amplitude"),
        ('on = "1s"', "on belongs to arrivals = 'on_off', not to 'poisson'"),
        (
            'arrivals = "diurnal"\namplitude = "50%"\nhold = "1s"',
            "hold belongs to arrivals = 'flash_crowd', not to 'diurnal'",
        ),
        ('popularity = "hot_key"', "'hot_key' needs hot_share"),
        ('hot_share = "50%"', "hot_share belongs to popularity = 'hot_key', not to 'zipf'"),
        ('popularity = "uniform"\nzipf = 1.2', "zipf belongs to popularity = 'zipf', not to 'uniform'"),
        ('popularity = "hot_key"\nhot_share = "50%"\nkeys = 1', "keys = 2 or more"),
        ("per_key = true", "per_key goes with arrivals = 'on_off', 'mmpp' or 'hawkes'"),
        ('arrivals = "hawkes"\nbranching = "100%"\ndelay = "1s"', "branching"),
        ("tail = 1.5", "tail belongs to arrivals = 'on_off', not to 'poisson'"),
        ('arrivals = "tenants"', "'tenants' needs tenants"),
        ("profile = [1, 2]", "profile belongs to arrivals = 'tenants', not to 'poisson'"),
        (f"{TENANTS}\nprofile = [0, 0]", "one of them above 0"),
        (f'{TENANTS}\nprofile = [0, 1]\nprofile_period = "1 day"', "no request comes in the first 60 s"),
        (f'{TENANTS}\nprofile_period = "1us"', "more than 1000000 parts"),
        (f"{TENANTS}\ncost = 2", "takes no cost"),
        (f"{TENANTS}\nzipf = 2", "takes no zipf"),
        ('keys = 1\narrivals = "tenants"\ntenants = [{}, {}]', "at least one for each of 2 groups"),
        ('arrivals = "tenants"\ntenants = [{ costs = [1, 2] }]', "costs: give one value, or 27 quantiles, not 2"),
        ('arrivals = "tenants"\ntenants = [{ pauses = [' + "3, " * 26 + "1] }]", "pauses: quantiles must ascend"),
        ('arrivals = "tenants"\ntenants = [{ session_gap = [2] }]', "2 has no unit"),
        ('per_key = true\narrivals = "on_off"\non = "1s"\noff = "1s"\nzipf = 1.1', "takes no zipf"),
        ('arrivals = "edge_herd"\nedge = "1s"\nedge_spread = "0.6s"', "edge_spread 0.6: must be at most half of edge, 1 s"),
        ('arrivals = "edge_herd"\nedge = "10ms"\nedge_spread = "1ms"', "raise requests_per_second"),
        (
            'arrivals = "flash_crowd"\nsurge = 2\nsurge_at = "1h"\nramp = "1s"\nhold = "1s"\nfade = "1s"',
            "surge_at 3600: must be before the end, 60 s",
        ),
        ('lifetime = "1us"', "lifetime 1e-06: makes more than"),
        ('cost = "3"', "cost '3': without a log it is a number"),
        ("cost = 0\ncost_sigma = 1", "cost_sigma needs"),
        ("cost_sigma = 1", "cost_sigma needs"),
        ('key = "client"', "a recipe takes no key"),
    ],
)
def test_what_does_not_go_together_is_named(lines: str, says: str) -> None:
    with pytest.raises(ScenarioError, match=says) as caught:
        scenario(f"requests_per_second = 10\n{lines}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ('log = "a.log"\nkeys = 5', "a log takes no keys"),
        ('log = "a.log"\narrivals = "steady"', "a log takes no arrivals"),
        ('log = "a.log"\ncost = 5', "of a log it is a column or an expression"),
        ("clients = { users = 5 }\nscale = 2", "a closed loop takes no scale"),
        ('log = "a.log"\nrequests_per_second = 5', "give one of"),
    ],
)
def test_a_log_and_a_closed_loop_take_nothing_of_a_recipe(lines: str, says: str) -> None:
    with pytest.raises(ScenarioError, match=says):
        scenario(lines)


def test_a_workload_may_be_scaled_by_any_factor() -> None:
    plain, half_more = (
        scenario("requests_per_second = 100").trace(),
        scenario("requests_per_second = 100\nscale = 1.5").trace(),
    )
    assert len(half_more) == pytest.approx(1.5 * len(plain), rel=0.01)
    assert half_more.duration == pytest.approx(plain.duration, rel=0.01)
    fewer = scenario("requests_per_second = 100\nscale = 0.25").trace()
    assert len(fewer) == pytest.approx(0.25 * len(plain), rel=0.01)
    assert set(fewer.keys) < set(plain.keys)


def test_the_head_of_a_scaled_workload_is_that_of_the_whole() -> None:
    asked = "requests_per_second = 100\nscale = 64"
    cut, whole = scenario(f"{asked}\nhead = 500").trace(), scenario(asked).trace().head(500)
    assert cut.time.tolist() == whole.time.tolist()
    assert [cut.keys[key] for key in cut.key] == [whole.keys[key] for key in whole.key]


def test_a_workload_may_be_concentrated_on_its_busiest_key() -> None:
    plain = scenario("requests_per_second = 100").trace().summary()
    hot = scenario('requests_per_second = 100\ntop_share = "50%"').trace().summary()
    assert plain["top_key_share"] < 0.2
    assert hot["top_key_share"] == pytest.approx(0.5, abs=0.05)
    assert hot["requests"] == plain["requests"]
    for wrong in ('"0%"', '"110%"'):
        with pytest.raises(ScenarioError, match="top_share"):
            scenario(f"requests_per_second = 100\ntop_share = {wrong}")


def test_a_scenario_may_name_the_column_of_the_answers_and_replays_its_429s(tmp_path):
    (tmp_path / "a.csv").write_text("time,answer\n1.5,200\n2.5,429\n")
    trace = WorkloadSpec(log=str(tmp_path / "a.csv"), key="none", status="answer", speed=2.0).trace(np.random.default_rng(0))
    assert trace.status is not None
    assert trace.status.tolist() == [200, 429]
    assert trace.provenance.notes[0] == "the service limits: 1 answers 429 (50 %) are replayed as demand"
    with pytest.raises(ValueError, match="status"):
        WorkloadSpec(requests_per_second=1.0, status="answer")


def test_a_key_may_be_many_clients_each_with_a_session_of_its_own() -> None:
    one, many = (scenario(f"requests_per_second = 100\nkeys = 3{more}").trace() for more in ("", "\nsessions = 4"))
    assert one.session.tolist() == one.key.tolist()
    assert len(np.unique(many.session)) == 12
    assert all(len(np.unique(many.key[many.session == session])) == 1 for session in np.unique(many.session))
    assert (many.time == one.time).all()
    with pytest.raises(ScenarioError, match="closed loop takes no sessions"):
        scenario("sessions = 2\n[workload.clients]\nusers = 3")


def test_what_a_sticky_balancer_keeps_together_is_a_client_and_not_a_key() -> None:
    from ratesim import run
    from ratesim.simulation.scenario.scenario import Candidate

    sticky = Candidate(name="memory, sticky", storage="memory://", routing="sticky")
    over = [
        run(scenario(f"requests_per_second = 20\nkeys = 3{more}"), sticky).accuracy.over_admission
        for more in ("", "\nsessions = 4")
    ]
    assert over[0] == 0 < over[1]


@pytest.mark.parametrize(
    ("fields", "limited"),
    [
        ({"key": "client"}, "each client"),
        ({}, "each key"),
        ({"key": "none"}, "all requests together"),
        ({"key": "none", "scale": 3}, "each copy of the log"),
    ],
)
def test_it_is_said_what_one_limit_holds_for(fields, limited: str) -> None:
    assert WorkloadSpec(log="access.log", **fields).limited == limited


@pytest.mark.parametrize(
    ("fields", "counted"),
    [
        ({"log": "llm.csv", "cost": "Context+Generated"}, " of Context+Generated"),
        ({"log": "llm.csv"}, ""),
        ({"requests_per_second": 5.0, "cost": 3}, " of cost, 3 for a request"),
        ({"requests_per_second": 5.0, "cost": 1}, ""),
    ],
)
def test_it_is_said_what_a_limit_counts_that_counts_no_requests(fields, counted: str) -> None:
    assert WorkloadSpec(**fields).counted == counted
