"""Covariates decide which replays are kept, and no outcome does."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from ratesim.simulation.cost_model.machine_account import TICKS
from ratesim.simulation.cost_model.profile import BackendCosts
from ratesim.simulation.validation.covariates import (
    Account,
    Covariates,
    Meter,
    causes,
    covariates_of,
    read_samples,
    sampled,
)
from ratesim.simulation.validation.rounds import Calibrated, Failed, Replayed, disturbances, kept_rounds

QUIET = Covariates({0: (60e-6, 60e-6, 60e-6), 1: (60e-6, 60e-6, 60e-6)}, 0.0, 0.01)


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (QUIET, ()),
        (replace(QUIET, pace={0: (60e-6, 70e-6, 60e-6), 1: QUIET.pace[1]}), ()),
        (replace(QUIET, pace={0: (60e-6, 80e-6, 60e-6), 1: QUIET.pace[1]}), ("pace",)),
        (replace(QUIET, pace={0: QUIET.pace[0], 1: (60e-6, 40e-6, 60e-6)}), ("pace",)),
        (replace(QUIET, pace={0: QUIET.pace[0], 1: (95e-6, 60e-6, 60e-6)}), ("pace",)),
        (replace(QUIET, pace={0: QUIET.pace[0], 1: (60e-6, 60e-6, 95e-6)}), ("pace",)),
        (replace(QUIET, pace={0: (float("nan"), 60e-6, float("nan")), 1: QUIET.pace[1]}), ()),
        (replace(QUIET, pace={0: QUIET.pace[0]}), ("pace not known",)),
        (replace(QUIET, pace={}), ("pace not known",)),
        (replace(QUIET, steal=0.05), ("steal",)),
        (replace(QUIET, others=0.5), ("other programs",)),
        (replace(QUIET, steal=0.05, others=0.5), ("steal", "other programs")),
        (replace(QUIET, steal=float("nan"), others=float("nan")), ()),
    ],
)
def test_a_replay_is_kept_if_the_machine_is_as_it_was_when_its_costs_were_measured(seen, said):
    assert causes(seen, QUIET) == said


def test_a_machine_that_is_slow_throughout_is_no_cause():
    slow = Covariates({0: (100e-6,) * 3, 1: (100e-6,) * 3})
    assert causes(slow, slow) == ()
    assert causes(QUIET, slow) == ("pace",)


def test_samples_belong_to_before_during_and_after():
    at = np.arange(0.0, 3.0, 0.025)
    seconds = np.where(at < 1.0, 50e-6, np.where(at < 2.0, 60e-6, 70e-6))
    samples = np.column_stack([np.zeros(len(at)), at, seconds])
    found = covariates_of(samples, 1.0, 2.0, 0.01, 0.02)
    assert found == Covariates({0: pytest.approx((50e-6, 60e-6, 70e-6))}, 0.01, 0.02)
    seconds[50] = 1.0  # an interrupt in one sample of 40
    interrupted = covariates_of(np.column_stack([np.zeros(len(at)), at, seconds]), 1.0, 2.0)
    assert interrupted.pace[0][1] == pytest.approx(60e-6, rel=0.03)


def entries(latency: np.ndarray, paces: list[float]) -> tuple[list[object], np.ndarray]:
    """Make rounds of costs and a replay, a second each: the pace of each second, and the latency of each replay."""
    found: list[object] = []
    for number, each in enumerate(latency):
        found.append(Calibrated("redis", number, BackendCosts(client_cpu=1e-4), 2 * number, 2 * number + 1, 0.0, 0.0))
        times = (2 * number + 1.0, 2 * number + 2.0, 0.0, 0.0)
        found.append(Replayed("redis", number, 0.1, 1.0, 1.0, 0, np.full(9, each), 1.0, 1, 0, {}, 1.0, *times))
    at = np.arange(0.0, len(paces), 0.025) + 0.01
    seconds = np.array(paces)[at.astype(int)]
    return found, np.column_stack([np.zeros(len(at)), at, seconds])


def test_who_is_dropped_does_not_depend_on_an_outcome():
    # By round, beside the costs: as fast, slower during, slower after, faster during, as fast.
    paces = [60e-6, 60e-6, 60e-6, 95e-6, 60e-6, 60e-6, 95e-6, 60e-6, 60e-6, 60e-6]
    sets = []
    for latency in ([1.0, 2.0, 3.0, 4.0, 5.0], [5.0, 4.0, 3.0, 2.0, 1.0], [1.0, 1.0, 9.0, 1.0, 9.0]):
        found = disturbances(*entries(np.array(latency), paces))
        sets.append(found)
    assert sets[0] == sets[1] == sets[2]
    assert [bool(wrong) for wrong in sets[0].values()] == [False, True, True, True, False]


def test_a_replay_is_dropped_with_the_costs_that_it_is_compared_with():
    found, samples = entries(np.ones(2), [60e-6] * 4)
    found[0] = replace(found[0], others=0.5)
    found.append(Failed("redis", "it died"))
    assert kept_rounds(found, samples) == {("redis", 0.1): 1}
    assert disturbances(found, samples) == {1: ("other programs while the costs were measured",), 3: ()}


def test_the_sampler_samples_until_it_is_left(tmp_path):
    path = tmp_path / "samples"
    with sampled(path, ()):
        while len(read_samples(path)) < 3:
            time.sleep(0.01)
    rows = read_samples(path)
    assert set(rows[:, 0]) == {-1.0}
    assert (np.diff(rows[:, 1]) > 0).all()
    assert (rows[:, 2] > 0).all()
    with path.open("a") as file:
        file.write("0 12.5")  # a line that is being written
    assert len(read_samples(path)) == len(rows)


def test_shares_are_those_of_tasks_that_take_no_part():
    before = Account(100.0, 1.0, {"1": (50.0, False), "2": (40.0, True)})
    now = Account(101.0, 1.1, {"1": (50.2, False), "2": (40.5, True), "3": (0.1, False)})
    assert now.shares_since(before, 2.0) == pytest.approx((0.05, 0.15))  # 0.2 ticks more are no more than noise
    ended = Account(101.5, 1.0, {"1": (50.0, False), "2": (40.5, True)})  # somebody worked for a second, and is gone
    assert ended.shares_since(before, 2.0) == pytest.approx((0.0, 0.5 - TICKS))
    unknown = Account(float("nan"), float("nan"), {})
    assert all(math.isnan(share) for share in unknown.shares_since(unknown, 2.0))


def test_children_of_those_that_take_part_are_no_others_when_they_have_ended():
    before = Account(100.0, 1.0, {"1": (40.0, True), "2": (0.3, True)}, 7.0)
    now = Account(101.5, 1.0, {"1": (40.5, True)}, 8.3)  # the second had worked 0.3 s before, and 1 s since
    assert now.shares_since(before, 2.0) == (0.0, 0.0)
    assert now._replace(ended=7.0).shares_since(before, 2.0) == pytest.approx((0.0, 0.5 - TICKS))


@pytest.mark.skipif(sys.platform != "linux", reason="Linux counts it")
def test_a_child_that_has_ended_is_in_the_account_of_its_parent():
    meter = Meter(())
    work = "import time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
    subprocess.run([sys.executable, "-c", work], check=True)
    now = meter.look()
    assert now.ended - meter._seen.ended >= 0.29


@pytest.mark.skipif(sys.platform != "linux", reason="Linux counts it")
def test_this_process_and_those_that_are_named_take_part():
    tasks = Meter(()).look().tasks
    assert tasks[str(os.getpid())][1]
    assert not tasks["1"][1]
    assert Meter((1,)).look().tasks["1"][1]
