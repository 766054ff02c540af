"""Mutated inputs over every loader and parser: an answer or an error of ours in one line, in bounded time and memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SECONDS = 2.0  # of processor time; a hang detector, since most inputs take a millisecond
MEGABYTES = 200.0


@pytest.mark.parametrize(("count", "seed"), [(630, 1), pytest.param(20_000, 2, marks=pytest.mark.nightly)])
def test_no_mutated_input_raises_hangs_or_fills_memory(count: int, seed: int) -> None:
    worker = Path(__file__).with_name("worker.py")
    ended = subprocess.run([sys.executable, str(worker), str(count), str(seed)], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-3000:]
    *findings, last = map(json.loads, ended.stdout.splitlines())
    assert findings == []
    assert last["count"] == count
    assert last["refused"] > count // 4
    assert max(last["seconds"].values()) < SECONDS
    assert last["megabytes"] < MEGABYTES
