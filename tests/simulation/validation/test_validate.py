"""Validation: how the two sides are compared, and that it ends cleanly."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ratesim.servers import Server, ServerDiedError
from ratesim.simulation.validation import validate as validation
from ratesim.simulation.validation.comparison import Comparison, Validation
from ratesim.simulation.validation.validate import LOADS, Observation, compare, validate


def compared(simulated: float = 1e-3, admitted: int = 500, swapped: int = 0) -> list[Comparison]:
    """Three replays at saturation and at each load, all live ones alike: 1 ms, 500 admitted."""
    live = Observation(np.full(100, 1e-3), 1000.0, 500, swapped)
    loads = 1 + len(LOADS)
    return compare("redis", [[live] * 3] * loads, [[Observation(np.full(100, simulated), 1000.0, admitted)] * 3] * loads)


def test_a_simulation_that_says_what_was_seen_is_within() -> None:
    rows = compared()
    assert [row.figure for row in rows] == ["throughput", *["p50", "p95", "p99", "admitted"] * len(LOADS)]
    assert all(row.is_within and row.ratio == 1.0 and row.middle_half == (1.0, 1.0) for row in rows)


@pytest.mark.parametrize(("factor", "within"), [(1.14, True), (1.16, False), (0.86, True), (0.84, False)])
def test_a_latency_is_within_15_percent_and_not_beyond(factor: float, within: bool) -> None:
    rows = compared(simulated=1e-3 * factor)
    assert {row.is_within for row in rows if row.figure == "p50"} == {within}


def test_each_round_is_compared_with_itself_and_the_noise_is_said() -> None:
    """The machine is half as fast in the second round and a third as fast in the third; the simulation knows."""
    slower = Comparison("redis", "30%", "p50", (1e-3, 2e-3, 3e-3), (1.1e-3, 2.2e-3, 3.3e-3))
    assert (slower.ratio, slower.is_within, slower.is_noisy) == (pytest.approx(1.1), True, False)
    wild = Comparison("redis", "30%", "p50", (1e-3, 1e-3, 1e-3), (0.5e-3, 1e-3, 2e-3))
    assert (wild.ratio, wild.middle_half, wild.is_noisy) == (1.0, pytest.approx((0.75, 1.5)), True)


def test_admitted_counts_are_equal_but_for_requests_that_overtook_each_other() -> None:
    assert compared()[-1].is_within
    assert not compared(admitted=501)[-1].is_within
    assert compared(admitted=501, swapped=1)[-1].is_within


def test_a_miss_is_reported_with_what_was_measured_of_its_cause() -> None:
    noisy = Comparison("redis", "85%", "p95", (1e-3, 3e-3), (5e-3, 5e-3))
    found = Validation(
        [noisy], {"redis": 2}, {"redis": 0.03}, own={"redis": 1.9}, others={"redis": 0.4}, pace={"redis": 1.8}
    )
    table = found.markdown()
    assert re.search(r"\| redis \| 85% \| p95 \| 2\.00 ms \| 5\.00 ms \| 3\.33 \| 2\.50 to 4\.17 \| no", table)
    for cause in (
        "1 figures not within",
        "the rounds are further apart",
        "other programs used 40%",
        "1.8 times as long",
        "+3%",
    ):
        assert cause in table, cause
    assert "partial" not in table
    found.partial = True
    assert "partial" in found.markdown()


def test_requests_that_overtake_each_other_are_counted_by_key() -> None:
    from traffic import Trace
    from traffic.live_replay import LiveResult

    trace = Trace([0.0, 1.0, 2.0, 3.0], [0, 1, 0, 1], ["a", "b"])
    finished = np.array([9.0, 5.0, 8.0, 6.0])  # a's second before its first; b in order
    result = LiveResult(trace.time, trace.time, finished, [], np.zeros(4, bool), {}, 0, 10, np.zeros(4, bool), trace.time)
    assert validation._count_overtaken(trace, result) == 1


@pytest.mark.servers
def test_live_and_simulated_admit_the_same(tmp_path: Path) -> None:
    out = tmp_path / "table.md"
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    found = validate(out, candidates=["redis"], rounds=1, budget=1.0, seconds=0.1)
    counts = [row for row in found.comparisons if row.figure == "admitted"]
    assert len(counts) == len(LOADS)
    assert all(row.is_within for row in counts)
    assert all(value > 0 for row in found.comparisons for value in (*row.live, *row.simulated))
    assert out.read_text() == found.markdown()
    assert cores is None or os.sched_getaffinity(0) == cores


@pytest.mark.servers
def test_a_candidate_whose_server_dies_is_not_compared_and_the_others_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidate = validation._candidate
    names = ["redis", "postgres, synchronous_commit off"]

    async def strike(name: str, server: Server, *more: Any) -> None:
        if name == "redis":
            asyncio.get_running_loop().call_later(0.5, os.kill, server.pids[0], signal.SIGKILL)
            await candidate(name, server, *more)
        else:
            more[-1].comparisons += compared()

    monkeypatch.setattr(validation, "_candidate", strike)
    found = validate(tmp_path / "table.md", candidates=names, budget=60.0)
    assert found.failures.keys() == {"redis"}
    assert "was ended by SIGKILL" in found.failures["redis"]
    assert len(found.comparisons) == len(compared())
    assert f"- redis: not compared: {found.failures['redis']}." in (tmp_path / "table.md").read_text()
    with pytest.raises(ServerDiedError, match="was ended by SIGKILL"):
        validate(tmp_path / "none.md", candidates=names[:1], budget=60.0)
    assert not (tmp_path / "none.md").exists()


@pytest.mark.servers
@pytest.mark.skipif(sys.platform == "win32", reason="signals are of POSIX")
def test_ctrl_c_stops_the_server_and_ends(tmp_path: Path) -> None:
    code = "from ratesim.simulation.validation.validate import validate; validate(candidates=['redis'])"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stderr=subprocess.PIPE, env={**os.environ, "TMPDIR": str(tmp_path)}
    )
    while not list(tmp_path.glob("ratesim-valkey-*")):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode != 0
    assert b"KeyboardInterrupt" in said
    while list(tmp_path.iterdir()):  # its supervisor removes what is left
        time.sleep(0.05)
