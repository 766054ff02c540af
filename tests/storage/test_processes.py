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
from examples import sample

from ratesim import Limit
from ratesim.servers import Server
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


USUAL = ["valkey_server", "postgres_server"]


@pytest.fixture(params=sample([*USUAL, "valkey_cluster_server", "valkey_sentinel_server"], USUAL))
def server_url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(request.param).url
    return url


@pytest.mark.parametrize("when", ["before use", "in use"])
def test_children_of_a_server_storage_have_connections_of_their_own(server_url: str, when: str) -> None:
    key = uuid.uuid4().hex
    result = run(server_url, key, when)
    total = result["parent"] + sum(int(each) for each in result["children"])
    assert total == LIMIT.rate
    assert asyncio.run(charged(server_url, key)) == total


def test_children_of_a_cluster_storage_have_connections_of_their_own(valkey_cluster_server: Server) -> None:
    test_children_of_a_server_storage_have_connections_of_their_own(valkey_cluster_server.url, "in use")


@pytest.mark.sampled(2)
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


PERSISTENT = """
import asyncio, json, os, sys
from ratesim import Limit
from ratesim.errors import StorageError
from ratesim.storage import open_storage

LIMIT, BUCKET = Limit(100, 3600, "fixed_window"), Limit(50, 3600, "token_bucket", name="bucket")
url, elsewhere = sys.argv[1:]
storage = open_storage(url)

async def refused(work):
    try:
        await work
    except StorageError as error:
        return str(error)
    return "accepted"

async def child():
    verbs = [storage.acquire("a", LIMIT), storage.acquire("new", BUCKET), storage.acquire("a", [LIMIT, BUCKET]),
             storage.increment("hits", 1, 60.0), storage.reset("a"), storage.open()]
    answers = [await refused(work) for work in verbs]
    health = await storage.health_check()
    await storage.close()
    async with open_storage(elsewhere) as own:
        answers.append(await refused(own.acquire("a", LIMIT)))
    return answers, health.healthy

async def parent():
    async with storage:
        count = 0
        for _ in range(20):
            count += (await storage.acquire("a", LIMIT)).allowed
        under_way = asyncio.gather(*(storage.acquire("a", LIMIT) for _ in range(20)))
        await asyncio.sleep(0)
        reader, writer = os.pipe()
        if not os.fork():
            os.write(writer, json.dumps(asyncio.run(child())).encode())
            os._exit(0)
        os.close(writer)
        count += sum(each.allowed for each in await under_way)
        with os.fdopen(reader) as file:
            answers = json.load(file)
        os.wait()
        for _ in range(20):
            count += (await storage.acquire("a", LIMIT)).allowed
        print(json.dumps([count, *answers]), flush=True)
        if "kill" in elsewhere:
            os._exit(1)

asyncio.run(parent())
"""


@pytest.mark.parametrize("ending", ["close", "kill"])
@pytest.mark.parametrize("fsync", ["always", "interval", "never"])
def test_a_child_leaves_the_database_to_its_parent(tmp_path: Path, fsync: str, ending: str) -> None:
    url = f"memory://?persist_to_disk={tmp_path}/parent&fsync={fsync}"
    done = subprocess.run(
        [sys.executable, "-c", PERSISTENT, url, f"memory://?persist_to_disk={tmp_path}/{ending}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert not done.stderr
    count, answers, healthy = json.loads(done.stdout)
    assert count == 60
    assert not healthy
    assert all("persist_to_disk of its own" in answer for answer in answers[:-2]), answers
    assert "in use by process" in answers[-2]
    assert answers[-1] == "accepted"

    async def kept() -> float:
        async with open_storage(url) as storage:
            assert await storage.get_state("new", "bucket") is None
            return LIMIT.rate - (await storage.peek("a", LIMIT)).remaining

    assert asyncio.run(kept()) == 60


def test_a_child_has_a_copy_of_a_memory_without_a_database() -> None:
    code = """
import asyncio, os, sys, threading
from ratesim import Limit
from ratesim.storage import open_storage

LIMIT, storage = Limit(10**9, 3600, "fixed_window"), open_storage("memory://")
stop = threading.Event()

def decide():
    while not stop.is_set():
        storage.acquire_nowait("busy", LIMIT, 1.0, 1e9)

storage.acquire_nowait("busy", LIMIT, 1.0, 1e9)
threads = [threading.Thread(target=decide, daemon=True) for _ in range(3)]
for thread in threads:
    thread.start()
for _ in range(50):  # while other threads decide
    if not os.fork():
        before = storage.entries["busy"].request_count
        for _ in range(10):
            storage.acquire_nowait("busy", LIMIT, 1.0, 1e9)
        os._exit(int(storage.entries["busy"].request_count != before + 10))
    assert os.wait()[1] == 0
stop.set()
for thread in threads:
    thread.join()
print("done")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "done\n", done.stderr


def test_the_end_of_a_child_touches_nothing_of_its_parent(server_url: str, tmp_path: Path) -> None:
    """A child that ends as Python programs do, with destructors and exit functions."""
    code = """
import asyncio, gc, os, sys
from ratesim import Limit
from ratesim.storage import open_storage

LIMIT, key = Limit(100, 3600, "fixed_window"), sys.argv[1]
storages = [open_storage(url) for url in sys.argv[2:]]

async def use():
    for storage in storages:
        await storage.open()
        await storage.acquire(key, LIMIT)

loop = asyncio.new_event_loop()
loop.run_until_complete(use())
if not os.fork():
    storages.clear()
    del loop
    gc.collect()
    sys.exit(0)
assert os.wait()[1] == 0
loop.run_until_complete(use())
print(*(storage.client.errors for storage in storages[1:]), flush=True)
os._exit(0)
"""
    url, key = f"memory://?persist_to_disk={tmp_path}", uuid.uuid4().hex
    done = subprocess.run(
        [sys.executable, "-c", code, key, url, server_url], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("{}\n", "")

    async def kept() -> float:
        async with open_storage(url) as storage:
            return (await storage.peek(key, LIMIT)).remaining

    assert asyncio.run(kept()) == 98
    assert asyncio.run(charged(server_url, key)) == 2
