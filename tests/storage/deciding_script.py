"""Decides on keys as one of several processes, until its input ends, and prints what it has admitted and counted."""

import asyncio
import json
import random
import sys
from collections import Counter

from ratesim.limit import Limit
from ratesim.storage import RateLimitStorage, open_storage
from ratesim.storage.base import Request

NOW = 1_700_000_000.0
LIMIT = Limit(9, 1e9, "fixed_window")  # it never refills
TASKS = 8


async def decide(storage: RateLimitStorage, draw: random.Random, stop: asyncio.Event, told: Counter[str]) -> None:
    turn = 0
    while not stop.is_set():
        turn += 1
        keys = sorted({f"{draw.choice(('tenant-', 'free-', ''))}{draw.randrange(40 + turn)}" for _ in range(5)})
        if turn % 3:
            decision = await storage.acquire(keys[0], LIMIT, now=NOW)
            told[keys[0]] += decision.allowed
        else:
            decisions = await storage.acquire_many([Request(key, LIMIT, 1.0, NOW) for key in keys])
            told.update({key: int(decision.allowed) for key, decision in zip(keys, decisions, strict=True)})
        if turn % 7 == 0:
            await storage.increment(f"count {keys[0]}", 1, 1e9)
            told["counted"] += 1


async def main(url: str, seed: int) -> None:
    told: Counter[str] = Counter()
    stop = asyncio.Event()
    async with open_storage(url) as storage:
        draw = random.Random(seed)
        tasks = [asyncio.create_task(decide(storage, draw, stop, told)) for _ in range(TASKS)]
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        stop.set()
        await asyncio.gather(*tasks)
        await storage.cleanup_expired()
        await storage.get_stats()
    print(json.dumps(told))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
