"""Run by test_hot_keys.py: a process whose tasks ask for hot keys until all are used up. Prints admissions by key, as JSON.

python hot_keys.py TAG TASKS RATE URL...

So many tasks at each of the URLs share ten keys there.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import AsyncExitStack

from ratesim import Limit
from ratesim.storage import RateLimitStorage, open_storage

KEYS = 10
PERIOD = 1e7  # seconds; no window ends within a test


async def ask(storage: RateLimitStorage, names: list[str], limit: Limit, admitted: dict[str, int]) -> None:
    """One task: all keys in turn, until each has denied."""
    left = list(names)
    while left:
        for name in list(left):
            if (await storage.acquire(name, limit)).allowed:
                admitted[name] += 1
            else:
                left.remove(name)


async def main(tag: str, tasks: int, rate: float, urls: list[str]) -> None:
    limit = Limit(rate, PERIOD, "fixed_window")
    names = [[f"{tag}{place}:{number}" for number in range(KEYS)] for place in range(len(urls))]
    admitted = dict.fromkeys((name for each in names for name in each), 0)
    async with AsyncExitStack() as stack:
        storages = [await stack.enter_async_context(open_storage(url)) for url in urls]
        for storage, mine in zip(storages, names, strict=True):
            await storage.peek(mine[0], limit)
        print("ready", flush=True)
        sys.stdin.readline()
        await asyncio.gather(
            *(
                ask(storage, mine[number % KEYS :] + mine[: number % KEYS], limit, admitted)
                for number in range(tasks)
                for storage, mine in zip(storages, names, strict=True)
            )
        )
    print(json.dumps(admitted))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4:]))
