"""A user of Redis with the rights of docs/redis.md, and no other."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
import redis
from rights import KEYS, rights

from ratesim import Limit
from ratesim.errors import StorageError
from ratesim.servers import Server
from ratesim.storage import Charge, RateLimitStorage, Request, open_storage

LIMIT = Limit(1000, 60.0, "token_bucket")
LOG = Limit(1000, 60.0, "sliding_log", name="log")
SEVERAL = (LIMIT, LOG, Limit(1000, 60.0, "gcra", name="gcra"))


@contextmanager
def user(server: Server, rules: Sequence[str]) -> Iterator[str]:
    """The address of a server, for a user with some rights."""
    client = redis.Redis.from_url(server.url)
    name = f"u{uuid.uuid4().hex}"
    try:
        client.execute_command("ACL SETUSER", name, "on", ">password", KEYS, *rules)
        address = server.url.rpartition("@")[2].rpartition("/")[0]
        yield f"redis://{name}:password@{address}"
    finally:
        client.execute_command("ACL DELUSER", name)
        client.close()


async def use_all(storage: RateLimitStorage) -> None:
    """Every verb that decides or keeps states, each of them on a key that exists and on one that does not."""
    one, other = uuid.uuid4().hex, uuid.uuid4().hex
    for _ in range(2):
        for limit in (LIMIT, Limit(9, 60.0, "fixed_window"), LOG, SEVERAL, Limit(9, 60.0, "adaptive")):
            await storage.acquire(one, limit)
            await storage.peek(one, limit)
            await storage.peek(other, limit)
        await storage.observe(one, Limit(9, 60.0, "adaptive"), 1.0)
        await storage.increment(one, 1, 60.0)
    await storage.acquire_many([Request(one, LOG, now=time.time()) for _ in range(200)])
    state = await storage.get_state(one, "log")
    assert state is not None
    await storage.set_state(other, state, name="log")  # packed
    assert (await storage.acquire(other, LOG)).allowed
    await storage.charge_many([Charge(other, limit, "node", 1, 0.0, ((time.time(), 1.0, 1),)) for limit in SEVERAL])
    assert (await storage.health_check()).healthy
    await storage.reset(one)
    await storage.reset(other)


@pytest.mark.parametrize("clock", ["client", "server"])
async def test_the_documented_rights_are_enough_for_every_verb(valkey_server: Server, clock: str) -> None:
    with user(valkey_server, rights(*(["clock=server"] if clock == "server" else []))) as url:
        async with open_storage(f"{url}?clock={clock}&compression=lz4") as storage:
            await use_all(storage)


async def test_more_rights_are_needed_for_what_the_page_says(valkey_server: Server) -> None:
    with user(valkey_server, rights()) as url:
        async with open_storage(url) as storage:
            for work, command in (
                (storage.claim("node", "holder", 1.0), "get"),
                (storage.get_stats(), "time"),
                (storage.cleanup_expired(), "time"),
            ):
                with pytest.raises(StorageError, match=f"does not allow this user '{command}'; grant it by ACL SETUSER"):
                    await work
        async with open_storage(f"{url}/1") as storage:
            with pytest.raises(StorageError, match="'select'"):
                await storage.acquire("user", LIMIT)
    more = rights("node", "get_stats", "cleanup_expired", "another database", "client_name")
    with user(valkey_server, more) as url:
        async with open_storage(f"{url}/1?client_name=limiter") as storage:
            await use_all(storage)
            await storage.claim(uuid.uuid4().hex, "holder", 1.0)
            await storage.get_stats()
            await storage.cleanup_expired()


async def test_another_prefix_is_refused(valkey_server: Server) -> None:
    with user(valkey_server, rights()) as url:
        async with open_storage(f"{url}?key_prefix=other:") as storage:
            with pytest.raises(StorageError, match="a command or a key"):
                await storage.acquire("user", LIMIT)
