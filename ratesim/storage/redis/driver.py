"""`RedisDriver`: operations as pipelined scripts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import redis.asyncio
import redis.exceptions

from ratesim.errors import StorageError, StorageUnavailableError
from ratesim.storage.config import RedisStorageConfig
from ratesim.storage.redis.calls import Calls
from ratesim.storage.redis.connections import Command, Connections, PipelineConnections, connect
from ratesim.storage.redis.direct import DirectConnections, Exchange, pack
from ratesim.storage.redis.error_translation import DOWN, connection_error, error_code, operation_error
from ratesim.storage.redis.scripts import command_of
from ratesim.storage.redis.upkeep import Upkeep
from ratesim.storage.remote.operations import Operation, identifier_of

__all__ = ["RedisDriver"]

Send = Callable[[Sequence[Command]], Awaitable[list[Any]]]


class RedisDriver:
    """Operations as pipelined scripts; a script travels in full when the server does not know it.

    Attributes
    ----------
    upkeep : Upkeep
        Removes and counts keys.
    """

    def __init__(self, config: RedisStorageConfig, connection: redis.asyncio.Redis | None = None) -> None:
        self.config = config
        client = connect(config) if connection is None else connection
        self._direct = DirectConnections(client) if connection is None else None
        self._connections: Connections = self._direct or PipelineConnections(client, shared=True)
        self._calls = Calls(config)
        self.upkeep = Upkeep(config, client)

    @property
    def clock_rewinds(self) -> int:
        """States that the scripts brought back to the time of a request."""
        return self._calls.clock_rewinds

    async def execute(self, batch: Sequence[Operation]) -> list[object]:
        """Execute a batch as one pipeline; the driver's errors become ours."""
        return await self._execute(batch, self._connections.send)

    def execute_within(self, batch: Sequence[Operation], seconds: float) -> Coroutine[Any, Any, list[object]] | None:
        """Execute a batch by a deadline, see `PromptDriver`; None where no connection is free."""
        exchange = self._direct.begin(seconds) if self._direct is not None else None
        return None if exchange is None else self._exchange(batch, exchange)

    async def _exchange(self, batch: Sequence[Operation], exchange: Exchange) -> list[object]:
        try:
            return await self._execute(batch, exchange.send)
        finally:
            exchange.end()

    async def _execute(self, batch: Sequence[Operation], send: Send) -> list[object]:
        places: Sequence[int] = range(len(batch))
        answers: list[object] = [None] * len(batch)
        call, answer = self._calls.call, self._calls.answer
        try:
            try:
                calls = [call(operation) for operation in batch]
                raw = await self._run(calls, send)
            except (UnicodeError, redis.exceptions.DataError):  # nothing was sent: all is encoded before
                places, calls = self._leave_out(batch, answers)
                raw = await self._run(calls, send)
        except (redis.exceptions.TimeoutError, TimeoutError) as error:
            raise TimeoutError from error
        except (redis.exceptions.RedisError, OSError) as error:
            raise connection_error(error, self.config.url) from error
        for place, each in zip(places, raw, strict=True):
            answers[place] = answer(batch[place], each)
        errors = [each for each in raw if isinstance(each, redis.exceptions.RedisError)]
        if errors:
            await self._look_at(errors, answers)
        return answers

    async def _look_at(self, errors: Sequence[redis.exceptions.RedisError], answers: Sequence[object]) -> None:
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
                pack([command_of(call)])
            except (UnicodeError, redis.exceptions.DataError) as error:
                answers[place] = self._failed(operation, error)
            else:
                calls[place] = call
        return list(calls), list(calls.values())

    async def _run(self, calls: Sequence[tuple[Any, ...]], send: Send) -> list[Any]:
        """Return the server's answers to calls, errors included.

        A call whose script the server does not know, because it is new or another client flushes them, was not carried out.
        Only that is sent again, with its script, which the server knows from then on.
        """
        if not calls:
            return []
        raw = await send([command_of(call) for call in calls])
        unknown = [place for place, answer in enumerate(raw) if answer.__class__ is redis.exceptions.NoScriptError]
        if unknown:
            again = await send([command_of(calls[place], in_full=True) for place in unknown])
            for place, answer in zip(unknown, again, strict=True):
                raw[place] = answer
        return raw

    def _failed(self, operation: Operation, error: Exception) -> StorageError:
        return operation_error(error, identifier_of(operation), self.config.url)

    def commands(self, batch: Sequence[Operation]) -> list[tuple[Any, ...]]:
        """Return the commands of a batch for a server that knows the scripts; nothing is sent."""
        return [command_of(self._calls.call(operation)) for operation in batch]

    async def close(self) -> None:
        """Close the client."""
        try:
            await self._connections.close()
        except (redis.exceptions.RedisError, OSError) as error:
            raise connection_error(error, self.config.url) from error

    def abandon(self) -> None:
        """Let the connections go without a message, see `ServerDriver`."""
        self._connections.abandon()
