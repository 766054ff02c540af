"""Starts an embedded Valkey cluster: primaries that share the slots, and replicas that take over from them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

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
    valkey_program,
    wait_for_replica,
)

if TYPE_CHECKING:
    import redis

__all__ = ["valkey_cluster"]

SLOTS = 16384  # of a cluster


@contextmanager
def valkey_cluster(primaries: int = 3, replicas: int = 1, *, node_timeout: float = 2.0) -> Iterator[Server]:
    """Start a Valkey cluster on loopback whose primaries share the 16384 slots evenly, or use that of RATESIM_REDIS_URL.

    The URL names every node. When the block begins, all nodes know each other and each replica has its primary's data. A
    primary that is lost takes only its own slots with it, until a replica takes over.

    Parameters
    ----------
    primaries : int
        Nodes that hold slots.
    replicas : int
        Replicas of each of them; 0 for a cluster that cannot fail over.
    node_timeout : float
        Seconds without an answer after which a node counts as failed (cluster-node-timeout).

    Raises
    ------
    ServerError
        If the cluster does not form, or there is no Valkey wheel: fakeredis has no cluster.
    """
    if primaries < 1 or replicas < 0:
        raise ValueError(f"a cluster has at least one primary and no less than 0 replicas, not {primaries} and {replicas}")
    url = os.environ.get("RATESIM_REDIS_URL", "")
    if redis_topology(url) == "cluster":
        yield existing_redis(url)
        return
    program = valkey_program()
    if program is None:
        raise wheels.not_installed("Valkey cluster", "RATESIM_REDIS_URL (redis+cluster://…)")
    with ProcessSupervisor("valkey-cluster", stop=signal.SIGTERM) as supervisor:
        options = [*VOLATILE, "--cluster-enabled", "yes", "--cluster-announce-ip", "127.0.0.1"]
        options += ["--cluster-node-timeout", str(round(node_timeout * 1000))]
        options += ["--cluster-require-full-coverage", "no", "--cluster-allow-replica-migration", "no"]
        password = new_password()
        count = primaries * (1 + replicas)
        nodes = [start_node(supervisor, program, f"node-{number}", options, password) for number in range(count)]
        _form_cluster(supervisor, nodes, primaries)
        url = f"redis+cluster://:{password}@{','.join(f'127.0.0.1:{node.port}' for node in nodes)}"
        roles = ["primary"] * primaries + ["replica"] * (count - primaries)
        members = [node.member(role, place % primaries) for place, (node, role) in enumerate(zip(nodes, roles, strict=True))]
        with in_use(supervisor, url, "valkey-cluster", nodes[0].version, members) as server:
            yield server


def _form_cluster(supervisor: ProcessSupervisor, nodes: list[Node], primaries: int) -> None:
    """Give each primary its share of the slots, introduce all, attach the replicas, and wait until all agree."""
    import redis

    with ExitStack() as stack:
        clients = [stack.enter_context(redis_client(node.url, CHECK_SECONDS)) for node in nodes]

        def wait_until_all_know(**expected: str) -> None:
            def agreed() -> bool | None:
                views = [client.execute_command("CLUSTER INFO") for client in clients]
                return all(view[name] == value for view in views for name, value in expected.items()) or None

            supervisor.wait_for("the Valkey cluster", agreed, log=nodes[0].log, pid=nodes[0].pid)

        try:
            for number, client in enumerate(clients[:primaries]):
                first, end = SLOTS * number // primaries, SLOTS * (number + 1) // primaries
                client.execute_command("CLUSTER ADDSLOTSRANGE", first, end - 1)
                client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
            for place, client in enumerate(clients):
                for node in nodes[:place]:
                    client.execute_command("CLUSTER MEET", "127.0.0.1", node.port, node.bus)
            wait_until_all_know(cluster_known_nodes=str(len(nodes)))
            for place in range(primaries, len(nodes)):
                clients[place].execute_command(
                    "CLUSTER REPLICATE", clients[place % primaries].execute_command("CLUSTER MYID")
                )
            for node, client in zip(nodes[primaries:], clients[primaries:], strict=True):
                wait_for_replica(supervisor, node, client)
            wait_until_all_know(cluster_state="ok", cluster_size=str(primaries))
            _wait_for_roles(supervisor, nodes, clients, primaries)
        except redis.RedisError as error:
            raise ServerError(f"the Valkey cluster did not form: {error}") from error


def _wait_for_roles(supervisor: ProcessSupervisor, nodes: list[Node], clients: list[redis.Redis], primaries: int) -> None:
    """Wait until every node knows whose replica each other one is, and tells clients: a failover asks the nodes.

    A replica is told once its offset is known to be more than 0.
    """

    def known() -> bool | None:
        views: list[list[list[object]]]  # each a first and a last slot, their primary, and its replicas
        views = [client.execute_command("CLUSTER SLOTS") for client in clients]  # type: ignore[no-untyped-call]
        return all(sum(len(each) - 3 for each in view) == len(nodes) - primaries for view in views) or None

    supervisor.wait_for("the Valkey cluster", known, log=nodes[0].log, pid=nodes[0].pid)
