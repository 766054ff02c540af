"""Run by test_hot_keys.py: a process whose tasks ask for hot keys until all are used up. Prints admissions by key, as JSON.

python hot_keys.py URL TAG TASKS
"""

from __future__ import annotations

import asyncio
import json
import sys

from ratesim import Limit
from ratesim.storage import RateLimitStorage, open_storage

KEYS = 10
LIMIT = Limit(300, 1e7, "fixed_window")


async def ask(storage: RateLimitStorage, names: list[str], admitted: dict[str, int]) -> None:
    """One task: all keys in turn, until each has denied."""
    left = list(names)
    while left:
        for name in list(left):
            if (await storage.acquire(name, LIMIT)).allowed:
                admitted[name] += 1
            else:
                left.remove(name)


async def main(url: str, tag: str, tasks: int) -> None:
    names = [f"{tag}:{number}" for number in range(KEYS)]
    admitted = dict.fromkeys(names, 0)
    async with open_storage(url) as storage:
        await storage.peek(names[0], LIMIT)
        print("ready", flush=True)
        sys.stdin.readline()
        await asyncio.gather(
            *(ask(storage, names[number % KEYS :] + names[: number % KEYS], admitted) for number in range(tasks))
        )
    print(json.dumps(admitted))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
