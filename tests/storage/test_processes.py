"""A storage belongs to the process that made it: what the child of a fork does with it, and what that leaves the parent."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

from ratesim import Limit
from ratesim.storage import open_storage

SCRIPT = Path(__file__).with_name("fork_script.py")
LIMIT = Limit(100, 3600, "fixed_window")  # as in the script


def run(*arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", str(SCRIPT), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


async def charged(url: str, key: str) -> float:
    async with open_storage(url) as storage:
        state = await storage.get_state(key)
    assert state is not None
    count = state.algorithm_data.fields["count"]
    assert isinstance(count, float)
    return count


@pytest.fixture(params=["redis", "postgresql"])
def server_url(request: pytest.FixtureRequest) -> str:
    name = "valkey_server" if request.param == "redis" else "postgres_server"
    url: str = request.getfixturevalue(name).url
    return url


@pytest.mark.parametrize("when", ["before use", "in use"])
def test_children_of_a_server_storage_have_connections_of_their_own(server_url: str, when: str) -> None:
    key = uuid.uuid4().hex
    result = run(server_url, key, when)
    total = result["parent"] + sum(int(each) for each in result["children"])
    assert total == LIMIT.rate
    assert asyncio.run(charged(server_url, key)) == total


@pytest.mark.parametrize("when", ["before use", "in use"])
@pytest.mark.parametrize("options", ["", "consistency=strong", "consistency=lease", "node=web", "write=write_behind"])
def test_children_of_a_hybrid_are_nodes_of_their_own(server_url: str, options: str, when: str) -> None:
    key, mark = uuid.uuid4().hex, "&" if "?" in server_url else "?"
    result = run(f"hybrid+{server_url}{mark}sync_interval=0.01&l1_ttl=0.02&{options}", key, when)
    counts = [result["parent"], *map(int, result["children"])]
    total = sum(counts)
    known = asyncio.run(charged(server_url, key))
    if "lease" in options:
        assert 0 < total <= known <= LIMIT.rate
    else:  # no charge is lost; five nodes admit 200 a second each on views that are a few hundredths of a second old
        assert total == known
        assert LIMIT.rate <= total <= LIMIT.rate + (0 if "strong" in options else 4 * 0.1 * 200)
