"""`RedisDriver`: operations as pipelined scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import redis.asyncio
import redis.exceptions

from ratesim.errors import StorageError, StorageUnavailableError
from ratesim.storage.config import RedisStorageConfig
from ratesim.storage.redis.calls import Calls
from ratesim.storage.redis.connections import Connections, PipelineConnections, connect
from ratesim.storage.redis.error_translation import DOWN, connection_error, error_code, operation_error
from ratesim.storage.redis.scripts import command_of
from ratesim.storage.redis.upkeep import Upkeep
from ratesim.storage.remote.operations import Operation, identifier_of

__all__ = ["RedisDriver"]


class RedisDriver:
    """Operations as pipelined scripts; the scripts are loaded when the server does not know them.

    Attributes
    ----------
    upkeep : Upkeep
        Removes and counts keys.
    """

    def __init__(self, config: RedisStorageConfig, connection: redis.asyncio.Redis | None = None) -> None:
        self.config = config
        client = connect(config) if connection is None else connection
        self._connections: Connections = PipelineConnections(client, shared=connection is not None)
        self._encoder = client.get_encoder()  # type: ignore[no-untyped-call]
        self._calls = Calls(config)
        self.upkeep = Upkeep(config, client)

    @property
    def clock_rewinds(self) -> int:
        """States that the scripts brought back to the time of a request."""
        return self._calls.clock_rewinds

    async def execute(self, batch: Sequence[Operation]) -> list[object]:
        """Execute a batch as one pipeline; the driver's errors become ours."""
        try:
            return await self._execute(batch)
        except redis.exceptions.TimeoutError as error:
            raise TimeoutError from error
        except (redis.exceptions.RedisError, OSError) as error:
            raise connection_error(error, self.config.url) from error

    async def _execute(self, batch: Sequence[Operation]) -> list[object]:
        answers: list[object] = [None] * len(batch)
        calls: dict[int, tuple[Any, ...]] = {}
        for place, operation in enumerate(batch):
            try:
                calls[place] = self._calls.call(operation)
            except UnicodeError as error:
                answers[place] = self._failed(operation, error)
        try:
            raw = await self._run(calls)
        except (UnicodeError, redis.exceptions.DataError):  # nothing was sent: the whole pipeline is encoded before
            encode = self._encoder.encode
            for place in list(calls):
                try:
                    for argument in command_of(calls[place]):
                        encode(argument)
                except (UnicodeError, redis.exceptions.DataError) as error:
                    del calls[place]
                    answers[place] = self._failed(batch[place], error)
            raw = await self._run(calls)
        for place, answer in raw.items():
            answers[place] = self._calls.answer(batch[place], answer)
        codes = {error_code(answer) for answer in raw.values() if isinstance(answer, redis.exceptions.RedisError)}
        if codes & DOWN and all(isinstance(answer, StorageUnavailableError) for answer in answers):
            raise next(answer for answer in answers if isinstance(answer, StorageUnavailableError))
        if "READONLY" in codes:  # after a failover the address may lead to another server
            await self._connections.drop_idle()
        return answers

    async def _run(self, calls: Mapping[int, tuple[Any, ...]]) -> dict[int, Any]:
        """Return the server's answers to calls by their places, errors included.

        Scripts that the server does not know, because it is new or another client flushes them, are loaded and run again.
        What the server did not know was not carried out, so only that is sent again.
        """
        if not calls:
            return {}
        raw = dict(zip(calls, await self._connections.send([command_of(call) for call in calls.values()]), strict=True))
        for in_full in (False, True):  # in full no script has to be known
            unknown = [place for place, answer in raw.items() if isinstance(answer, redis.exceptions.NoScriptError)]
            if not unknown:
                break
            scripts = [] if in_full else list({calls[place][0] for place in unknown})
            commands = [("SCRIPT LOAD", script) for script in scripts]
            commands += [command_of(calls[place], in_full) for place in unknown]
            raw.update(zip(unknown, (await self._connections.send(commands))[len(scripts) :], strict=True))
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
