"""A measurement that a server does not outlive says so, at once, and is not half a result."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest
import redis

from ratesim import servers
from ratesim.servers import ServerDiedError, ServerError, postgres, valkey, valkey_cluster, valkey_sentinel, watch

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


@pytest.mark.parametrize("start", [valkey_cluster, valkey_sentinel])
def test_a_member_that_is_replaced_does_not_end_the_measurement_and_a_lost_shard_does(start):
    with start(node_timeout=60.0) if start is valkey_cluster else start(down_after=0.5) as server:
        primary, replica = (next(each for each in server.members if each.role == role) for role in ("primary", "replica"))

        async def fails_over():
            os.kill(primary.pid, signal.SIGKILL)
            if start is valkey_cluster:  # only from here on, so that a slow machine is no failover
                for member in set(server.members) - {primary}:
                    with redis.Redis.from_url(member.url) as client:
                        client.config_set("cluster-node-timeout", 500)
            with redis.Redis.from_url(replica.url, retry=redis.retry.Retry(redis.backoff.NoBackoff(), 1)) as client:
                while client.info("replication")["role"] != "master":  # noqa: ASYNC110 - a server sets no event
                    await asyncio.sleep(0.05)
            await asyncio.sleep(1.0)
            return "whole"

        assert watch.run_watched(server, fails_over()) == "whole"
        assert server.how_ended() is None
        with pytest.raises(ServerDiedError, match=r"was ended by SIGKILL after"):
            watch.run_watched(server, measured(lambda: os.kill(replica.pid, signal.SIGKILL)))


def test_sentinels_of_which_none_is_left_end_the_measurement():
    with valkey_sentinel(sentinels=2, replicas=0) as server:
        first, second = (member.pid for member in server.members if member.role == "sentinel")

        def kill():
            os.kill(first, signal.SIGKILL)
            os.kill(second, signal.SIGKILL)

        with pytest.raises(ServerDiedError, match=r"was ended by SIGKILL after"):
            watch.run_watched(server, measured(kill))


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
