"""What `ratesim calibrate` prints."""

from __future__ import annotations

import msgspec
import pytest

from ratesim.cli.calibration_tables import calibration_text, repeat_text
from ratesim.simulation.cost_model.profile import BackendCosts, Check, Cost, Profile

CHECKS = (
    Check(load=0.1, rate=1234.0, live=(1e-3, 2e-3), simulated=(1.1e-3, 2e-3)),
    Check(load=0.4, rate=4936.0, live=(2e-3, 4e-3), simulated=(2e-3, 3.2e-3)),
)
REDIS = BackendCosts(
    client_cpu=1e-4,
    client=Cost(fixed=30e-6, item=10e-6),
    fixed=20e-6,
    item=15e-6,
    latency_p50=2e-4,
    checks=CHECKS,
    pieces=100,
    disturbed=7,
)
POSTGRES = msgspec.structs.replace(REDIS, commit=Cost(fixed=7e-4), checks=(), disturbed=51)
MEMORY = BackendCosts(client_cpu=2e-6, latency_p50=2e-6)
PROFILE = Profile(machine="m", measured="d", versions={}, backends={"memory": MEMORY, "redis": REDIS, "postgres": POSTGRES})


def test_the_table_has_the_costs_what_was_dropped_and_the_residual() -> None:
    heading, memory, redis, postgres, *_ = calibration_text(PROFILE).splitlines()
    assert heading.split("  ")[-1].strip() == "residual"
    assert memory.split() == ["memory", "2", "µs", "2", "µs", "32", "µs"]
    assert redis.endswith("7 of 100   20%"), "the largest of four differences, by its size"
    assert "0.19 ms" in redis
    assert "0.7 ms" in postgres
    assert postgres.endswith("51 of 100")


def test_each_load_that_the_costs_were_held_against_has_a_line() -> None:
    lines = [line for line in calibration_text(PROFILE).splitlines() if "saturation" in line]
    assert lines == [
        "redis at 10% of saturation (1,234/s): p50 1 ms live, 1.1 ms simulated (+10%); p95 2 ms live, 2 ms simulated (+0%)",
        "redis at 40% of saturation (4,936/s): p50 2 ms live, 2 ms simulated (+0%); p95 4 ms live, 3.2 ms simulated (-20%)",
    ]


def test_a_backend_that_was_forced_is_named_with_the_remedy() -> None:
    assert calibration_text(PROFILE).splitlines()[-1].startswith("postgres was measured while other programs were at work")
    assert "postgres" in PROFILE.describe().rpartition("busy with other work")[2]
    assert "busy" not in msgspec.structs.replace(PROFILE, backends={"redis": REDIS}).describe()


def test_a_second_run_is_printed_beside_the_first() -> None:
    assert repeat_text(PROFILE, PROFILE).endswith("all figures are within 10% of the profile before")
    slower = msgspec.structs.replace(REDIS, latency_p50=3e-4)
    other = msgspec.structs.replace(PROFILE, backends={**PROFILE.backends, "redis": slower})
    text = repeat_text(PROFILE, other)
    (marked,) = [line for line in text.splitlines() if line.endswith("above 10%")]
    assert " ".join(marked.split()) == "redis one decision, one at a time 0.2 ms 0.3 ms +50% above 10%"
    assert text.endswith("1 of 12 figures differ by more than 10% from the profile before")
    elsewhere = msgspec.structs.replace(PROFILE, machine="another")
    assert repeat_text(elsewhere, PROFILE).startswith("not compared")


@pytest.mark.parametrize(("simulated", "residual"), [((1.1e-3, 2e-3), 0.1), ((1e-3, 1e-3), 0.5), ((1e-3, 2e-3), 0.0)])
def test_the_residual_is_the_largest_difference(simulated: tuple[float, float], residual: float) -> None:
    check = Check(load=0.1, rate=100.0, live=(1e-3, 2e-3), simulated=simulated)
    assert msgspec.structs.replace(REDIS, checks=(check,)).residual == pytest.approx(residual)
    assert MEMORY.residual == 0.0
