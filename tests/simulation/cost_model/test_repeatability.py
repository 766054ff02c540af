"""A second calibration is held against the first."""

from __future__ import annotations

import msgspec
import pytest

from ratesim.simulation.cost_model.profile import BackendCosts, Coldness, Cost, Profile
from ratesim.simulation.cost_model.repeatability import differences, figures, is_comparable

COLD = Coldness(
    idle=(0.0, 2e-3, 6e-3),
    wake=(0.0, 0.0, 0.0),
    ask=(0.0, 1e-4, 2e-4),
    answer=(0.0, 0.0, 0.0),
    after=(0.0, 9.0, 9.0),
    served=(0.0, 0.0, 2e-4),
)
COSTS = BackendCosts(
    client_cpu=1e-4,
    client=Cost(fixed=30e-6, item=10e-6),
    split=(0.5, 0.25, 0.25),
    cold=COLD,
    round_trip=5e-6,
    fixed=20e-6,
    item=15e-6,
    latency_p50=2e-4,
)
PROFILE = Profile(machine="m", measured="d", versions={"redis": "8"}, backends={"redis": COSTS})


def with_costs(**changes: object) -> Profile:
    return msgspec.structs.replace(PROFILE, backends={"redis": msgspec.structs.replace(COSTS, **changes)})


def test_a_profile_is_compared_with_one_of_the_same_machine_and_versions() -> None:
    assert is_comparable(PROFILE, with_costs(fixed=1.0))
    assert not is_comparable(PROFILE, msgspec.structs.replace(PROFILE, machine="other"))
    assert not is_comparable(PROFILE, msgspec.structs.replace(PROFILE, versions={"redis": "9"}))


def test_the_figures_of_a_backend() -> None:
    found = figures(COSTS)
    assert found["client, batch of 16"] == pytest.approx(190e-6)
    assert found["way and service of 1"] == pytest.approx(40e-6)
    assert found["one decision after 4 ms"] == pytest.approx(0.75 * 40e-6 + 1.5e-4 + 40e-6 + 1e-4)
    assert "commit" not in found
    assert figures(BackendCosts(client_cpu=2e-6, latency_p50=2e-6)) == {"one decision, one at a time": 2e-6}


def test_what_changed_by_more_than_a_tenth_is_marked() -> None:
    found = differences(PROFILE, with_costs(latency_p50=2.3e-4, item=15.5e-6, commit=Cost(fixed=1e-3)))
    assert {each.figure for each in found if each.exceeds} == {"one decision, one at a time"}
    changes = {each.figure: each.change for each in found}
    assert changes["one decision, one at a time"] == pytest.approx(0.15)
    assert changes["service of 16"] == pytest.approx(8 / 260)
    assert "commit" not in changes, "it was not measured before"
    faster = differences(PROFILE, with_costs(latency_p50=1.7e-4))
    assert [each.figure for each in faster if each.exceeds] == ["one decision, one at a time"]
    assert not any(each.exceeds for each in differences(PROFILE, PROFILE))


def test_a_share_that_went_from_the_batch_to_its_operations_is_no_difference_of_either() -> None:
    found = differences(PROFILE, with_costs(client=Cost(fixed=27e-6, item=10.5e-6)))
    assert not any(each.exceeds for each in found)
