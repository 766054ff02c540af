"""`validate`: what it does with servers, with costs, and with a profile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import msgspec
import numpy as np
import pytest

from ratesim.errors import ConfigurationError, ServerDiedError
from ratesim.simulation.cost_model.calibrate import machine
from ratesim.simulation.cost_model.profile import BackendCosts, Coldness, Cost, Profile
from ratesim.simulation.validation import validate as validation
from ratesim.simulation.validation.comparison import Figures, Observation, Validation
from ratesim.simulation.validation.hybrid_processes import HybridFigure
from ratesim.simulation.validation.rounds import LOADS, Failed, Replayed, _count_overtaken
from ratesim.simulation.validation.validate import CANDIDATES, pool, profile_to_store_in, store_errors, thin, validate
from traffic import Trace
from traffic.live_replay import LiveResult

COLD = Coldness(
    idle=(0.0, 1e-3, 2e-3, 4e-3, 8e-3),
    **{name: tuple(k * i * 1e-5 for i in range(5)) for k, name in enumerate(("wake", "ask", "answer", "after", "served"))},
)


def test_pooled_costs_are_the_medians_of_every_number():
    several = [
        BackendCosts(
            client_cpu=scale * 1e-4,
            client=Cost(fixed=scale * 1e-5, item=2e-5),
            cold=msgspec.structs.replace(COLD, ask=tuple(scale * each for each in COLD.ask)),
            speedup={1: 1.0, 4: scale},
            concurrency=int(scale),
            locks=True,
            server="valkey 9",
        )
        for scale in (1.0, 2.0, 30.0)
    ]
    middle = pool(several)
    assert middle == several[1]
    assert pool(several[:1]) == several[0]
    assert pool(several[:2]).client_cpu == pytest.approx(1.5e-4)


def test_pooled_coldness_is_looked_up_at_the_same_gaps():
    """Rounds in which neighboring gaps were told apart, or not; and one without."""
    straight = (0.0, 1e-5, 2e-5, 4e-5)
    fine = Coldness(idle=(0.0, 1e-3, 2e-3, 4e-3), **dict.fromkeys(("wake", "ask", "answer", "after", "served"), straight))
    coarse = Coldness(idle=(0.0, 4e-3), **dict.fromkeys(("wake", "ask", "answer", "after", "served"), (0.0, 4e-5)))
    pooled = pool([BackendCosts(client_cpu=1e-4, cold=cold) for cold in (coarse, fine, None)]).cold
    assert pooled is not None
    assert pooled.idle == fine.idle
    assert pooled.served == pytest.approx(straight)
    assert pool([BackendCosts(client_cpu=1e-4)]).cold is None


def test_a_thinned_coldness_lacks_every_other_gap_but_for_the_ends():
    thinned = thin(BackendCosts(client_cpu=1e-4, cold=COLD)).cold
    assert thinned is not None
    assert thinned.idle == (0.0, 2e-3, 8e-3)
    assert thinned.ask == (COLD.ask[0], COLD.ask[2], COLD.ask[4])
    plain = BackendCosts(client_cpu=1e-4)
    assert thin(plain) == plain


def test_requests_that_overtake_each_other_are_counted_by_key():
    trace = Trace([0.0, 1.0, 2.0, 3.0], [0, 1, 0, 1], ["a", "b"])
    finished = np.array([9.0, 5.0, 8.0, 6.0])  # a's second before its first; b in order
    nothing = np.zeros(4, bool)
    result = LiveResult(trace.time, trace.time, finished, [], nothing, {}, 0, 10, nothing, trace.time)
    assert _count_overtaken(trace, result) == 1


def found(names: list[str], ratios: dict[str, float], rounds: int = 8) -> Validation:
    """Make a validation in which every figure of a candidate is off by the same ratio."""
    live = Figures(1e-3, 2e-3, 3e-3, 5000.0, 500)
    return Validation(
        [
            Observation(
                name, load, turn, live, Figures(*(ratios.get(name, 1.0) * each for each in astuple(live)), 500, load)
            )
            for name in names
            for turn in range(rounds)
            for load in (1.0, *LOADS)
        ]
    )


def astuple(figures: Figures) -> tuple[float, ...]:
    return figures.p50, figures.p95, figures.p99, figures.throughput


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A profile of this machine, stored where the simulation looks for it."""
    path = tmp_path / "profile.json"
    monkeypatch.setenv("RATESIM_PROFILE", str(tmp_path / "none.json"))
    msgspec.structs.replace(Profile.load(), machine=machine()).save(path)
    monkeypatch.setenv("RATESIM_PROFILE", str(path))
    return path


