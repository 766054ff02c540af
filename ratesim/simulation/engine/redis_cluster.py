"""A Redis cluster: servers that own a range of slots each, and a client that routes operations to their owners.

All keys of an identifier lie in one slot, so several limits of it are still decided atomically. A batch is grouped by owner,
and the groups travel side by side.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from ratesim.errors import StorageConnectionError, StorageError, StorageTimeoutError
from ratesim.runtime import Runtime
from ratesim.simulation.engine.remote_storage import SimDriver, subject
from ratesim.simulation.engine.store_server import StoreServer
from ratesim.simulation.network.hash_slots import SLOTS, shard_of, slot_of
from ratesim.simulation.network.wire_size import Backend, MeteredBackend, Wire
from ratesim.storage.config import RedisStorageConfig
from ratesim.storage.redis.cluster import PATIENCE, REFRESH
from ratesim.storage.remote.operations import Operation

__all__ = ["SLOTS", "ClusterDriver", "Redirect", "ShardBackend", "ShardedDriver", "SlotTable", "shard_of", "slot_of"]


@dataclass(frozen=True)
class Redirect:
    """The answer of a primary that does not have a key: MOVED, or ASK while its slot moves.

    Attributes
    ----------
    shard
        The primary that has it.
    ask
        Whether it is ASK.
    """

    shard: int
    ask: bool


class SlotTable:
    """The owners of the slots, as the primaries know them, and the slots that move.

    Attributes
    ----------
    owner
        The primary of each slot.
    moving
        The primary that each moving slot goes to.
    gone
        Identifiers of moving slots that are there already.
    """

    def __init__(self, shards: int, prefix: str) -> None:
        self.owner = array("H", (slot * shards // SLOTS for slot in range(SLOTS)))
        self.moving: dict[int, int] = {}
        self.gone: set[str] = set()
        self.prefix = prefix

    def owned_by(self, shard: int) -> list[int]:
        """Return the slots of a primary, in order."""
        return [slot for slot, owner in enumerate(self.owner) if owner == shard]

    def redirect(self, identifier: str, shard: int) -> Redirect | None:
        """Return how a primary answers for an identifier; None where it decides."""
        slot = slot_of(identifier, self.prefix)
        owner, target = self.owner[slot], self.moving.get(slot)
        if target is None:
            return None if owner == shard else Redirect(owner, ask=False)
        if shard == target:
            return None  # whoever comes was asked to: nobody else knows yet
        if shard != owner:
            return Redirect(owner, ask=False)
        return Redirect(target, ask=True) if identifier in self.gone else None

    def settle(self, slot: int, names: Sequence[str]) -> None:
        """End the move of a slot with these identifiers."""
        self.owner[slot] = self.moving.pop(slot)
        self.gone.difference_update(names)


class ShardBackend(MeteredBackend):
    """The backend of a primary whose slots may move. It answers with a redirect, uncounted, what it lacks."""

    def __init__(self, backing: Backend, wire: Wire, shard: int, table: SlotTable) -> None:
        super().__init__(backing, wire)
        self._shard = shard
        self._table = table

    def execute(self, batch: Sequence[Operation]) -> list[object]:
        """Execute what is here."""
        answers: list[object] = [self._table.redirect(subject(operation)[0], self._shard) for operation in batch]
        here = [place for place, redirect in enumerate(answers) if redirect is None]
        if here:
            for place, answer in zip(here, super().execute([batch[place] for place in here]), strict=True):
                answers[place] = answer
        return answers


class ShardedDriver:
    """One node's drivers to the primaries of a cluster.

    Parameters
    ----------
    drivers
        To each primary.
    runtime
        The simulated time.
    prefix
        Of the keys.
    table
        The owners of the slots, if they change. The node knows those of the moment, and hears of others by redirects.

    Attributes
    ----------
    moved, asked
        Redirects that were followed.
    gathers
        See `PromptDriver`.
    """

    gathers = True

    def __init__(
        self, drivers: Sequence[SimDriver], runtime: Runtime, prefix: str = "ratesim:", table: SlotTable | None = None
    ) -> None:
        self._drivers = drivers
        self._runtime = runtime
        self._prefix = prefix
        self._owner = None if table is None else array("H", table.owner)
        self.moved = self.asked = 0

    async def execute(self, batch: Sequence[Operation]) -> list[object]:
        """Return the answers in order. Where one of several groups fails, its operations have the error for an answer."""
        known, shards = self._owner, len(self._drivers)
        slots = [slot_of(subject(operation)[0], self._prefix) for operation in batch]
        owners = [slot * shards // SLOTS for slot in slots] if known is None else [known[slot] for slot in slots]
        if len(set(owners)) == 1:
            answers = await self._only(owners[0], batch)
        else:
            answers = [None] * len(batch)
            await self._scatter(dict(enumerate(owners)), batch, answers)
        while redirects := {place: each for place, each in enumerate(answers) if isinstance(each, Redirect)}:
            for place, redirect in redirects.items():
                if redirect.ask:
                    self.asked += 1
                elif known is not None:
                    self.moved += 1
                    known[slots[place]] = redirect.shard
            await self._scatter({place: redirect.shard for place, redirect in redirects.items()}, batch, answers)
        return answers

    async def next_turn(self) -> None:
        """Wait for the next turn of the node's event loop."""
        await self._drivers[0].next_turn()

    async def _scatter(self, owners: dict[int, int], batch: Sequence[Operation], answers: list[object]) -> None:
        """Send the operations at these places to their owners, side by side, and put their answers in place."""
        groups: dict[int, list[int]] = {}
        for place, owner in owners.items():
            groups.setdefault(owner, []).append(place)
        tasks = [
            self._runtime.spawn(self._group(owner, [batch[place] for place in places])) for owner, places in groups.items()
        ]
        for task, places in zip(tasks, groups.values(), strict=True):
            for place, answer in zip(places, await task, strict=True):
                answers[place] = answer

    async def _only(self, owner: int, operations: Sequence[Operation]) -> list[object]:
        """Send a batch that belongs to one primary."""
        return await self._drivers[owner].execute(operations)

    async def _group(self, owner: int, operations: Sequence[Operation]) -> list[object]:
        try:
            return await self._only(owner, operations)
        except StorageError as error:
            return [error] * len(operations)

    async def close(self) -> None:
        """Close all drivers."""
        for driver in self._drivers:
            await driver.close()


