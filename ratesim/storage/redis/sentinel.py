"""Finds the primary that sentinels name, each time that a connection is opened."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import redis.asyncio
import redis.asyncio.sentinel
import redis.exceptions

from ratesim.server_url import redis_hosts, redis_node_urls, redis_primary_url, redis_service

__all__ = ["sentinel_client"]


def sentinel_client(url: str, command_timeout: float, replicas: bool = False, **options: Any) -> redis.asyncio.Redis:
    """Make a client of the primary that the sentinels of a checked URL name.

    Parameters
    ----------
    url : str
        Names the sentinels and their service.
    command_timeout : float
        Seconds in which all sentinels can be asked, and the primary be reached.
    replicas : bool
        Whether it is a client of the replicas instead, each connection of the next one; of the primary where there is none.
    **options
        Of the connections.
    """
    hosts = redis_hosts(url)
    each = command_timeout / (len(hosts) + 1)  # a silent sentinel leaves time for the next
    timing = {"socket_timeout": each, "socket_connect_timeout": each, "retry": options["retry"], "protocol": 2}
    sentinels = _Sentinels(  # type: ignore[no-untyped-call]
        hosts,
        # One that knows less than half of the others has just been started, or was left behind.
        min_other_sentinels=len(hosts) // 2,
        sentinel_kwargs={**timing, **_arguments(redis_node_urls(url)[0])},
    )
    make = sentinels.slave_for if replicas else sentinels.master_for
    client: redis.asyncio.Redis = make(redis_service(url), **_arguments(redis_primary_url(url)), **options)
    return client


def _arguments(url: str) -> dict[str, Any]:
    """Return the arguments of a connection that a URL gives, without the address."""
    arguments: dict[str, Any] = dict(redis.asyncio.connection.parse_url(url))
    if arguments.pop("connection_class", None) is not None:
        arguments["ssl"] = True
    return {name: value for name, value in arguments.items() if name not in ("host", "port")}


class _Sentinels(redis.asyncio.sentinel.Sentinel):
    """Sentinels, to which no connection stays open between two searches."""

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        """Ask one sentinel after the other; the one that knew the primary is asked first the next time.

        Raises MasterNotFoundError with what each of them said.
        """
        said: list[str] = []
        unreachable: list[str] = []
        for sentinel in tuple(self.sentinels):
            try:
                async with _own_connection(sentinel) as asked:
                    states: Any = await asked.sentinel_masters()
            except (redis.exceptions.RedisError, OSError) as error:
                unreachable.append(str(error) or type(error).__name__)
                continue
            state = states.get(service_name)
            if state is None:
                said.append("the service is unknown")
            elif self.check_master_state(state, service_name):
                self.sentinels.remove(sentinel)
                self.sentinels.insert(0, sentinel)
                return state["ip"], state["port"]
            elif state["num-other-sentinels"] < self.min_other_sentinels:
                said.append(f"the sentinel knows only {state['num-other-sentinels']} others")
            else:
                said.append(f"the primary is {state['flags']}")
        raise redis.asyncio.sentinel.MasterNotFoundError("; ".join(dict.fromkeys(said + unreachable)))

    async def discover_slaves(self, service_name: str) -> Any:
        """Return the addresses of the replicas that a sentinel takes for well; none where no sentinel answers."""
        for sentinel in tuple(self.sentinels):
            try:
                async with _own_connection(sentinel) as asked:
                    replicas: Any = await asked.sentinel_slaves(service_name)
            except (redis.exceptions.RedisError, OSError):
                continue
            if well := self.filter_slaves(replicas):
                return well
        return []


@asynccontextmanager
async def _own_connection(sentinel: redis.asyncio.Redis) -> AsyncIterator[redis.asyncio.Redis]:
    """Give a client for one search, whose connection no other search uses, and which is closed without waiting."""
    of_all = sentinel.connection_pool
    pool = redis.asyncio.ConnectionPool(connection_class=of_all.connection_class, **of_all.connection_kwargs)
    try:
        yield redis.asyncio.Redis(connection_pool=pool)
    finally:
        # redis-py keeps them in private attributes only, and its own `disconnect` of the pool waits.
        for connection in (*pool._available_connections, *pool._in_use_connections):
            await connection.disconnect(nowait=True)
