"""A machine that others disturb is told by what a replay does not measure, on made figures."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ratesim.simulation.validation.covariates import Covariates
from ratesim.simulation.validation.disturbance import disturbance

EVEN = (5e-5, 5e-5, 5e-5)
QUIET = Covariates({0: EVEN, 1: EVEN}, 0.0, 0.01)
WAKES = np.full(1000, 2e-4)


def test_a_machine_that_is_left_alone_disturbs_nothing():
    assert disturbance(QUIET, QUIET, WAKES) == ""
    assert disturbance(Covariates({0: EVEN, 1: (5e-5, 5.5e-5, 6e-5)}), QUIET, WAKES) == ""
    assert disturbance(QUIET, QUIET, np.zeros(0)) == ""  # a loop that never slept
    unknown = Covariates(QUIET.pace, math.nan, math.nan)
    assert disturbance(unknown, unknown, WAKES) == ""  # where the system does not tell


@pytest.mark.parametrize("core", [0, 1])
def test_a_core_that_was_slower_is_told_on_either_side(core):
    slow = Covariates({**QUIET.pace, core: (5e-5, 1.2e-4, math.nan)})
    assert disturbance(slow, QUIET, WAKES) == "the same piece of work took 1 to 2.4 times as long as usual"


def test_a_neighbor_is_told_by_the_share_that_it_used():
    busy = Covariates(QUIET.pace, 0.0, 0.4)
    assert disturbance(busy, QUIET, WAKES) == "other programs used 40 % of the machine"
    assert disturbance(QUIET, busy, WAKES) == "other programs used 40 % of the machine, while its costs were measured"


def test_a_hypervisor_is_told_by_what_it_took():
    assert disturbance(Covariates(QUIET.pace, 0.05), QUIET, WAKES) == "the hypervisor gave 5 % of the machine to others"


def test_a_pace_that_nobody_sampled_leaves_it_open():
    assert disturbance(Covariates({}), Covariates({}), WAKES) == "pace not known"


def test_late_wake_ups_are_told_at_the_median_and_at_the_end():
    late = WAKES.copy()
    late[:600] = 4e-3
    assert disturbance(QUIET, QUIET, late) == "the process was woken 4 ms late at the median"
    late = WAKES.copy()
    late[:20] = 0.036
    assert disturbance(QUIET, QUIET, late) == "the process was woken 36 ms late or later in one of 100 sleeps"
    late = WAKES.copy()
    late[:5] = 0.036  # rarer than a 99th percentile
    assert disturbance(QUIET, QUIET, late) == ""
