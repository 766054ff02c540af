"""Links: what a message that is lost costs, and where the numbers of the presets come from."""

from __future__ import annotations

import numpy as np
import pytest

from ratesim import Scenario, run
from ratesim.simulation.network.counter_rng import draw
from ratesim.simulation.network.links import BACK, OUT, PRESETS, Link, preset_link
from ratesim.simulation.scenario.scenario import Candidate, ScenarioError
from traffic import Trace

LOSSY = Link(0.01, 0.2, "a test", loss=0.2)


def test_a_message_is_sent_again_after_a_round_trip_and_200_ms_and_then_twice_as_late_each_time() -> None:
    assert LOSSY.rto == pytest.approx(0.22)
    # Lost once below 0.2, twice below 0.04, three times below 0.008.
    added = [LOSSY.retransmission_delay(uniform) for uniform in (0.2, 0.19, 0.05, 0.039, 0.0079)]
    assert added == pytest.approx([0.0, 0.22, 0.22, 0.22 * 3, 0.22 * 7])


def test_losses_add_what_a_geometric_number_of_doublings_adds() -> None:
    uniform = (np.arange(1_000_000) + 0.5) / 1_000_000  # every quantile once
    added = LOSSY.retransmission_delays(uniform)
    assert (added > 0).mean() == pytest.approx(0.2)
    assert (added > LOSSY.rto * 1.5).mean() == pytest.approx(0.2**2)
    # The mean of 2**k - 1 for k losses with the probability p**k (1 - p) is p / (1 - 2 p).
    assert added.mean() == pytest.approx(LOSSY.rto * 0.2 / 0.6, rel=1e-3)


def test_a_sender_waits_at_most_two_minutes_between_and_sends_fifteen_times() -> None:
    # The kernel's documentation of tcp_retries2 counts 924.6 s until it gives up, which is 120 s after the last time.
    near = Link(1e-9, 0.1, "a test", loss=0.2)
    assert near.retransmission_delay(1e-300) == pytest.approx(924.6 - 120.0)


def test_many_messages_meet_what_each_of_them_meets_alone() -> None:
    rng = np.random.default_rng(4)
    trace = Trace(1.7e9 + np.sort(rng.uniform(0, 9, 3000)), rng.integers(0, 5, 3000), [f"user-{i}" for i in range(5)])
    requests = list(zip(trace.key.tolist(), trace.time.tolist(), strict=True))
    for purpose in (OUT, BACK):
        alone = [LOSSY.transit_time(7, trace.keys[key], time, purpose) for key, time in requests]
        assert LOSSY.transit_times(7, trace, purpose) == pytest.approx(alone, rel=1e-9)
        assert sum(each > LOSSY.rto for each in alone) == pytest.approx(600, abs=90)
    uniform = np.array([draw(7, "a", time, 9) for _, time in requests])
    for more in (0.0, 0.3):
        assert LOSSY.retransmission_delays(uniform, more).tolist() == [
            LOSSY.retransmission_delay(each, more) for each in uniform.tolist()
        ]


def test_two_losses_are_one_of_either() -> None:
    uniform = (np.arange(100_000) + 0.5) / 100_000
    assert (LOSSY.retransmission_delays(uniform, 0.5) > 0).mean() == pytest.approx(1 - 0.8 * 0.5)
    assert (LOSSY.retransmission_delays(uniform, 0.5) >= LOSSY.retransmission_delays(uniform)).all()


def test_the_ways_there_and_back_are_independent() -> None:
    trace = Trace(1.7e9 + np.arange(20_000) / 100, np.zeros(20_000, np.int64), ["one"])
    out, back = (LOSSY.transit_times(1, trace, purpose) > LOSSY.rto for purpose in (OUT, BACK))
    assert (out & back).mean() == pytest.approx(0.04, abs=0.006)


def test_every_preset_says_where_its_numbers_come_from_and_only_the_radio_loses_anything() -> None:
    for name, link in PRESETS.items():
        assert any(year in link.source for year in ("2009", "2019", "2022", "measured on")), name
    assert [name for name, link in PRESETS.items() if link.loss] == ["mobile_edge"]


def test_a_round_trip_and_a_loss_of_ones_own_take_the_place_of_the_presets() -> None:
    own = preset_link("mobile_edge", rtt=0.4e-3)
    assert own.median == 0.2e-3
    assert own.loss == PRESETS["mobile_edge"].loss
    assert preset_link("mobile_edge", loss=0.0).loss == 0.0
    assert preset_link("cross_zone", loss=0.01).median == PRESETS["cross_zone"].median
    assert preset_link("same_zone") == PRESETS["same_zone"]


def played(**deployment: object) -> np.ndarray:
    data = {
        "workload": {"requests_per_second": 200.0, "keys": 50, "duration": 10.0},
        "limit": {"rate": "100/minute"},
        "deployment": {"nodes": 4, **deployment},
    }
    # As many connections as requests, so that one that is delayed keeps nobody else waiting.
    result = run(Scenario.of(data), Candidate(name="c", storage="redis://h?pool_size=5000&command_timeout=100"))
    assert not result.failed.any()
    return result.latency


def test_in_a_run_the_share_of_requests_that_losses_delay_is_that_of_either_way() -> None:
    still, lossy = played(), played(loss="10%")
    delayed = lossy > still + 0.1
    assert delayed.mean() == pytest.approx(1 - 0.9**2, abs=0.03)
    # Not than the same request without losses, which meets processors at the pace of another moment.
    assert lossy[delayed].min() >= 0.2 + still.min()
    assert lossy[~delayed] == pytest.approx(still[~delayed], abs=1e-3), "the others fare as before"


def test_in_a_run_a_stated_round_trip_is_the_network() -> None:
    near, far = played(rtt="0.1ms"), played(rtt="30ms")
    assert np.median(far) - np.median(near) == pytest.approx(29.9e-3, rel=0.05)


@pytest.mark.parametrize(("field", "value"), [("loss", 1.0), ("loss", "120%"), ("rtt", 0), ("rtt", "fast")])
def test_what_cannot_be_is_refused(field: str, value: object) -> None:
    with pytest.raises(ScenarioError, match=f"deployment.{field}"):
        Scenario.of({"workload": {"requests_per_second": 1}, "limit": {"rate": "1/s"}, "deployment": {field: value}})


def test_a_flush_that_is_tried_again_is_not_lost_again_because_it_was_lost_before() -> None:
    data = {
        "workload": {"requests_per_second": 200.0, "keys": 50, "duration": 20.0},
        "limit": {"rate": "100/minute"},
        "deployment": {"nodes": 4, "loss": "40%"},
    }
    hybrid = Candidate(name="c", storage="hybrid+redis://h?sync_interval=0.1")
    # An eighth of the flushes takes longer than the client waits for. Where the same ones did so for ever, it was 15 %.
    assert run(Scenario.of(data), hybrid).accuracy.over_admission < 0.08