def test_the_errors_of_a_verdict_are_stored_in_the_profile(stored: Path):
    done = store_errors(found(list(CANDIDATES), {"redis": 1.04, "postgres off": 1.2}), profile_to_store_in())
    backends = Profile.load(stored).backends
    assert [each.utilization for each in backends["redis"].errors] == list(LOADS)
    assert backends["redis"].errors[0].p99 == pytest.approx(0.04)
    assert backends["postgres"].errors[0].p50 == pytest.approx(0.2)  # the worst of its configurations
    assert backends["memory"].errors == ()
    assert done == dict.fromkeys(("redis", "postgres"), "errors stored up to 85 % utilization")


def test_a_backend_without_a_verdict_keeps_its_errors(stored: Path):
    store_errors(found(list(CANDIDATES), {}), profile_to_store_in())
    before = Profile.load(stored)
    done = store_errors(found(["postgres durable"], {}), profile_to_store_in())
    assert done["postgres"].startswith("not stored: there is no verdict on all of its configurations")
    done = store_errors(found(["redis"], {}, rounds=3), profile_to_store_in())
    assert done["redis"].startswith("not stored")
    assert Profile.load(stored) == before


def test_costs_of_another_machine_get_no_errors(stored: Path):
    profile = Profile.load(stored)
    away = msgspec.structs.replace(profile.backends["redis"], machine="another")
    msgspec.structs.replace(profile, backends={**profile.backends, "redis": away}).save(stored)
    done = store_errors(found(["redis"], {}), profile_to_store_in())
    assert "costs are of another machine (another)" in done["redis"]
    assert Profile.load(stored).backends["redis"].errors == ()


def test_a_profile_that_is_missing_or_of_another_machine_is_refused(stored: Path, monkeypatch: pytest.MonkeyPatch):
    msgspec.structs.replace(Profile.load(stored), machine="another").save(stored)
    with pytest.raises(ConfigurationError, match=r"of another machine \(another; .*run `ratesim calibrate`"):
        profile_to_store_in()
    monkeypatch.setenv("RATESIM_PROFILE", str(stored.with_name("none.json")))
    with pytest.raises(ConfigurationError, match=r"no profile is stored at .*run `ratesim calibrate` first"):
        profile_to_store_in()


@pytest.mark.servers
def test_a_small_run_has_replays_beside_their_simulation(tmp_path: Path):
    out = tmp_path / "table.md"
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    validated = validate(out, candidates=["redis"], rounds=1, budget=1.0, effort=0.2)
    assert sorted({each.load for each in validated.observations}) == [*LOADS, 1.0]
    assert {each.round for each in validated.observations} == {0}
    for each in validated.observations:
        assert abs(each.simulated.admitted / each.live.admitted - 1.0) <= each.swapped + 1e-12
        for side in (each.live, each.simulated):
            assert all(value > 0 for value in astuple(side))
        assert each.segments["served"] > 0
        assert each.simulated.utilization > 0
        assert each.segments["total"] == pytest.approx(each.live.p50)
    assert out.read_text() == validated.markdown()
    assert "cannot tell, 0 rounds kept" in out.read_text() or "cannot tell, 1 round kept" in out.read_text()
    assert cores is None or os.sched_getaffinity(0) == cores


