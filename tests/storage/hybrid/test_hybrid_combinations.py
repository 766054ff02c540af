"""Which of the combinations of policies coincide: the table in docs/hybrid.md is what they do."""

from __future__ import annotations

import re
from functools import cache
from itertools import product
from pathlib import Path
from typing import get_args

import numpy as np
from hybrid_world import World

from ratesim import Limit
from ratesim.storage import config

WRITES, READS = get_args(config.WritePolicy), get_args(config.ReadPolicy)
DOCS = Path(__file__).parents[3] / "docs" / "hybrid.md"
LIMIT = Limit(9, 20.0, "sliding_window")


@cache
def behavior(consistency: str, write: str, read: str) -> tuple[object, ...]:
    """What two nodes answer to the same requests, when, and what they ask of L2: all that anybody can see of a policy."""
    world = World(
        nodes=2, consistency=consistency, write=write, read=read, refresh_after=3.0, l1_ttl=12.0, sync_interval=0.7
    )
    rng, seen = np.random.default_rng(5), []

    async def main() -> None:
        tokens: dict[int, str] = {}
        for _ in range(400):
            await world.runtime.sleep(
                float(rng.choice([0.0, 0.01, 0.3, 1.0, 4.0, 15.0], p=[0.2, 0.3, 0.2, 0.2, 0.07, 0.03]))
            )
            node, session = world.nodes[int(rng.integers(2))], int(rng.integers(3))
            start = world.runtime.time()
            decision = await node.acquire("user", LIMIT, float(rng.integers(0, 4)), session=tokens.get(session))
            tokens[session] = decision.session
            asked = (world.l2.reads, world.l2.flushes, world.l2.acquired)
            seen.append((decision.allowed, round(decision.remaining, 6), round(world.runtime.time() - start, 6), asked))
        await world.runtime.sleep(30.0)
        seen.append(world.l2.left(limit=LIMIT, now=world.runtime.time()))

    world.play(main)
    return tuple(seen)


def test_the_table_says_which_of_the_36_coincide() -> None:
    letters: dict[tuple[object, ...], str] = {}
    rows = []
    for write, read in product(WRITES, READS):
        cells = []
        for consistency in ("strong", "eventual", "session"):
            found = behavior(consistency, write, read)
            cells.append(letters.setdefault(found, chr(ord("A") + len(letters))))
        rows.append(f"| {write} | {read} | {' | '.join(cells)} |")
    table = "\n".join(rows)
    told = re.findall(r"^\| write_\w+ \| \w+ \| .*\|$", DOCS.read_text("utf-8"), re.MULTILINE)
    assert "\n".join(told) == table, f"docs/hybrid.md must say:\n{table}"


def test_a_lease_and_a_strong_node_have_nothing_to_write_or_read() -> None:
    for consistency in ("strong", "lease"):
        assert len({behavior(consistency, write, read) for write, read in product(WRITES, READS)}) == 1


def test_every_policy_has_its_sentence() -> None:
    text = DOCS.read_text("utf-8")
    policies = (
        config.Consistency,
        config.WritePolicy,
        config.ReadPolicy,
        config.StoreFailurePolicy,
        config.Sync,
        config.QueueFullPolicy,
    )
    for name in {name for each in policies for name in get_args(each)}:
        assert re.search(rf"^\| `{name}` \| .*[a-z]", text, re.MULTILINE), f"docs/hybrid.md says nothing of {name}"
