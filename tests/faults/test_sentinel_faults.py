"""A primary behind real sentinels that is killed, demoted or replaced: callers see errors of a storage, and then go on."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
import uuid
from collections.abc import Callable, Iterator

import pytest
import redis
from stores import PATIENCE, wait_until

from ratesim import Limit
from ratesim.errors import StorageConnectionError, StorageError, StorageUnavailableError
from ratesim.safe_text import passwords_in
from ratesim.servers import Member, Server, valkey_sentinel
from ratesim.servers.existing import redis_client
from ratesim.storage import RateLimitStorage, open_storage
from ratesim.storage.redis import sentinel_connections

LIMIT = Limit(1000, 3600, "fixed_window")
DOWN_AFTER = 1.0


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A primary that is never killed, but may be demoted."""
    with valkey_sentinel(down_after=DOWN_AFTER) as server:
        yield server


def role_of(member: Member) -> str:
    """Ask a node for its role; "" where it is dead, or closes its connections because its role changes."""
    try:
        with redis_client(member.url, 5) as client:
            return str(client.info("replication")["role"])
    except redis.ConnectionError:
        return ""


def nodes_of(server: Server) -> list[Member]:
    return [member for member in server.members if member.role != "sentinel"]


def sentinels_of(server: Server) -> list[Member]:
    return [member for member in server.members if member.role == "sentinel"]


def primary_of(server: Server) -> Member:
    """Return the node that the sentinels take for the primary, once it takes itself for one."""
    with redis_client(sentinels_of(server)[0].url, 5) as client:
        _, port = client.sentinel_get_master_addr_by_name("ratesim")
    (primary,) = [member for member in nodes_of(server) if member.port == port]
    wait_until(lambda: role_of(primary) == "master", "the promotion")
    return primary


def fail_over(server: Server) -> None:
    """Make the sentinels promote the replica, when they are done with an earlier failover."""

    def begun() -> bool:
        try:
            with redis_client(sentinels_of(server)[0].url, 5) as client:
                return bool(client.sentinel_failover("ratesim"))
        except redis.ResponseError:  # INPROG, NOGOODSLAVE
            return False

    wait_until(begun, "a failover")


def listeners(sentinels: list[Member]) -> list[str]:
    """Return the users who listen to the news of sentinels."""
    found: list[str] = []
    for member in sentinels:
        with redis_client(member.url, 5) as client:
            found += [each["user"] for each in client.client_list() if int(each["sub"])]
    return found


async def ask_until(storage: RateLimitStorage, key: str, done: Callable[[], bool]) -> tuple[int, set[str]]:
    """Ask until a decision is made after `done`; return how many were admitted, and the errors."""
    admitted, errors, deadline = 0, set(), time.monotonic() + PATIENCE
    while True:
        well = await asyncio.to_thread(done)
        try:
            admitted += (await storage.acquire(key, LIMIT)).allowed
            if well:
                return admitted, errors
        except StorageError as error:
            errors.add(type(error).__name__)
        assert time.monotonic() < deadline, f"no decision; errors {errors}"
        await asyncio.sleep(0.02)


@pytest.mark.servers
async def test_a_primary_that_is_killed_and_a_sentinel_with_it_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentinel_connections, "PAUSE", 0.05)
    key = uuid.uuid4().hex
    with valkey_sentinel(down_after=DOWN_AFTER) as server:
        primary, replica = nodes_of(server)
        async with open_storage(f"{server.url}&breaker_reset=0.1") as storage, asyncio.TaskGroup() as group:
            before = 50
            for _ in range(before):
                await storage.acquire(key, LIMIT)
            os.kill(sentinels_of(server)[0].pid, signal.SIGKILL)  # the one that is asked first
            os.kill(primary.pid, signal.SIGKILL)
            asking = [group.create_task(ask_until(storage, key, lambda: role_of(replica) == "master")) for _ in range(4)]
            admitted = before + sum([(await each)[0] for each in asking])
            assert all([(await each)[1] for each in asking])  # all met the fault
            # What the replica had not received is forgotten, and nothing is charged twice.
            assert admitted + 1 >= LIMIT.rate - (await storage.acquire(key, LIMIT)).remaining
        async with open_storage(server.url) as another:  # which finds the first sentinel dead
            assert (await another.peek(key, LIMIT)).remaining >= LIMIT.rate - admitted - 1
            for sentinel in sentinels_of(server)[1:]:
                os.kill(sentinel.pid, signal.SIGKILL)
            for _ in range(10):  # what is open stays in use without them
                await asyncio.sleep(0.1)
                assert await another.acquire(key, LIMIT)


@pytest.mark.servers
async def test_a_primary_that_became_read_only_is_asked_about_again(server: Server) -> None:
    key, before = uuid.uuid4().hex, primary_of(server)
    (other,) = [member for member in nodes_of(server) if member != before]
    async with open_storage(f"{server.url}&breaker_reset=0.1") as storage:
        await storage.acquire(key, LIMIT)
        with redis_client(before.url, 5) as client:
            client.replicaof("127.0.0.1", other.port)  # behind the sentinels' backs
        await asyncio.to_thread(wait_until, lambda: role_of(before) == "slave", "the demotion")
        with pytest.raises(StorageUnavailableError, match="read-only replica"):
            await storage.acquire(key, LIMIT)
        await asyncio.to_thread(fail_over, server)
        await ask_until(storage, key, lambda: role_of(other) == "master")
        with redis_client(other.url, 5) as client:
            assert client.exists(f"ratesim:{{{key}}}")


