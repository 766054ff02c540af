"""The process that keeps the servers: what it does when they, it or their directory misbehave."""

from __future__ import annotations

import os
import signal
import stat
import tempfile
import time
from pathlib import Path

import pytest

from ratesim.errors import ServerDiedError, StorageConnectionError
from ratesim.servers import ServerError, supervisor
from ratesim.servers.supervisor import Account, ProcessSupervisor

DEAF = "trap '' TERM; echo up; while :; do sleep 1; done"


@pytest.fixture
def keeper():
    with ProcessSupervisor("test", stop=signal.SIGTERM) as one:
        yield one


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_directory_and_the_servers_home_are_closed_to_others(keeper):
    for place in (keeper.directory, keeper.home):
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
        assert place.stat().st_uid == os.geteuid()


def test_a_server_sees_its_home_and_nothing_of_the_callers_environment(keeper, monkeypatch):
    monkeypatch.setenv("PGDATA", "/somewhere")
    pid = keeper.start(["/bin/sh", "-c", "pwd; env"], "log")
    assert keeper.wait_for("sh", lambda: keeper.status(pid), log="log") == 0
    first, *variables = keeper.tail("log").splitlines()
    assert first == str(keeper.home)
    assert not any(variable.startswith("PGDATA") for variable in variables)


def test_a_server_that_ends_is_an_error_with_its_last_lines(keeper):
    pid = keeper.start(["/bin/sh", "-c", "echo out of luck; exit 3"], "log")
    with pytest.raises(ServerError, match="the server ended with status 3; its log ends:\nout of luck"):
        keeper.wait_for("the server", lambda: None, log="log", pid=pid)


@pytest.mark.parametrize("error", [StorageConnectionError("gone"), ConnectionRefusedError("gone"), ServerError("gone")])
def test_the_end_of_a_server_is_told_though_its_connections_break_before_its_status_is_known(keeper, error):
    statuses = iter([None, None, "was ended by SIGKILL"])
    with (
        pytest.raises(ServerDiedError, match=r"^a server was ended by SIGKILL while it was in use") as caught,
        keeper.in_use("a server", lambda: next(statuses)),
    ):
        raise error
    assert caught.value.__cause__ is error


def test_an_error_that_no_connection_gives_does_not_wait_for_the_end_of_a_server(keeper):
    statuses = iter([None])
    with pytest.raises(ZeroDivisionError), keeper.in_use("a server", lambda: next(statuses)):
        1 / 0  # noqa: B018


def test_a_server_that_never_answers_is_an_error_with_its_last_lines(keeper, monkeypatch):
    monkeypatch.setattr(supervisor, "START_SECONDS", 0.2)
    pid = keeper.start(["/bin/sh", "-c", "echo thinking; exec sleep 600"], "log")
    with pytest.raises(ServerError, match=r"did not answer in .* s; its log ends:\nthinking"):
        keeper.wait_for("the server", lambda: None, log="log", pid=pid)


def test_a_program_that_is_not_there_is_an_error_and_the_keeper_goes_on(keeper):
    with pytest.raises(ServerError, match="/no/such/program could not be started"):
        keeper.start(["/no/such/program"], "log")
    assert keeper.status(keeper.start(["/bin/sleep", "600"], "log")) is None


def test_a_parent_directory_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(ServerError, match=r"no directory for the server could be made in .*missing"):
        ProcessSupervisor("test", stop=signal.SIGTERM, parent=str(tmp_path / "missing"))


def test_a_server_deaf_to_its_signal_is_killed(monkeypatch):
    monkeypatch.setattr(supervisor, "STOP_SECONDS", 0.2)
    with ProcessSupervisor("test", stop=signal.SIGTERM) as keeper:
        pid = keeper.start(["/bin/sh", "-c", DEAF], "log")
        keeper.wait_for("sh", lambda: keeper.tail("log") or None, log="log", pid=pid)
    assert not is_alive(pid)
    assert not keeper.directory.exists()


def test_closing_twice_is_closing_once(keeper):
    keeper.close()
    assert not keeper.directory.exists()
    keeper.close()


def test_terminating_the_keeper_itself_leaves_nothing(keeper):
    pid = keeper.start(["/bin/sleep", "600"], "log")
    keeper._process.terminate()
    keeper._process.wait()
    assert not is_alive(pid)
    assert not keeper.directory.exists()
    with pytest.raises(ServerError, match="has died"):
        keeper.status(pid)


def test_killing_the_keeper_itself_leaves_nothing_either():
    keeper = ProcessSupervisor("test", stop=signal.SIGTERM)
    pid = keeper.start(["/bin/sleep", "600"], "log")
    keeper._process.kill()
    keeper._process.wait()
    keeper.close()
    assert not keeper.directory.exists()
    deadline = time.monotonic() + 30
    while is_alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("mode", [0o700, 0o710, 0o701])
def test_a_directory_is_entered_only_where_every_step_to_it_allows(mode):
    owner = Account(os.geteuid(), os.getegid())
    colleague = Account(owner.uid + 4321, owner.gid)
    stranger = Account(owner.uid + 4321, owner.gid + 4321)
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        Path(place).chmod(mode)
        inner = Path(place) / "inner"
        inner.mkdir()
        inner.chmod(0o755)
        assert owner.may_enter(inner)
        assert colleague.may_enter(inner) == (mode == 0o710)
        assert stranger.may_enter(inner) == (mode == 0o701)
