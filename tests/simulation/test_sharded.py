"""A Redis cluster in simulated time: who owns a key, and what travels where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
import simpy
from redis.crc import key_slot

from ratesim.errors import ConnectionFailed
from ratesim.runtime import SimRuntime
from ratesim.simulation.sharded import SLOTS, ShardedDriver, shard_of
from ratesim.storage.operations import Get, Operation


def test_an_identifier_is_owned_by_the_owner_of_its_hash_tag_s_slot() -> None:
    assert key_slot(b"123456789") == 0x31C3, "the check value of the cluster's specification"
    for identifier in ("user:1", "10.0.0.1", "ключ", "half \ud800 pair", ""):
        slot = key_slot(f"ratesim:{{{identifier}}}:counter".encode("utf-8", "surrogatepass"))
        if identifier:
            assert shard_of(identifier, SLOTS) == slot, "the hash and the counter of an identifier lie together"
        assert shard_of(identifier, 1) == 0


@pytest.mark.parametrize("shards", [1, 2, 3, 7])
def test_slots_are_shared_out_evenly(shards: int) -> None:
    owned = Counter(slot * shards // SLOTS for slot in range(SLOTS))
    assert sorted(owned) == list(range(shards))
    assert max(owned.values()) - min(owned.values()) <= 1
    keys = Counter(shard_of(f"user:{i}", shards) for i in range(20_000))
    assert min(keys.values()) > 0.95 * 20_000 / shards


class Primary:
    """Answers after `seconds` with its number and whom it was asked for; or refuses."""

    def __init__(self, runtime: SimRuntime, number: int, seconds: float, down: bool = False) -> None:
        self.runtime, self.number, self.seconds, self.down = runtime, number, seconds, down
        self.batches: list[int] = []

    async def execute(self, batch: Sequence[Operation]) -> list[object]:
        self.batches.append(len(batch))
        await self.runtime.sleep(self.seconds)
        if self.down:
            raise ConnectionFailed("down", sent=False)
        return [(self.number, operation.identifier) for operation in batch if isinstance(operation, Get)]

    async def close(self) -> None: ...


def asked(names: Sequence[str], down: int | None = None) -> tuple[list[object] | Exception, float, list[list[int]]]:
    """What a client of three primaries is answered, when, and the sizes of the batches of each."""
    runtime = SimRuntime(simpy.Environment())
    primaries = [Primary(runtime, i, 1.0 + i, down=i == down) for i in range(3)]
    driver = ShardedDriver(primaries, runtime)
    came: list[list[object] | Exception] = []

    async def ask() -> None:
        try:
            came.append(await driver.execute([Get(name, "", 0.0) for name in names]))
        except ConnectionFailed as error:
            came.append(error)

    runtime.spawn(ask())
    runtime.env.run()
    return came[0], runtime.env.now, [primary.batches for primary in primaries]


NAMES = [f"user:{i}" for i in range(12)]
OF = {shard: [name for name in NAMES if shard_of(name, 3) == shard] for shard in range(3)}


def test_a_batch_is_grouped_by_owner_and_answered_in_its_order() -> None:
    answers, _, batches = asked(NAMES)
    assert answers == [(shard_of(name, 3), name) for name in NAMES]
    assert batches == [[len(OF[shard])] for shard in range(3)]


def test_the_groups_travel_side_by_side() -> None:
    assert asked(NAMES)[1] == 3.0, "the slowest, not the sum"
    assert asked(OF[0])[1] == 1.0, "and nobody waits for a primary that was not asked"


def test_a_primary_that_is_down_fails_its_own_keys_and_no_others() -> None:
    answers, _, _ = asked(NAMES, down=1)
    assert isinstance(answers, list)
    for name, answer in zip(NAMES, answers, strict=True):
        assert isinstance(answer, ConnectionFailed) == (name in OF[1])
    alone, _, _ = asked(OF[1], down=1)
    assert isinstance(alone, ConnectionFailed)
    assert not alone.sent, "so that the client may try again"
