"""Starts an embedded Valkey with replicas, and sentinels that watch them and promote a replica when the primary is lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from ratesim.errors import ServerError
from ratesim.server_url import redis_topology
from ratesim.servers import wheels
from ratesim.servers.existing import CHECK_SECONDS, existing_redis, redis_client
from ratesim.servers.server import Server
from ratesim.servers.supervisor import ProcessSupervisor
from ratesim.servers.valkey_process import (
    VOLATILE,
    Node,
    in_use,
    new_password,
    start_node,
    start_sentinel,
    valkey_program,
    wait_for_replica,
)

__all__ = ["valkey_sentinel"]

SERVICE = "ratesim"


@contextmanager
def valkey_sentinel(sentinels: int = 3, replicas: int = 1, *, down_after: float = 2.0) -> Iterator[Server]:
    """Start a Valkey with replicas and sentinels on loopback, or use those that RATESIM_REDIS_URL names.

    When the block begins, each replica has the primary's data, and each sentinel knows the replicas and the other sentinels.
    A majority of the sentinels decides that the primary is lost, and promotes a replica.

    Parameters
    ----------
    sentinels : int
        Sentinels, which have a password of their own.
    replicas : int
        Replicas of the primary.
    down_after : float
        Seconds without an answer after which a sentinel takes the primary for lost (down-after-milliseconds).

    Raises
    ------
    ServerError
        If they do not find each other, or there is no Valkey wheel: fakeredis has no sentinels.
    """
    if sentinels < 1 or replicas < 0:
        raise ValueError(f"there is at least one sentinel and no less than 0 replicas, not {sentinels} and {replicas}")
    url = os.environ.get("RATESIM_REDIS_URL", "")
    if redis_topology(url) == "sentinel":
        yield existing_redis(url)
        return
    program = valkey_program()
    if program is None:
        raise wheels.not_installed("Valkey with sentinels", "RATESIM_REDIS_URL (redis+sentinel://…)")
    with ProcessSupervisor("valkey-sentinel", stop=signal.SIGTERM) as supervisor:
        password, own = new_password(), new_password()
        nodes = [start_node(supervisor, program, f"node-{place}", VOLATILE, password) for place in range(1 + replicas)]
        _attach(supervisor, nodes)
        milliseconds = round(down_after * 1000)
        settings = [
            f"sentinel monitor {SERVICE} 127.0.0.1 {nodes[0].port} {sentinels // 2 + 1}",
            f"sentinel auth-pass {SERVICE} {password}",
            f"sentinel down-after-milliseconds {SERVICE} {milliseconds}",
            f"sentinel failover-timeout {SERVICE} {5 * milliseconds}",
        ]
        watchers = [start_sentinel(supervisor, program, f"sentinel-{place}", settings, own) for place in range(sentinels)]
        _wait_for_acquaintance(supervisor, watchers, replicas)
        hosts = ",".join(f"127.0.0.1:{watcher.port}" for watcher in watchers)
        url = f"redis+sentinel://:{password}@{hosts}/{SERVICE}/0?sentinel_password={own}"
        members = [node.member("replica" if place else "primary") for place, node in enumerate(nodes)]
        members += [watcher.member("sentinel", None) for watcher in watchers]
        with in_use(supervisor, url, "valkey-sentinel", nodes[0].version, members) as server:
            yield server


def _attach(supervisor: ProcessSupervisor, nodes: list[Node]) -> None:
    """Make all nodes but the first replicas of it, and wait until they have its data."""
    for replica in nodes[1:]:
        with redis_client(replica.url, CHECK_SECONDS) as client:
            client.execute_command("REPLICAOF", "127.0.0.1", nodes[0].port)
            wait_for_replica(supervisor, replica, client)


def _wait_for_acquaintance(supervisor: ProcessSupervisor, watchers: list[Node], replicas: int) -> None:
    """Wait until each sentinel knows the other ones and all replicas."""
    import redis

    with ExitStack() as stack:
        clients = [stack.enter_context(redis_client(watcher.url, CHECK_SECONDS)) for watcher in watchers]

        def known() -> bool | None:
            views = [client.sentinel_master(SERVICE) for client in clients]
            others = {(view["num-other-sentinels"], view["num-slaves"]) for view in views}
            return (others == {(len(watchers) - 1, replicas)} and {view["flags"] for view in views} == {"master"}) or None

        try:
            supervisor.wait_for("the sentinels", known, log=watchers[0].log, pid=watchers[0].pid)
        except redis.RedisError as error:
            raise ServerError(f"the sentinels did not find each other: {error}") from error
