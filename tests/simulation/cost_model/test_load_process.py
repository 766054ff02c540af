"""Load process: a function runs alone, its result or error comes back, and its process is gone whatever happens."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ratesim.errors import ServerDiedError, StorageConnectionError
from ratesim.servers import Server, valkey
from ratesim.simulation.cost_model import load_process
from ratesim.simulation.cost_model.load_process import (
    LoadProcessError,
    in_process,
    run_in_process,
    split_cores,
    started_ahead,
)
from traffic.live_replay import running_selector

CORES = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
two_cores = pytest.mark.skipif(len(CORES) < 2, reason="one core cannot be split")


# -- what runs in the process -----------------------------------------------------------------------------------------


async def look_around(value: object) -> dict[str, Any]:
    print("what a function prints is no result")
    return {
        "value": value,
        "pid": os.getpid(),
        "turns": running_selector().turns,
        "frozen": gc.get_freeze_count(),
        "cores": os.sched_getaffinity(0) if CORES else set(),
        "debug": asyncio.get_running_loop().get_debug(),
    }


def refuse(error: Exception) -> None:
    raise error


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def wait(place: Path, stubborn: bool = False) -> None:
    """Say which process this is, wait, and clean up where it is interrupted."""
    (place / "pid").write_text(str(os.getpid()))
    (place / "pid").rename(place / "started")
    while True:
        try:
            time.sleep(3600.0)
        except KeyboardInterrupt:
            if not stubborn:
                (place / "cleaned").touch()
                raise


async def wait_in_loop(place: Path) -> None:
    try:
        (place / "pid").write_text(str(os.getpid()))
        (place / "pid").rename(place / "started")
        await asyncio.Event().wait()
    finally:
        (place / "cleaned").touch()


# -- what happens to it -----------------------------------------------------------------------------------------------


def pid_of(place: Path) -> int:
    """Wait for the process that waits, and return its identifier."""
    until(lambda: (place / "started").exists())
    return int((place / "started").read_text())


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60.0
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_coroutine_function_has_a_process_and_a_loop_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pickle.py").write_text("raise SystemExit('a module of the directory that somebody happens to be in')")
    monkeypatch.chdir(tmp_path)
    found = in_process(look_around, {"any": ["value"]})
    assert found["value"] == {"any": ["value"]}
    assert found["pid"] != os.getpid()
    assert is_gone(found["pid"])
    assert found["frozen"] > 0
    assert not found["debug"]
    if len(CORES) > 1:
        assert found["cores"] == set(sorted(CORES)[: len(CORES) // 2])
        assert os.sched_getaffinity(0) == CORES


def test_an_error_comes_back_as_itself() -> None:
    with pytest.raises(StorageConnectionError, match=r"^nothing listens; start it$") as raised:
        in_process(refuse, StorageConnectionError("nothing listens; start it", sent=False))
    assert raised.value.sent is False


def test_an_unexpected_error_brings_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError) as raised:
        refuse(ZeroDivisionError("of this place"))
    error, _ = pickle.loads(load_process._packed(raised.value))
    assert isinstance(error, ZeroDivisionError)
    assert "in refuse" in error.__notes__[0]


def test_an_error_that_cannot_be_pickled_is_described_in_one_line() -> None:
    class LocalError(Exception):
        pass

    error, _ = pickle.loads(load_process._packed(LocalError("of this\nplace")))
    assert isinstance(error, LoadProcessError)
    assert str(error) == "LocalError: of this place"


def test_a_process_that_ends_without_a_result_is_an_error_that_says_how() -> None:
    with pytest.raises(LoadProcessError, match="was ended by SIGKILL"):
        in_process(die)


def test_a_function_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    start = load_process._start
    monkeypatch.setattr(load_process, "_start", lambda *of: started.append(start(*of)) or started[0])
    with pytest.raises(LoadProcessError, match=r"not done after 0.2 s"):
        in_process(wait, tmp_path, timeout=0.2)
    assert started[0].returncode is not None


def test_processes_that_were_started_ahead_are_used_once_and_ended() -> None:
    with started_ahead(look_around, 2):
        ready = [each.pid for each in load_process._ahead[look_around]]
        assert in_process(look_around, 1)["pid"] in ready
        assert [is_gone(pid) for pid in ready] == [False, True]
        assert len(load_process._ahead[look_around]) == 1
    assert all(map(is_gone, ready))
    assert load_process._ahead == {}


async def test_one_that_does_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_process, "GRACE", 0.1)
    task = asyncio.create_task(run_in_process(wait, tmp_path, True))
    pid = await asyncio.to_thread(pid_of, tmp_path)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert is_gone(pid)
    assert not (tmp_path / "cleaned").exists()


@pytest.mark.parametrize(("sent", "function"), [(signal.SIGINT, "wait_in_loop"), (signal.SIGKILL, "wait")])
def test_the_process_ends_with_its_caller(tmp_path: Path, sent: signal.Signals, function: str) -> None:
    script = (
        "import sys; from pathlib import Path; import test_load_process; "
        "from ratesim.simulation.cost_model.load_process import in_process; "
        f"in_process(test_load_process.{function}, Path(sys.argv[1]))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    caller = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        pid = pid_of(tmp_path)
        caller.send_signal(sent)
        _, shown = caller.communicate(timeout=60)
    finally:
        caller.kill()
    until(lambda: is_gone(pid))
    assert (tmp_path / "cleaned").exists()
    assert caller.returncode == -sent
    assert "test_load_process.py" not in shown  # no traceback but the caller's own


@pytest.mark.servers
def test_it_ends_when_its_server_dies(tmp_path: Path) -> None:
    def strike(server: Server) -> None:
        pid_of(tmp_path)
        os.kill(server.pids[0], signal.SIGKILL)

    with valkey() as server:
        threading.Thread(target=strike, args=(server,)).start()
        with pytest.raises(ServerDiedError, match="was ended by SIGKILL"):
            in_process(wait, tmp_path, server=server)
    assert is_gone(pid_of(tmp_path))


@two_cores
def test_a_server_has_the_other_half_of_the_cores() -> None:
    cores = sorted(CORES)
    half = len(cores) // 2
    with subprocess.Popen(["/bin/sleep", "3600"]) as server:
        try:
            with split_cores([server.pid]) as split:
                assert split
                assert os.sched_getaffinity(0) == set(cores[:half])
                assert os.sched_getaffinity(server.pid) == set(cores[half:])
                with split_cores([server.pid]):  # the halves of all cores, not of one half
                    assert os.sched_getaffinity(0) == set(cores[:half])
                    assert os.sched_getaffinity(server.pid) == set(cores[half:])
                assert os.sched_getaffinity(0) == set(cores[:half])
            assert os.sched_getaffinity(0) == CORES
            assert load_process._cores == ()
        finally:
            server.kill()


def test_cores_are_not_split_without_a_server_or_with_one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    with split_cores([]) as split:
        assert not split
    monkeypatch.setattr(load_process, "_cores", (0,))
    with split_cores([os.getpid()]) as split:
        assert not split