class ClusterDriver(ShardedDriver):
    """A driver that fails and finds primaries again as `ratesim.storage.redis.cluster` does.

    The error of a primary is the answer of its operations and of no others; the client repeats those for which that is safe
    (`sharded`). After `breaker_failures` failures in a row a primary is left alone. Each failure starts a look at the
    topology in the background unless there was one within REFRESH. Until a look, a primary that was replaced refuses at its
    old address.

    Parameters
    ----------
    drivers, runtime, table
        As for ShardedDriver.
    config
        Options of the client.
    servers
        The primaries.
    round_trip
        Seconds of a look at the topology.
    """

    sharded = True

    def __init__(
        self,
        drivers: Sequence[SimDriver],
        runtime: Runtime,
        config: RedisStorageConfig,
        table: SlotTable | None,
        servers: Sequence[StoreServer],
        round_trip: float,
    ) -> None:
        super().__init__(drivers, runtime, config.key_prefix, table)
        self._config = config
        self._servers = servers
        self._round_trip = round_trip
        self._known = [server.takeovers for server in servers]
        self._failures = [0] * len(servers)
        self._open_until = [0.0] * len(servers)
        self._looking = False
        self._looked_at = -inf

    async def execute(self, batch: Sequence[Operation]) -> list[object]:
        """Return the answers in order. Raises an error only where no primary is reached."""
        answers = await super().execute(batch)
        if all(self._failures):
            lost = [each for each in answers if isinstance(each, StorageConnectionError | StorageTimeoutError)]
            if len(lost) == len(answers):
                raise next((each for each in lost if getattr(each, "sent", True)), lost[0])
        return answers

    async def _only(self, owner: int, operations: Sequence[Operation]) -> list[object]:
        now, config = self._runtime.monotonic(), self._config
        if self._failures[owner] >= config.breaker_failures:
            if now < self._open_until[owner]:
                self._look()
                error: StorageError = StorageConnectionError("its primary is left alone after failures in a row", sent=False)
                return [error] * len(operations)
            self._open_until[owner] = now + config.breaker_reset  # one batch probes
        try:
            if self._known[owner] != self._servers[owner].takeovers:
                answers = await self._at_old_address(owner, operations)
            else:
                carried = self._drivers[owner].execute(operations)
                answers = await self._runtime.abandon_after(carried, PATIENCE * config.command_timeout)
        except TimeoutError:
            error = StorageTimeoutError(f"no answer of shard {owner} within {PATIENCE * config.command_timeout:g} s")
        except StorageError as failure:
            error = failure
        else:
            self._failures[owner] = 0
            return answers
        self._failures[owner] += 1
        if self._failures[owner] >= config.breaker_failures:
            self._open_until[owner] = self._runtime.monotonic() + config.breaker_reset
        self._look()
        return [error] * len(operations)

    async def _at_old_address(self, owner: int, operations: Sequence[Operation]) -> list[object]:
        """Fail as at the address of a primary that was replaced."""
        await self._runtime.sleep(
            PATIENCE * self._config.command_timeout if self._servers[owner].host_lost else self._round_trip
        )
        raise StorageConnectionError("the primary is gone, and the new one not known yet", sent=False)

    def _look(self) -> None:
        """Look at the topology in the background, unless that was done a moment ago."""
        if not self._looking and self._runtime.monotonic() - self._looked_at >= REFRESH:
            self._looking = True
            self._runtime.spawn(self._refresh())

    async def _refresh(self) -> None:
        await self._runtime.sleep(self._round_trip)
        for shard, server in enumerate(self._servers):
            if self._known[shard] != server.takeovers:  # another address, of which no failure is known
                self._known[shard], self._failures[shard] = server.takeovers, 0
        self._looking, self._looked_at = False, self._runtime.monotonic()
