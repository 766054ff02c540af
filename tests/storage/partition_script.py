"""A process of many in test_postgres_uniqueness.py: asks for the same keys as all the others, in every way there is.

Arguments: url, table, tasks, seed, rounds. Prints the admitted requests by key, and the sums that it counted.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import Counter

from ratesim import Limit
from ratesim.state import AlgorithmData, RateLimitState
from ratesim.storage import Charge, PostgresStorage, PostgresStorageConfig, Request

EXACT = Limit(40, 1e9, "fixed_window")
BOTH = (Limit(30, 1e9, "fixed_window", name="a"), Limit(50, 1e9, "token_bucket", name="b"))
SHORT = Limit(3, 1.0, "token_bucket")
KEYS = 5  # of each kind: asked for by one limit, by two, counted, and churned
PREFIXES = ("a", "tenant-", "u")  # where the strategy is by identifier, keys lie in several partitions


def key(kind: str, number: int) -> str:
    return f"{PREFIXES[number % 3]}{kind}{number}"


async def churn(storage: PostgresStorage, rng: random.Random, name: str) -> None:
    """Do something to a key that others do something else to: only that it has one row is known."""
    now = time.time()
    match rng.randrange(7):
        case 0:
            await storage.reset(name)
        case 1:
            state = RateLimitState(AlgorithmData.of("fixed_window", [now, 1.0]), now, now, 1, {}, {})
            await storage.set_state(name, state, ttl=rng.choice([0.001, 60.0]))
        case 2:
            await storage.acquire(name, SHORT, now=now - 500)  # is over for everyone else
        case 3:
            await storage.charge_many([Charge(name, SHORT, "node", 1, rng.randrange(9), ((now, 1.0, 1),), None)])
        case 4:
            await storage.increment(name, 1, 0.001)
        case 5:
            await storage.claim(name, f"h{rng.randrange(3)}", 0.001)
        case _:
            await storage.acquire(name, SHORT)


async def work(storage: PostgresStorage, rng: random.Random, rounds: int, admitted: Counter[str]) -> None:
    for _ in range(rounds):
        one, two, counted = (key(kind, rng.randrange(KEYS)) for kind in ("one", "two", "counted"))
        match rng.randrange(6):
            case 0:
                decision = await storage.acquire(one, EXACT)
                admitted[one] += decision.allowed
            case 1 | 2:  # the second: keys that repeat
                names = [key("one", rng.randrange(KEYS)) for _ in range(4)]
                names = names if rng.random() < 0.5 else list(dict.fromkeys(names))
                decisions = await storage.acquire_many([Request(name, EXACT) for name in names])
                admitted.update(name for name, decision in zip(names, decisions, strict=True) if decision.allowed)
            case 3:
                decision = await storage.acquire(two, BOTH)
                admitted[two] += decision.allowed
            case 4:
                await storage.increment(counted, 2, 1e9)
                admitted[counted] += 2
            case _:
                await churn(storage, rng, key("churn", rng.randrange(KEYS)))


async def main(url: str, table: str, tasks: int, seed: int, rounds: int) -> None:
    admitted: Counter[str] = Counter()
    config = PostgresStorageConfig(
        url=url, table_name=table, command_timeout=60.0, cleanup_interval=0, pool_size=4, synchronous_commit="off"
    )
    async with PostgresStorage(config) as storage:
        await asyncio.gather(
            *(work(storage, random.Random(f"{seed} {number}"), rounds, admitted) for number in range(tasks))
        )
    print(json.dumps(admitted))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])))
