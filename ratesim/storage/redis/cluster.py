"""`ClusterConnections`: the nodes of a Redis or Valkey cluster, as redis-py's `RedisCluster` finds them.

Commands are grouped by the node that owns their slot, and the groups travel side by side. A command that is answered with
MOVED, ASK or TRYAGAIN was not carried out, and is sent again where it belongs. What failed otherwise is an answer of its
place: one node that is lost takes nothing from the slots of the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import chain, count
from typing import Any

import redis.asyncio
import redis.exceptions
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.connection import SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.cluster import LoadBalancingStrategy
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from ratesim.server_url import redis_hosts, redis_node_urls
from ratesim.storage.config import RedisStorageConfig
from ratesim.storage.redis.connections import SPARE, Command, abandon_connections, check_files, read_scan, scan_from
from ratesim.storage.redis.direct import DirectConnections, pack
from ratesim.storage.redis.error_translation import NotSentError

__all__ = ["ClusterConnections"]

PATIENCE = 0.9  # share of command_timeout after which a node is given up, so that the answers of the others arrive in time
DOUBT = 0.1  # share of the time that a node has which was silent a moment ago, so that its silences do not add up
EAGER = 5  # redirects that are followed without a pause
PAUSE = 0.01  # seconds until a command is tried again whose slot moves at this moment
REFRESH = 0.25  # least seconds between two looks at the topology
WITH_COUNT = ("EVAL", "EVALSHA", "EVAL_RO", "EVALSHA_RO", "FCALL", "FCALL_RO")  # their key follows the number of keys
ASKING, PING, READONLY, READWRITE = (pack([(name,)]) for name in ("ASKING", "PING", "READONLY", "READWRITE"))
PLAIN, ASKED, REPLICA = range(3)  # how a group travels


class ClusterConnections:
    """Carries commands to the nodes of a cluster.

    Parameters
    ----------
    config
        Options. All hosts of its URL are asked for the topology; the nodes that they name are found from there.
    """

    one_server = False

    def __init__(self, config: RedisStorageConfig) -> None:
        check_files(config.url)
        self._config = config
        self._cluster = _client_of(config)
        self._servers: dict[str, _Server] = {}
        self._looking: asyncio.Task[None] | None = None
        self._looked_at = 0.0
        self._closed = False

    @property
    def is_found(self) -> bool:
        """Whether the topology is known."""
        return bool(self._cluster.nodes_manager.slots_cache)

    async def send(
        self, commands: Sequence[Command], reads: Collection[int] = (), seconds: float | None = None
    ) -> list[Any]:
        """Send each command to the node that owns its slot.

        Parameters
        ----------
        commands
            Commands of one slot each.
        reads
            The places of those that a replica may answer.
        seconds
            Until the answers must be there; command_timeout where it is None.

        Returns
        -------
        list
            The answers; of a command that had none, the error of its connection.
        """
        packed = [pack([command]) for command in commands]  # what cannot be encoded is found before anything is sent
        if not self.is_found:
            await self._find_topology()
        end = self._deadline(seconds)
        answers: list[Any] = [None] * len(commands)
        routes = [_Route(place in reads) for place in range(len(commands))]
        pending: Collection[int] = range(len(commands))
        for turn in count():
            groups: dict[tuple[ClusterNode, int], list[int]] = {}
            for place in pending:
                group = self._group_of(commands[place], routes[place])
                if group is None:
                    answers[place] = redis.exceptions.ClusterDownError("CLUSTERDOWN its slot has no owner")
                else:
                    groups.setdefault(group, []).append(place)
            exchanges = [
                self._exchange(node, mode, [packed[place] for place in places], end)
                for (node, mode), places in groups.items()
            ]
            pending, pause = [], PAUSE if turn >= EAGER else 0.0
            for (group, places), found in zip(groups.items(), await _side_by_side(exchanges), strict=True):
                for place, answer in zip(places, found, strict=True):
                    answers[place] = answer
                    tries_again = isinstance(answer, redis.exceptions.TryAgainError)
                    if tries_again and commands[place][0] == "DEL" and len(commands[place]) > 2:
                        answers[place] = await self._delete(commands[place][1:])
                    elif isinstance(answer, Exception) and await self._leads_on(answer, group, routes[place]):
                        pending.append(place)
                        if isinstance(answer, redis.exceptions.AskError):  # which concerns nobody else
                            answers[place] = redis.exceptions.TryAgainError("its slot moves from node to node")
                        elif tries_again:
                            pause = PAUSE
            if not pending or asyncio.get_running_loop().time() + pause >= end:
                break
            if pause:
                await asyncio.sleep(pause)
        self._raise_if_all_are_lost(answers)
        return answers

    async def _leads_on(self, answer: Exception, group: tuple[ClusterNode, int], route: _Route) -> bool:
        """Return whether a command was not carried out and is to be sent again, and find where."""
        node, mode = group
        if mode == REPLICA and not isinstance(answer, redis.exceptions.NoScriptError):
            route.replica = False  # the primary answers instead
            return True
        if isinstance(answer, redis.exceptions.AskError):  # MOVED is one
            await self._redirect(answer, node, route)
            return True
        if isinstance(answer, redis.exceptions.ClusterDownError | redis.exceptions.ReadOnlyError):
            self._look()
        return isinstance(answer, redis.exceptions.TryAgainError)

    def _deadline(self, seconds: float | None = None) -> float:
        return asyncio.get_running_loop().time() + PATIENCE * (self._config.command_timeout if seconds is None else seconds)

    def _group_of(self, command: Command, route: _Route) -> tuple[ClusterNode, int] | None:
        """Return the node for a command, and how the command travels; None where its slot has no owner."""
        asked, route.asked = route.asked, None
        if asked is not None:
            return asked, ASKED
        name = command[0]
        key = command[3] if name in WITH_COUNT else command[2] if name == "MEMORY" else command[1]
        slot: int = key_slot(key) if key.__class__ is bytes else self._cluster.keyslot(key)
        manager = self._cluster.nodes_manager
        if slot not in manager.slots_cache:
            self._look()
            return None
        primary = manager.get_node_from_slot(slot)
        if route.replica:
            node = manager.get_node_from_slot(slot, load_balancing_strategy=LoadBalancingStrategy.ROUND_ROBIN_REPLICAS)
            if node != primary:
                return node, REPLICA
        return primary, PLAIN

    async def _redirect(self, error: redis.exceptions.AskError, origin: ClusterNode, route: _Route) -> None:
        """Go where MOVED says from now on, or where ASK says this once."""
        if not error.host:  # the node knows no address of the other but its port
            error.host = origin.host
            error.node_addr = error.host, error.port
        manager = self._cluster.nodes_manager
        if isinstance(error, redis.exceptions.MovedError):
            if error.slot_id in manager.slots_cache:
                await manager.move_slot(error)
            self._look()
            return
        route.asked = manager.get_node(host=error.host, port=error.port)
        if route.asked is None:
            route.asked = ClusterNode(error.host, error.port, "primary", **self._cluster.connection_kwargs)
            manager.set_nodes(manager.nodes_cache, {route.asked.name: route.asked})

    async def _delete(self, keys: Sequence[bytes]) -> Any:
        """Delete keys of a slot that moves one by one, since no node has them all."""
        answers = await self.send([("DEL", key) for key in keys])
        return next((answer for answer in answers if isinstance(answer, Exception)), None) or sum(answers)

    def _raise_if_all_are_lost(self, answers: Sequence[Any]) -> None:
        """Raise the error of a command where no primary is reached, so that the cluster is left alone for a while."""
        lost = [answer for answer in answers if isinstance(answer, redis.exceptions.ConnectionError)]
        if not lost or len(lost) < len(answers):
            return
        if all(self._server_of(node).failures for node in self._cluster.get_primaries()):
            raise next((error for error in lost if not isinstance(error, NotSentError)), lost[0])

    # -- one node -------------------------------------------------------------------------------------------------------

    def _server_of(self, node: ClusterNode) -> _Server:
        server = self._servers.get(node.name)
        if server is None:
            server = self._servers[node.name] = _Server(DirectConnections(_client_of_node(node)))
        return server

    async def _exchange(self, node: ClusterNode, mode: int, commands: list[bytes], end: float) -> list[Any]:
        """Write commands to a node at once, and read the answers, or the error of the connection for each."""
        now, server = asyncio.get_running_loop().time(), self._server_of(node)
        if server.failures >= self._config.breaker_failures:
            if now < server.open_until:
                self._look()
                return [NotSentError(f"{node.name}: left alone after {server.failures} failures in a row")] * len(commands)
            server.open_until = now + self._config.breaker_reset  # one batch probes
        if now < server.doubted_until:
            end = now + DOUBT * (end - now)
        wire = commands
        if mode == ASKED:
            wire = [each for command in commands for each in (ASKING, command)]
        elif mode == REPLICA:
            wire = [READONLY, *commands, READWRITE]
            end = (now + end) / 2  # then the primary has the rest of the time
        link = None
        try:
            async with asyncio.timeout_at(end):
                link = await server.connections.take()
                answers = await link.exchange(b"".join(wire), len(wire))
        except (redis.exceptions.RedisError, OSError) as error:  # a TimeoutError is an OSError
            answers = [_lost(error, node, link is not None, len(wire) == 1)] * len(wire)
            server.failures += 1
            if isinstance(error, TimeoutError) and now >= server.doubted_until:
                server.doubted_until = asyncio.get_running_loop().time() + self._config.command_timeout
            if server.failures >= self._config.breaker_failures:
                server.open_until = asyncio.get_running_loop().time() + self._config.breaker_reset
            self._look(node)
        else:
            server.failures, server.doubted_until = 0, 0.0
        finally:
            if link is not None and self._servers.get(node.name) is server and not self._closed:
                server.connections.put_back(link)
            elif link is not None:  # the node has left the cluster, or all is closed
                link.abort()
        if mode == ASKED:
            return answers[1::2]
        return answers[1:-1] if mode == REPLICA else answers

    # -- topology -------------------------------------------------------------------------------------------------------

    def _look(self, failed: ClusterNode | None = None) -> None:
        """Look at the topology in the background, unless that was done a moment ago."""
        if self._looking is None and asyncio.get_running_loop().time() - self._looked_at >= REFRESH:
            self._start_looking(failed)

    def _start_looking(self, failed: ClusterNode | None) -> asyncio.Task[None]:
        self._looking = asyncio.get_running_loop().create_task(self._refresh(failed))
        self._looking.add_done_callback(self._looked)
        return self._looking

    def _looked(self, task: asyncio.Task[None]) -> None:
        self._looking, self._looked_at = None, task.get_loop().time()
        if not task.cancelled():
            task.exception()  # raised where a command needs the topology

    async def _find_topology(self) -> None:
        """Wait for the topology, which all that need it look for together. Raises the error of the nodes that were asked."""
        task = self._looking or self._start_looking(None)
        await asyncio.wait([task])
        task.result()

    async def _refresh(self, failed: ClusterNode | None) -> None:
        manager = self._cluster.nodes_manager
        try:
            await manager.initialize(last_failed_node_name=failed.name if failed else None)
        except (redis.exceptions.RedisClusterException, LookupError) as error:  # the latter where no node has slots yet
            # Nobody whom the cluster knows answers: the next look asks the hosts of the URL again, too.
            known = [(node.host, int(node.port)) for node in manager.nodes_cache.values()]
            await self._close_lookouts()
            self._cluster = _client_of(self._config, known)
            raise _cause(error) from error
        finally:
            if self._closed:  # meanwhile, and nobody has waited for this
                await self._close_lookouts()
        for name in self._servers.keys() - manager.nodes_cache.keys():
            self._servers.pop(name).connections.let_go()

    async def _close_lookouts(self) -> None:
        """Close the connections on which redis-py has asked for the topology, without waiting."""
        for connection in chain.from_iterable(node._connections for node in _nodes_of(self._cluster)):
            await connection.disconnect(nowait=True)

    async def walk(self, pattern: str) -> AsyncIterator[tuple[float, list[bytes]]]:
        """Yield keys of all primaries, which are read side by side, with the time of the server that has them."""
        await self._find_topology()
        cursors = dict.fromkeys(self._cluster.get_primaries(), 0)
        failures: list[Exception] = []
        while cursors:
            end = self._deadline()
            steps = [
                self._exchange(node, PLAIN, [pack([command]) for command in scan_from(cursor, pattern)], end)
                for node, cursor in cursors.items()
            ]
            for node, answers in zip(list(cursors), await _side_by_side(steps), strict=True):
                try:
                    time, cursors[node], keys = read_scan(answers)
                except (redis.exceptions.RedisError, OSError) as error:
                    failures.append(error)
                    cursors[node] = 0
                else:
                    yield time, keys
            cursors = {node: cursor for node, cursor in cursors.items() if cursor}
        if failures:  # the others are done
            raise failures[0]

    async def check(self) -> list[Exception]:
        """Ask every primary, and return the errors of those that do not answer, and of slots that have no owner."""
        await self._find_topology()
        end = self._deadline()
        asked = [self._exchange(node, PLAIN, [PING], end) for node in self._cluster.get_primaries()]
        answers = [answer for (answer,) in await _side_by_side(asked)]
        lost = redis.exceptions.ConnectionError | redis.exceptions.TimeoutError  # a refusal is an answer
        errors: list[Exception] = [answer for answer in answers if isinstance(answer, lost)]
        if missing := REDIS_CLUSTER_HASH_SLOTS - len(self._cluster.nodes_manager.slots_cache):
            errors.append(redis.exceptions.ClusterDownError(f"{missing} slots have no owner"))
        return errors

    async def drop_idle(self) -> None:
        """Look at the topology: what was a primary may be one no longer."""
        self._look()

    async def close(self) -> None:
        """Close the connections to all nodes, also where the caller is canceled meanwhile."""
        self._closed = True
        servers, self._servers = self._servers, {}
        async with AsyncExitStack() as closing:
            for server in servers.values():
                closing.push_async_callback(server.connections.close)
            closing.push_async_callback(self._close_lookouts)
            if self._looking is not None:
                self._looking.cancel()
                await asyncio.wait([self._looking])

    def abandon(self) -> None:
        """Let the connections to all nodes go."""
        for server in self._servers.values():
            server.connections.abandon()
        nodes = _nodes_of(self._cluster)
        abandon_connections(connection for node in nodes for connection in node._connections)
        for node in nodes:
            node._connections.clear()  # a node that is dropped would complain about those that look open


@dataclass(slots=True)
class _Route:
    """Where a command goes: to a replica if it may, and once where ASK has told."""

    replica: bool
    asked: ClusterNode | None = None


@dataclass
class _Server:
    """The connections to one node, which is left alone for a while where it has failed often in a row."""

    connections: DirectConnections
    failures: int = 0
    open_until: float = 0.0
    doubted_until: float = 0.0


def _client_of(config: RedisStorageConfig, known: Iterable[tuple[str, int]] = ()) -> RedisCluster:
    """Make the client of a configuration, which repeats nothing."""
    hosts = dict.fromkeys([*redis_hosts(config.url), *known])
    options: dict[str, Any] = dict(parse_url(redis_node_urls(config.url)[0]))
    tls = options.pop("connection_class", None) is SSLConnection
    for name in ("host", "port", "db"):
        options.pop(name, None)
    unknown: dict[str, Any] = {name: options.pop(name) for name in ("ssl_ca_path", "ssl_password") if name in options}
    cluster = RedisCluster(
        startup_nodes=[ClusterNode(host, port) for host, port in hosts],
        require_full_coverage=False,
        max_connections=config.pool_size + SPARE,
        socket_connect_timeout=config.connection_timeout,
        socket_timeout=config.command_timeout,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        ssl=tls,
        **options,
    )
    # The cluster's client takes fewer options of TLS than its connections do.
    for arguments in (cluster.connection_kwargs, *(node.connection_kwargs for node in cluster.startup_nodes)):
        arguments.update(unknown)
    return cluster


def _client_of_node(node: ClusterNode) -> redis.asyncio.Redis:
    """Make a client of one node, whose pool says how to connect."""
    pool = redis.asyncio.ConnectionPool(
        connection_class=node.connection_class, retry=Retry(NoBackoff(), 0), **node.connection_kwargs
    )
    return redis.asyncio.Redis(connection_pool=pool)


def _nodes_of(cluster: RedisCluster) -> list[ClusterNode]:
    manager = cluster.nodes_manager
    nodes = chain(manager.nodes_cache.values(), manager.startup_nodes.values())  # the same server may have one in each
    return list({id(node): node for node in nodes}.values())


async def _side_by_side(exchanges: Sequence[Coroutine[Any, Any, list[Any]]]) -> list[list[Any]]:
    if len(exchanges) == 1:
        return [await exchanges[0]]
    return await asyncio.gather(*exchanges)


def _lost(error: Exception, node: ClusterNode, sent: bool, alone: bool) -> Exception:
    """Return the error of a command that has no answer; it names the node.

    A node that answers to the first of several commands that it loads its data may have carried out the others.
    """
    if isinstance(error, redis.exceptions.AuthenticationError):
        return error
    if isinstance(error, redis.exceptions.BusyLoadingError) and alone:
        return error
    reason = str(error) or "no answer within the time of a command"
    if not sent:
        return NotSentError(f"{node.name}: {reason}")
    if isinstance(error, redis.exceptions.TimeoutError | TimeoutError):
        return redis.exceptions.TimeoutError(f"{node.name}: {reason}")
    return redis.exceptions.ConnectionError(f"{node.name}: {reason}")


def _cause(error: BaseException) -> Exception:
    """Return what a node answered, or why none did, behind an exception of redis-py that tells neither."""
    if isinstance(error, LookupError):
        return redis.exceptions.ClusterDownError("CLUSTERDOWN no slot has an owner")
    cause: BaseException | None = error
    while isinstance(cause, redis.exceptions.RedisClusterException):
        cause = cause.__cause__ or cause.__context__
    return (
        cause if isinstance(cause, redis.exceptions.RedisError | OSError) else redis.exceptions.ConnectionError(str(error))
    )
