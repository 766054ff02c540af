"""`RedisDriver`: operations as pipelined scripts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from functools import partial
from typing import Any

import redis.asyncio
import redis.exceptions

from ratesim.errors import StorageError, StorageUnavailableError
from ratesim.server_url import redis_topology
from ratesim.storage.config import RedisStorageConfig
from ratesim.storage.redis.calls import Calls
from ratesim.storage.redis.cluster import ClusterConnections
from ratesim.storage.redis.connections import Command, Connections, PipelineConnections, connect
from ratesim.storage.redis.direct import DirectConnections, Exchange, pack
from ratesim.storage.redis.error_translation import DOWN, connection_error, error_code, operation_error
from ratesim.storage.redis.live_form import is_packed, make_live
from ratesim.storage.redis.replicas import ReplicaReads
from ratesim.storage.redis.scripts import in_full
from ratesim.storage.redis.sentinel_connections import SentinelConnections
from ratesim.storage.redis.upkeep import Upkeep
from ratesim.storage.remote.operations import Acquire, Get, Operation, identifier_of

__all__ = ["RedisDriver"]

UNPACKINGS = 5  # tries of a call whose state is packed again, by `set_state` of others, while it is unpacked
KEY = 3  # its place in the command of a script
Send = Callable[..., Awaitable[list[Any]]]  # commands, and the places of those that a replica may answer


class RedisDriver:
    """Operations as pipelined scripts; a script travels in full when the server does not know it.

    Attributes
    ----------
    upkeep : Upkeep
        Removes and counts keys.
    gathers : bool
        See `PromptDriver`.
    """

    def __init__(self, config: RedisStorageConfig, connection: redis.asyncio.Redis | None = None) -> None:
        self.config = config
        self._connections = connections_of(config, connection)
        primary = self._connections.primary if isinstance(self._connections, ReplicaReads) else self._connections
        self._direct = primary if isinstance(primary, DirectConnections) else None
        self._cluster = self._connections if isinstance(self._connections, ClusterConnections) else None
        self.gathers = connection is None  # fakeredis spends its time on the operations, not on their batch
        self._calls = Calls(config)
        self.upkeep = Upkeep(config, self._connections)

    @property
    def sharded(self) -> bool:
        """Whether there are several servers, so that one may be lost alone."""
        return not self._connections.one_server

    @property
    def clock_rewinds(self) -> int:
        """States that the scripts brought back to the time of a request."""
        return self._calls.clock_rewinds

    async def execute(self, batch: Sequence[Operation]) -> list[object]:
        """Execute a batch as one pipeline; the driver's errors become ours."""
        return await self._execute(batch, self._connections.send)

    def execute_within(self, batch: Sequence[Operation], seconds: float) -> Coroutine[Any, Any, list[object]] | None:
        """Execute a batch by a deadline, see `PromptDriver`; None where no connection is free."""
        if self._cluster is not None and self._cluster.is_found:
            return self._execute(batch, partial(self._cluster.send, seconds=seconds))
        exchange = self._direct.begin(seconds) if self._direct is not None and not self._reads(batch) else None
        return None if exchange is None else self._exchange(batch, exchange)

    async def _exchange(self, batch: Sequence[Operation], exchange: Exchange) -> list[object]:
        try:
            return await self._execute(batch, exchange.send)
        finally:
            exchange.end()

    async def _execute(self, batch: Sequence[Operation], send: Send) -> list[object]:
        places: Sequence[int] = range(len(batch))
        answers: list[object] = [None] * len(batch)
        call, answer, reads = self._calls.call, self._calls.answer, self._reads(batch)
        try:
            try:
                calls = [call(operation) for operation in batch]
                raw = await (send(calls, reads) if reads else send(calls))
            except (UnicodeError, redis.exceptions.DataError):  # nothing was sent: all is encoded before
                places, calls = self._leave_out(batch, answers)
                reads = self._reads([batch[place] for place in places])
                raw = await send(calls, reads) if calls else []
            well = _is_well(raw)
            if not well:
                raw = await self._mend(calls, raw, send, reads)
        except (redis.exceptions.TimeoutError, TimeoutError) as error:
            raise TimeoutError from error
        except (redis.exceptions.RedisError, OSError) as error:
            raise connection_error(error, self.config.url) from error
        for place, each in zip(places, raw, strict=True):
            answers[place] = answer(batch[place], each)
        if not well:
            await self._look_at([each for each in raw if isinstance(each, redis.exceptions.RedisError)], answers)
        return answers

    async def _look_at(self, errors: Sequence[redis.exceptions.RedisError], answers: Sequence[object]) -> None:
        if self.sharded:
            return
        codes = {error_code(error) for error in errors}
        if codes & DOWN and all(isinstance(answer, StorageUnavailableError) for answer in answers):
            raise next(answer for answer in answers if isinstance(answer, StorageUnavailableError))
        if "READONLY" in codes:  # after a failover the address may lead to another server
            await self._connections.drop_idle()

    def _leave_out(self, batch: Sequence[Operation], answers: list[object]) -> tuple[Sequence[int], list[tuple[Any, ...]]]:
        """Answer the operations that cannot be encoded, and return the places and the calls of the others."""
        calls: dict[int, tuple[Any, ...]] = {}
        for place, operation in enumerate(batch):
            try:
                call = self._calls.call(operation)
                pack([call])
            except (UnicodeError, redis.exceptions.DataError) as error:
                answers[place] = self._failed(operation, error)
            else:
                calls[place] = call
        return list(calls), list(calls.values())

    def _reads(self, batch: Sequence[Operation]) -> Collection[int]:
        """Return the places of those that a replica may answer."""
        if not self.config.read_from_replicas:
            return ()
        return {
            place
            for place, operation in enumerate(batch)
            if isinstance(operation, Get) or (isinstance(operation, Acquire) and not operation.consume)
        }

    async def _mend(self, calls: Sequence[Command], raw: list[Any], send: Send, reads: Collection[int]) -> list[Any]:
        """Send again what was not carried out, and return the answers to all calls, errors included.

        A call whose script met a packed state was not carried out. The state is brought into the form that scripts decide
        on, and the call is sent again.
        """
        raw = await self._teach(calls, raw, send, reads)
        refused = redis.exceptions.ResponseError
        packed = [place for place, answer in enumerate(raw) if answer.__class__ is refused and is_packed(answer)]
        for _ in range(UNPACKINGS):
            if not packed:
                break
            keys = dict.fromkeys(calls[place][KEY] for place in packed)
            errors = await make_live(keys, partial(self._run_scripts, send=send))
            for place in packed:
                raw[place] = errors.get(calls[place][KEY], raw[place])
            packed = [place for place in packed if is_packed(raw[place])]
            for place, answer in zip(packed, await self._run_scripts([calls[place] for place in packed], send), strict=True):
                raw[place] = answer
            packed = [place for place in packed if is_packed(raw[place])]
        return raw

    async def _run_scripts(self, calls: Sequence[Command], send: Send) -> list[Any]:
        """Return the server's answers to calls, errors included; a script that the server does not know is taught."""
        return await self._teach(calls, await send(calls), send) if calls else []

    async def _teach(self, calls: Sequence[Command], raw: list[Any], send: Send, reads: Collection[int] = ()) -> list[Any]:
        """Send the calls again whose script the server does not know.

        It is new, or another client flushes its scripts. The calls were not carried out, and travel with the script, which
        the server knows from then on.
        """
        unknown = [place for place, answer in enumerate(raw) if answer.__class__ is redis.exceptions.NoScriptError]
        if unknown:
            commands = [in_full(calls[place]) for place in unknown]
            reads = {number for number, place in enumerate(unknown) if place in reads}
            again = await (send(commands, reads) if reads else send(commands))
            for place, answer in zip(unknown, again, strict=True):
                raw[place] = answer
        return raw

    def _failed(self, operation: Operation, error: Exception) -> StorageError:
        return operation_error(error, identifier_of(operation), self.config.url)

    def commands(self, batch: Sequence[Operation]) -> list[tuple[Any, ...]]:
        """Return the commands of a batch for a server that knows the scripts; nothing is sent."""
        return [self._calls.call(operation) for operation in batch]

    async def check(self) -> list[StorageError]:
        """Return what is wrong with servers of a cluster, which a lone request may not meet."""
        if self._cluster is None:
            return []
        try:
            errors = await self._cluster.check()
        except (redis.exceptions.RedisError, OSError) as error:
            errors = [error]
        return [connection_error(error, self.config.url) for error in errors]

    async def close(self) -> None:
        """Close the client."""
        try:
            await self._connections.close()
        except (redis.exceptions.RedisError, OSError) as error:
            raise connection_error(error, self.config.url) from error

    def abandon(self) -> None:
        """Let the connections go without a message, see `ServerDriver`."""
        self._connections.abandon()


def _is_well(raw: Sequence[Any]) -> bool:
    """Return whether no answer of the server is an error; as a loop, which is the fastest for a lone one."""
    for each in raw:  # noqa: SIM110
        if isinstance(each, Exception):
            return False
    return True


def connections_of(config: RedisStorageConfig, client: redis.asyncio.Redis | None) -> Connections:
    """Return the connections of a configuration, or those of a client that the caller gave."""
    if client is not None:
        return PipelineConnections(client, shared=True)
    if redis_topology(config.url) == "cluster":
        return ClusterConnections(config)
    kind = SentinelConnections if redis_topology(config.url) == "sentinel" else DirectConnections
    primary = kind(connect(config))
    if not config.read_from_replicas:
        return primary
    return ReplicaReads(primary, DirectConnections(connect(config, replicas=True)), config)
