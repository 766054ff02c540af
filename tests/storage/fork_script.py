"""Run by test_processes.py: a parent that uses a storage, and children of a fork that use the same object meanwhile.

Prints, as JSON, the admitted cost of the parent and of each child, or the error of a child.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

from ratesim import Limit
from ratesim.errors import RatesimError
from ratesim.storage import RateLimitStorage, open_storage

CHILDREN = 4
LIMIT = Limit(100, 3600, "fixed_window")


async def admitted(storage: RateLimitStorage, key: str, requests: int) -> int:
    count = 0
    for _ in range(requests):
        count += (await storage.acquire(key, LIMIT)).allowed
        await asyncio.sleep(0.005)
    return count


async def child(storage: RateLimitStorage, key: str) -> int:
    async with storage:
        return await admitted(storage, key, 40)


def fork(storage: RateLimitStorage, key: str) -> int:
    """Fork a child, and return the descriptor that its answer comes from."""
    reader, writer = os.pipe()
    if os.fork():
        os.close(writer)
        return reader
    try:
        answer = str(asyncio.run(child(storage, key)))
    except RatesimError as error:
        answer = f"{type(error).__name__}: {error}"
    except BaseException as error:  # noqa: BLE001 - the parent prints it, and the test fails
        answer = f"unexpected {error!r}"
    os.write(writer, answer.encode())
    os._exit(0)


def answers(readers: list[int]) -> list[str]:
    found = []
    for reader in readers:
        with os.fdopen(reader) as file:
            found.append(file.read())
        os.wait()
    return found


async def in_a_running_loop(storage: RateLimitStorage, key: str) -> tuple[int, list[str]]:
    """The parent has open connections and work in flight when it forks, and goes on meanwhile."""
    async with storage:
        count = await admitted(storage, key, 10)
        under_way = asyncio.ensure_future(admitted(storage, key, 40))
        await asyncio.sleep(0)
        readers = [fork(storage, key) for _ in range(CHILDREN)]
        found = await asyncio.to_thread(answers, readers)
        count += await under_way
        return count + await admitted(storage, key, 10), found


def main() -> None:
    url, key, when = sys.argv[1:]
    storage = open_storage(url)
    if when == "before use":
        count, found = 0, answers([fork(storage, key) for _ in range(CHILDREN)])
    else:
        count, found = asyncio.run(in_a_running_loop(storage, key))
    print(json.dumps({"parent": count, "children": found}))


main()