@pytest.mark.servers
async def test_a_primary_that_is_replaced_while_it_lives_is_left_at_once(server: Server) -> None:
    key, before = uuid.uuid4().hex, primary_of(server)
    (other,) = [member for member in nodes_of(server) if member != before]
    async with open_storage(f"{server.url}&breaker_reset=0.1") as storage:
        for _ in range(10):
            await storage.acquire(key, LIMIT)
        await asyncio.to_thread(fail_over, server)
        await ask_until(storage, key, lambda: role_of(other) == "master")

        def counted() -> float:
            with redis_client(other.url, 5) as client:
                fields = client.hgetall(f"ratesim:{{{key}}}")
            return sum(float(value) for name, value in fields.items() if name.endswith(b"count"))

        begun = counted()
        await ask_until(storage, key, lambda: counted() > begun)
        assert role_of(before) == "master"  # the sentinels demote it ten seconds later


@pytest.mark.servers
async def test_a_silent_sentinel_leaves_time_for_the_next(server: Server) -> None:
    silent = sentinels_of(server)[0]
    os.kill(silent.pid, signal.SIGSTOP)
    try:
        async with open_storage(f"{server.url}&retries=0&command_timeout=8") as storage:
            assert await storage.acquire(uuid.uuid4().hex, LIMIT)
    finally:
        os.kill(silent.pid, signal.SIGCONT)


@pytest.mark.servers
async def test_many_connections_are_opened_at_once_and_none_to_a_sentinel_stays(server: Server) -> None:
    url = f"{server.url}&retries=0&pool_size=50&max_batch=1&command_timeout=20"
    async with open_storage(url) as storage:
        decisions = await asyncio.gather(*(storage.acquire(uuid.uuid4().hex, LIMIT) for _ in range(200)))
        assert all(decisions)

        def at_rest() -> bool:
            """Whether the sentinels have no nameless clients but the one that asks, and one that listens to the news."""
            names = []
            for member in sentinels_of(server):
                with redis_client(member.url, 5) as client:
                    names.append([each["name"] for each in client.client_list()].count("") - 1)
            return sorted(names) == [0, 0, 1]

        await asyncio.to_thread(wait_until, at_rest, "the end of the last search")


@pytest.mark.servers
async def test_another_sentinel_is_listened_to_when_one_falls_silent(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sentinel_connections, "QUIET", 0.2)
    first, *others = sentinels_of(server)
    async with open_storage(server.url) as storage:
        await storage.acquire(uuid.uuid4().hex, LIMIT)
        await asyncio.to_thread(wait_until, lambda: listeners([first]), "the subscription")
        os.kill(first.pid, signal.SIGSTOP)
        try:
            await asyncio.to_thread(wait_until, lambda: listeners(others), "another subscription")
        finally:
            os.kill(first.pid, signal.SIGCONT)
        assert await storage.acquire(uuid.uuid4().hex, LIMIT)


@pytest.mark.servers
async def test_a_user_of_the_sentinels_needs_no_more_than_the_primary_and_the_news(server: Server) -> None:
    rules = ["on", ">secret", "resetchannels", "&+switch-master", "+sentinel|masters", "+sentinel|slaves", "+subscribe"]
    for member in sentinels_of(server):
        with redis_client(member.url, 5) as client:
            client.execute_command("ACL SETUSER", "scout", "reset", *rules)

    url = re.sub("sentinel_password=.*", "sentinel_username=scout&sentinel_password=secret&retries=0", server.url)
    async with open_storage(url) as storage:
        assert await storage.acquire(uuid.uuid4().hex, LIMIT)
        await asyncio.to_thread(wait_until, lambda: "scout" in listeners(sentinels_of(server)), "the subscription")


@pytest.mark.servers
@pytest.mark.parametrize(
    ("find", "write", "says"),
    [
        ("/ratesim/", "/nobody/", r"nobody of sentinel 127.* 2 more: no primary is known \(the service is unknown\)"),
        ("sentinel_password=", "sentinel_password=x", r"ratesim of sentinel .*no primary is known \(invalid"),
        (r"\?.*", "?", r"no primary is known \(Authentication required"),
        ("//:", "//:x", "refuses the user or the password"),
        (
            r"@[^,]*,[^,]*,",
            "@127.0.0.1:1,127.0.0.1:2,127.0.0.1:3,127.0.0.1:4,127.0.0.1:5,127.0.0.1:6,",
            "knows only 2 others",
        ),
        (r"@[^/]*/", "@127.0.0.1:1/", "no primary is known .*Error 111 connecting"),
    ],
)
async def test_why_there_is_no_primary_is_said_without_a_password(server: Server, find: str, write: str, says: str) -> None:
    url = f"{re.sub(find, write, server.url, count=1)}&retries=0".replace("?&", "?")
    async with open_storage(url) as storage:
        with pytest.raises(StorageConnectionError, match=says) as caught:
            await storage.acquire("user", LIMIT)
    assert caught.value.sent is False
    for secret in passwords_in(server.url):
        assert secret not in str(caught.value)
