"""`ratesim calibrate`: what it asks for, what it prints, and how it refuses. The measurement is tested beside its module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from calling import command, refused

from ratesim.simulation.cost_model import calibrate as calibration
from ratesim.simulation.cost_model.profile import Profile
from ratesim.simulation.cost_model.quiet_rounds import NoisyMachineError
from ratesim.simulation.validation.prediction import predict


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Store a profile in place of a measurement, each one's redis slower; returns what was asked for."""
    calls: list[dict[str, Any]] = []

    def calibrate(out: Path | None, progress: object, url: str | None, rtt: float | None, **options: Any) -> Profile:
        calls.append({"out": out, "url": url, "rtt": rtt, **options})
        shipped = Profile.load(Path(calibration.__file__).parent / "profiles" / "shipped.json")
        redis = shipped.backends["redis"]
        slower = msgspec.structs.replace(redis, latency_p50=(1.0 + 0.2 * len(calls)) * redis.latency_p50)
        profile = msgspec.structs.replace(shipped, backends={**shipped.backends, "redis": slower})
        assert out is not None
        profile.save(out)
        return profile

    monkeypatch.setattr(calibration, "calibrate", calibrate)
    return calls


def test_a_calibration_is_printed_and_a_second_one_beside_it(asked: list[dict[str, Any]], tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    first = command("calibrate", "--out", path, "--rounds", "7", "--rtt", "0.4ms")
    assert first.returncode == 0, first.stderr
    assert asked == [{"out": path, "url": None, "rtt": 4e-4, "rounds": 7, "force": False, "predict": predict}]
    assert "p50 alone" in first.stdout
    assert first.stdout.endswith(f"stored in {path}\n")
    second = command("calibrate", "--out", path, "--force")
    assert asked[1]["rounds"] == 5
    assert asked[1]["force"]
    *_, verdict = second.stdout.splitlines()
    assert verdict.startswith("1 of ")
    assert verdict.endswith("differ by more than 10% from the profile before")


def test_a_profile_that_cannot_be_read_is_replaced(asked: list[dict[str, Any]], tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text("{")
    result = command("calibrate", "--out", path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith(f"stored in {path}\n")
    assert Profile.load(path).backends


def test_a_machine_that_is_too_busy_is_one_line_and_leaves_the_profile(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def calibrate(*_: object, **options: object) -> Profile:
        raise NoisyMachineError("51 of 100 pieces were disturbed; use --force")

    monkeypatch.setattr(calibration, "calibrate", calibrate)
    result = command("calibrate", "--out", tmp_path / "p.json")
    assert result.returncode == 70
    assert result.stderr.endswith("ratesim: 51 of 100 pieces were disturbed; use --force\n")
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("rounds", ["0", "-1", "many", "1.5"])
def test_rounds_are_a_whole_number(rounds: str, asked: list[dict[str, Any]], tmp_path: Path) -> None:
    refused(command("calibrate", "--out", tmp_path / "p.json", f"--rounds={rounds}"), "--rounds")
    assert asked == []
