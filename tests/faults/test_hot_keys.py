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
from hot_keys import KEYS, LIMIT
from stores import PATIENCE
from subjects import with_options

HERE = Path(__file__).parent
PROCESSES, TASKS = 4, 64


@pytest.mark.parametrize(
    "server", ["valkey_server", "valkey_cluster_server", pytest.param("valkey_sentinel_server", marks=pytest.mark.nightly)]
)
def test_a_limit_is_exact_for_all_processes(server: str, request: pytest.FixtureRequest) -> None:
    url = with_options(request.getfixturevalue(server).url, command_timeout=PATIENCE)
    paths = [str(HERE.parents[1]), *([os.environ["PYTHONPATH"]] if "PYTHONPATH" in os.environ else [])]
    command = [sys.executable, str(HERE / "hot_keys.py"), url, uuid.uuid4().hex, str(TASKS)]
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
    assert len(admitted) == KEYS
    assert set(admitted.values()) == {LIMIT.rate}