@pytest.mark.servers
def test_a_candidate_whose_server_dies_is_named_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    kill = validation.in_process

    def strike(function, plan, entries, samples):
        os.kill(plan.candidates[0].pids[0], signal.SIGKILL)
        kill(function, plan, entries, samples)

    monkeypatch.setattr(validation, "in_process", strike)
    names = ["redis", "postgres off"]
    validated = validate(tmp_path / "table.md", candidates=names, rounds=1, budget=1.0, effort=0.2)
    assert validated.failures.keys() == {"redis"}
    assert "was ended by SIGKILL" in validated.failures["redis"]
    assert validated.candidates == ["postgres off"]
    assert f"- redis: not compared to the end: {validated.failures['redis']}." in (tmp_path / "table.md").read_text()
    with pytest.raises(ServerDiedError, match="was ended by SIGKILL"):
        validate(tmp_path / "none.md", candidates=names[:1], rounds=1, budget=1.0, effort=0.2)
    assert not (tmp_path / "none.md").exists()


def test_hybrids_have_a_table_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def compared(server, rounds, ends):
        assert ends > time.monotonic()
        values = [(each,) * rounds for each in (100.0, 101.0, 1.01)]
        return [HybridFigure(f"hybrid of {server}", "store operations", *values)]

    monkeypatch.setattr(validation, "compare_hybrids", compared)
    monkeypatch.setattr(validation.servers, "valkey", lambda: nullcontext("valkey"))
    validated = validate(tmp_path / "table.md", candidates=["hybrid"], rounds=3)
    row = "| hybrid of valkey | store operations | 3 of 3 | 100 | 101 | 1.01 | 1.01 to 1.01 | 1.01 | yes (15 %) |"
    assert row in (tmp_path / "table.md").read_text().splitlines()
    assert not validated.failures


def test_hybrids_that_fail_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(server, rounds, ends):
        raise ServerDiedError(f"{server} was ended by SIGKILL")

    monkeypatch.setattr(validation, "compare_hybrids", fail)
    monkeypatch.setattr(validation.servers, "valkey", lambda: nullcontext("valkey"))
    with pytest.raises(ServerDiedError, match="valkey was ended by SIGKILL"):
        validate(tmp_path / "table.md", candidates=["hybrid"])


def test_many_simulations_on_all_cores_are_those_of_one_process_in_order(monkeypatch: pytest.MonkeyPatch):
    costs = BackendCosts(client_cpu=1e-4, client=Cost(fixed=5e-5, item=2e-5), fixed=3e-5, item=1e-5, cold=COLD)
    nothing = np.zeros(1)
    jobs = [
        validation._Job(
            "redis", costs, Replayed("redis", 0, 0.1, rate, 0.1, 7, nothing, 0.0, 0, 0, {}, 1.0, 0.0, 0.0, 0.0, 0.0)
        )
        for rate in (500.0, 1000.0, 2000.0)
    ]
    one = validation._simulate_all(jobs)
    assert [each.throughput for each in one] == pytest.approx([500.0, 1000.0, 2000.0], rel=0.3)
    monkeypatch.setattr(validation, "MANY", 2)
    assert validation._simulate_all(jobs) == one


def test_a_failure_is_an_entry_that_has_no_replay():
    assert validation._compare([Failed("redis", "it died")], np.empty((0, 3)), lambda *_: None) == []


@pytest.mark.servers
@pytest.mark.skipif(sys.platform == "win32", reason="signals are of POSIX")
def test_ctrl_c_stops_the_servers_writes_what_is_there_and_ends(tmp_path: Path):
    out = tmp_path / "table.md"
    code = (
        "from pathlib import Path; from ratesim.simulation.validation.validate import validate; "
        f"validate(Path({str(out)!r}), candidates=['redis'], effort=0.2)"
    )
    work = tmp_path / "work"
    work.mkdir()
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, env={**os.environ, "TMPDIR": str(work)})
    while not any(path.stat().st_size > 10_000 for path in work.glob("ratesim-validate-*/entries")):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode != 0
    assert b"KeyboardInterrupt" in said
    assert "Interrupted: partial." in out.read_text()
    while list(work.iterdir()):  # its supervisor removes what is left
        time.sleep(0.05)
