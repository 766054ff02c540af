"""Processes of many tasks on a few hot keys of a real server admit each limit exactly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections import Counter
from pathlib import Path

import pytest
from hot_keys import KEYS
from stores import PATIENCE
from subjects import with_options

from ratesim.servers import Server

HERE = Path(__file__).parent
PROCESSES = 4
# Of PostgreSQL's tables, as they are cut into partitions.
STRATEGIES = ["none", "hash:4", "time:1m", "identifier:a-*,b-*"]


@pytest.mark.parametrize(
    "server", ["valkey_server", "valkey_cluster_server", pytest.param("valkey_sentinel_server", marks=pytest.mark.nightly)]
)
def test_a_limit_is_exact_for_all_processes(server: str, request: pytest.FixtureRequest) -> None:
    hold(64, 300, with_options(request.getfixturevalue(server).url, command_timeout=PATIENCE))


@pytest.mark.parametrize(("tasks", "rate"), [(32, 60), pytest.param(64, 300, marks=pytest.mark.nightly)])
def test_a_limit_is_exact_for_all_processes_in_partitions(postgres_server: Server, tasks: int, rate: int) -> None:
    tag = uuid.uuid4().hex[:12]
    urls = [
        with_options(postgres_server.url, command_timeout=PATIENCE, table_name=f"t{place}_{tag}", partition=strategy)
        for place, strategy in enumerate(STRATEGIES)
    ]
    hold(tasks, rate, *urls)


def hold(tasks: int, rate: int, *urls: str) -> None:
    """At each of the URLs so many tasks of each process use up ten keys, and no more."""
    paths = [str(HERE.parents[1]), *([os.environ["PYTHONPATH"]] if "PYTHONPATH" in os.environ else [])]
    tag = f"a-{uuid.uuid4().hex}"
    command = [sys.executable, str(HERE / "hot_keys.py"), tag, str(tasks), str(rate), *urls]
    processes = [
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        )
        for _ in range(PROCESSES)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("begin\n")
            process.stdin.flush()
        told = [process.communicate(timeout=2 * PATIENCE)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    admitted = sum((Counter(json.loads(each)) for each in told), Counter[str]())
    assert len(admitted) == KEYS * len(urls)
    assert set(admitted.values()) == {rate}, admitted
