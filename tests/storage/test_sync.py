"""The storages without `await`."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from ratesim import Limit
from ratesim.errors import StorageError
from ratesim.limit import Decision, Limits
from ratesim.state import RateLimitState
from ratesim.storage import Charge, MemoryStorage, RateLimitStorage, Request
from ratesim.storage.sync import SyncStorage, open_storage
from tests.storage.every_backend import BACKENDS, Clock, make

LIMIT = Limit(100, 3600, "fixed_window")
LEARNING = Limit(100, 60, "adaptive", name="learning")


@pytest.fixture(params=BACKENDS)
def storage(request: pytest.FixtureRequest) -> Iterator[SyncStorage]:
    with SyncStorage(make(request.param, Clock(), request)) as made:
        yield made


def test_it_has_every_verb_with_the_same_arguments() -> None:
    verbs = {
        name: function
        for name, function in inspect.getmembers(RateLimitStorage, inspect.iscoroutinefunction)
        if not name.startswith("__")
    }
    assert set(verbs) <= set(vars(SyncStorage))
    for name, function in verbs.items():
        assert inspect.signature(getattr(SyncStorage, name)) == inspect.signature(function), name


def test_every_verb_answers(storage: SyncStorage) -> None:
    assert storage.acquire("a", LIMIT).remaining == 99
    assert [each.remaining for each in storage.acquire_many([Request("a", LIMIT), Request("b", LIMIT)])] == [98, 99]
    assert storage.peek("a", LIMIT, cost=2).remaining == 98
    state = storage.get_state("a")
    assert isinstance(state, RateLimitState)
    storage.set_state("c", state)
    storage.batch_set([("d", state, None)])
    assert [found is not None for _, found in storage.batch_get(["c", "d", "nobody"])] == [True, True, False]
    assert storage.increment("hits", 2, 60.0) == 2
    storage.acquire("a", LEARNING)
    storage.observe("a", LEARNING, 0.5)
    charge = Charge("e", LIMIT, "node", 1, 0.0, ((1_700_000_000.0, 3.0, 3),))
    assert storage.charge_many([charge])[0].request_count == 3
    assert storage.claim("web", "me", 5.0)[0] == "me"
    assert storage.health_check().healthy
    assert storage.get_stats().entries > 0
    assert storage.cleanup_expired() >= 0
    storage.reset("a")
    assert storage.peek("a", LIMIT).remaining == 100


def test_errors_are_those_of_the_storage(storage: SyncStorage) -> None:
    with pytest.raises(Exception, match="cost") as error:
        storage.acquire("a", LIMIT, cost=-1.0)
    assert type(error.value).__name__ == "InvalidLimitError"


def test_eight_threads_admit_the_limit(storage: SyncStorage) -> None:
    with ThreadPoolExecutor(8) as pool:
        decisions = list(pool.map(lambda _: storage.acquire("a", LIMIT), range(160)))
    assert sum(decision.allowed for decision in decisions) == 100


async def test_it_may_be_called_while_a_loop_runs_in_the_thread(storage: SyncStorage) -> None:
    assert storage.acquire("a", LIMIT).allowed
    assert (await asyncio.to_thread(storage.acquire, "a", LIMIT)).allowed


def test_it_can_be_opened_again(storage: SyncStorage) -> None:
    storage.close()
    storage.close()
    with storage:
        assert storage.acquire("z", LIMIT).allowed
    storage.open()


class Slow(MemoryStorage):
    """A memory that answers when it is told to, and notes where it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.canceled = threading.Event(), threading.Event()

    async def peek(self, identifier: str, limit: Limits, cost: float = 1.0, now: float | None = None) -> Decision:
        self.asked.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            self.canceled.set()
            raise
        return await super().peek(identifier, limit, cost, now)

    async def reset(self, identifier: str) -> None:
        SyncStorage(self).peek(identifier, LIMIT)


def test_an_interrupt_cancels_the_operation() -> None:
    slow = Slow()
    storage = SyncStorage(slow)

    def interrupt() -> None:
        slow.asked.wait()
        time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    other = threading.Thread(target=interrupt)
    other.start()
    with pytest.raises(KeyboardInterrupt):
        storage.peek("a", LIMIT)
    other.join()
    assert slow.canceled.wait(10)
    assert storage.acquire("a", LIMIT).allowed


def test_a_call_in_its_own_loop_is_refused() -> None:
    with pytest.raises(StorageError, match="own event loop"):
        SyncStorage(Slow()).reset("a")


PRELOADED = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
from ratesim import Limit
from ratesim.storage.sync import open_storage

LIMIT = Limit(100, 1e7, "fixed_window")  # no window ends meanwhile
storage = open_storage(sys.argv[1])
if sys.argv[3] == "used":
    storage.acquire(sys.argv[2], LIMIT, cost=0)
pids = []
for _ in range(4):
    reader, writer = os.pipe()
    if not os.fork():
        with storage, ThreadPoolExecutor(4) as pool:
            count = sum(each.allowed for each in pool.map(lambda _: storage.acquire(sys.argv[2], LIMIT), range(40)))
        os.write(1, b"%d\\n" % count)
        os._exit(0)
    os.wait()
storage.acquire(sys.argv[2], LIMIT, cost=0)
storage.close()
"""


@pytest.mark.parametrize("used", ["used", "unused"])
@pytest.mark.parametrize("kind", ["memory", "redis", "postgresql", "hybrid+redis", "hybrid+postgresql"])
def test_a_storage_that_is_made_before_a_fork_serves_each_worker(
    request: pytest.FixtureRequest, kind: str, used: str
) -> None:
    url = "memory://"
    if kind != "memory":
        server = request.getfixturevalue("valkey_server" if kind.endswith("redis") else "postgres_server").url
        url = f"hybrid+{server}" if kind.startswith("hybrid") else server
    done = subprocess.run(
        [sys.executable, "-c", PRELOADED, url, uuid.uuid4().hex, used],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    counts = [int(line) for line in done.stdout.split()]
    assert counts == ([40] * 4 if kind == "memory" else [40, 40, 20, 0])


def test_open_storage_takes_a_url() -> None:
    with open_storage("memory://?max_entries=7") as storage:
        assert isinstance(storage.storage, MemoryStorage)
        assert storage.storage.config.max_entries == 7


@pytest.mark.parametrize("ending", ["", "raise SystemExit(0)"])
def test_the_end_of_the_process_leaves_nothing_open(ending: str) -> None:
    script = (
        "from ratesim import Limit\nfrom ratesim.storage.sync import open_storage\n"
        "with open_storage('memory://') as storage:\n    assert storage.acquire('user', Limit(1, 1))\n" + ending
    )
    ended = subprocess.run([sys.executable, "-X", "dev", "-W", "error", "-c", script], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
