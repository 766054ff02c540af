"""A measurement that a server does not outlive says so, at once, and is not half a result."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest
import redis

from ratesim import servers
from ratesim.servers import ServerDiedError, ServerError, postgres, valkey, watch

STARTS = [valkey, postgres]
LONG = 60.0  # seconds that the measurement would go on; the tests are over much sooner


async def measured(during=lambda: None, seconds=LONG):
    await asyncio.sleep(0.3)
    during()
    await asyncio.sleep(seconds)
    return "whole"


@pytest.mark.parametrize("start", STARTS)
def test_a_server_that_lives_leaves_the_result_alone(start):
    with start() as server:
        assert watch.run_watched(server, measured(seconds=0.0)) == "whole"


@pytest.mark.parametrize("start", STARTS)
def test_a_server_that_is_killed_ends_the_measurement(start):
    with start() as server, pytest.raises(ServerDiedError, match=rf"^{server} was ended by SIGKILL after [\d.]+ s$"):
        watch.run_watched(server, measured(lambda: os.kill(server.pids[0], signal.SIGKILL)))


@pytest.mark.parametrize("start", STARTS)
def test_a_server_that_dies_in_the_last_moment_is_noticed_as_well(start):
    def kill():
        os.kill(server.pids[0], signal.SIGKILL)
        _end_of(server)

    with start() as server, pytest.raises(ServerDiedError, match="was ended by SIGKILL"):
        watch.run_watched(server, measured(kill, 0.0))


def test_a_server_that_freezes_is_killed_and_named(monkeypatch):
    monkeypatch.setattr(watch, "ANSWER_SECONDS", 0.5)
    with valkey() as server:
        with pytest.raises(ServerDiedError, match=r"froze: it gave no answer for 0.5 s, after"):
            watch.run_watched(server, measured(lambda: os.kill(server.pids[0], signal.SIGSTOP)))
        assert _end_of(server) == "was ended by SIGKILL"


def test_a_server_of_the_users_that_restarts_is_noticed(monkeypatch):
    with valkey() as already_there:
        monkeypatch.setenv("RATESIM_REDIS_URL", already_there.url)

        def cut():
            with redis.Redis.from_url(already_there.url) as client:
                client.client_kill_filter(_type="normal", skipme=True)

        with valkey() as server, pytest.raises(ServerDiedError, match="closed its connections") as caught:
            watch.run_watched(server, measured(cut))
        assert already_there.url.split("@")[0].split(":")[-1] not in str(caught.value)


def test_what_the_measurement_raises_passes():
    def fail():
        raise LookupError("mine")

    with valkey() as server, pytest.raises(LookupError, match="mine"):
        watch.run_watched(server, measured(fail))


def test_what_clings_to_a_dead_server_is_canceled_until_it_lets_go(monkeypatch):
    monkeypatch.setattr(watch, "CANCEL_SECONDS", 0.05)
    clung = []

    async def cling(server):
        os.kill(server.pids[0], signal.SIGKILL)
        while len(clung) < 3:
            try:
                await asyncio.sleep(LONG)
            except asyncio.CancelledError:
                clung.append(time.monotonic())

    with valkey() as server, pytest.raises(ServerDiedError):
        watch.run_watched(server, cling(server))
    assert len(clung) == 3


@pytest.mark.parametrize("start", STARTS)
def test_an_error_of_a_block_whose_server_is_dead_says_so(start):
    def use():
        with start() as server:
            os.kill(server.pids[0], signal.SIGKILL)
            assert _end_of(server) == "was ended by SIGKILL"
            raise ServerError("no answer")

    with pytest.raises(ServerDiedError, match="was ended by SIGKILL while it was in use"):
        use()


def test_a_frozen_postgres_leaves_no_process():
    with postgres() as server:
        children = _children(server.pids[0])
        assert children
        for pid in (*server.pids, *children):
            os.kill(pid, signal.SIGSTOP)
        os.kill(server.pids[0], signal.SIGKILL)
    for pid in children:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def _end_of(server):
    while server.how_ended() is None:
        time.sleep(0.01)
    return server.how_ended()


def _children(parent):
    with os.popen(f"ps -o pid= --ppid {parent}") as output:
        return [int(line) for line in output]


def test_a_frozen_server_of_the_users_lets_go_of_what_waits_and_is_left_alone(monkeypatch):
    monkeypatch.setattr(watch, "ANSWER_SECONDS", 0.5)
    with valkey() as already_there:
        monkeypatch.setenv("RATESIM_REDIS_URL", already_there.url)
        with valkey() as server, pytest.raises(ServerDiedError, match=r"froze: it gave no answer for 0.5 s, after"):
            watch.run_watched(server, measured(lambda: os.kill(already_there.pids[0], signal.SIGSTOP)))
        os.kill(already_there.pids[0], signal.SIGCONT)
        with redis.Redis.from_url(already_there.url) as client:
            assert client.ping()


@pytest.mark.parametrize(("kind", "scheme"), [("redis", "redis"), ("postgres", "postgresql")])
def test_a_server_of_the_users_that_was_never_there_is_the_coroutines_to_tell(kind, scheme):
    async def fail():
        await asyncio.sleep(0.3)
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        watch.run_watched(servers.Server(f"{scheme}://:sesame@127.0.0.1:1/0", kind, "1", embedded=False), fail())
