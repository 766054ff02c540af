"""Embedded servers stop and leave nothing behind, however the process that started them ends."""

from __future__ import annotations

import json
import os
import signal

import pytest
from accounts import each_account

START = """
    import contextlib, json, os, signal, subprocess, sys, time
    from ratesim.servers import postgres, valkey, valkey_cluster, valkey_sentinel
    stack = contextlib.ExitStack()
    started = [stack.enter_context(start()) for start in ({servers},)]
    pids = [pid for server in started for pid in server.pids]
"""
START_VALKEY = START.format(servers="valkey")
START_BOTH = START.format(servers="valkey, postgres")


@each_account
def test_leaving_the_block_stops_the_servers(python):
    pids = json.loads(python.run(START_BOTH + "    print(json.dumps(pids)); stack.close()"))
    assert len(pids) == 2
    assert python.nothing_is_left(pids)


def test_an_exception_stops_the_servers(python):
    with python.start(START_BOTH + "    with stack: print(json.dumps(pids)); raise RuntimeError('in the block')") as process:
        output, errors = process.communicate()
    assert "RuntimeError: in the block" in errors
    assert python.leftovers() == []  # at once: the block waits for it
    assert python.nothing_is_left(json.loads(output))


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_killing_the_process_stops_the_servers(python, end):
    with python.start(START_BOTH + "    print(json.dumps(pids), flush=True); time.sleep(600)") as process:
        pids = json.loads(process.stdout.readline())
        assert len(python.leftovers()) == 2
        process.send_signal(end)
    assert process.returncode == -end
    assert python.nothing_is_left(pids)


def test_killing_the_process_stops_every_member(python):
    many = START.format(servers="valkey_cluster, valkey_sentinel")
    with python.start(many + "    print(json.dumps(pids), flush=True); time.sleep(600)") as process:
        pids = json.loads(process.stdout.readline())
        assert len(pids) == 6 + 5
        process.kill()
    assert python.nothing_is_left(pids)


def test_killing_the_process_while_a_server_starts_leaves_nothing(python):
    script = START_BOTH.replace("started =", "print('starting', flush=True)\n    started =") + "    time.sleep(600)"
    with python.start(script) as process:
        assert process.stdout.readline() == "starting\n"
        while not any("postgres" in place.name for place in python.leftovers()):
            assert process.poll() is None
        process.kill()
    assert python.nothing_is_left([])


@pytest.mark.parametrize(
    "make_child",
    [
        pytest.param("os.fork() or (time.sleep(600), os._exit(0))", id="a fork"),
        pytest.param("subprocess.Popen([sys.executable, '-c', 'input()'], close_fds=False, stdin=-1).pid", id="an exec"),
    ],
)
def test_a_child_that_outlives_the_process_does_not_keep_the_servers(python, make_child):
    script = START_VALKEY + f"    child = {make_child}\n    print(json.dumps([pids, child]), flush=True); time.sleep(600)"
    with python.start(script) as process:
        pids, child = json.loads(process.stdout.readline())
        try:
            os.kill(process.pid, signal.SIGKILL)
            assert python.nothing_is_left(pids)
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_forked_child_that_leaves_the_block_stops_nothing(python):
    answer = python.run(
        START_VALKEY
        + """
    child = os.fork()
    if child == 0:
        stack.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    import redis
    with stack, redis.Redis.from_url(started[0].url) as client:
        print(client.ping())
    """
    )
    assert answer == "True\n"
    assert python.leftovers() == []


def test_ctrl_c_reaches_the_program_before_the_servers_stop(python):
    script = (
        START_VALKEY
        + """
    import redis
    with stack, redis.Redis.from_url(started[0].url) as client:
        try:
            print("ready", flush=True)
            time.sleep(600)
        except KeyboardInterrupt:
            time.sleep(0.5)  # a server that had got the signal as well would be gone by then
            print(client.ping(), flush=True)
    """
    )
    with python.start(script) as process:
        assert process.stdout.readline() == "ready\n"
        os.killpg(process.pid, signal.SIGINT)  # the terminal signals the whole foreground group
        output, errors = process.communicate()
    assert (output, errors, process.returncode) == ("True\n", "", 0)
    assert python.leftovers() == []
