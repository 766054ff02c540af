"""Starts an embedded Valkey; a fakeredis where there is no wheel."""

from __future__ import annotations

import importlib.metadata
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ratesim.servers.existing import existing_redis
from ratesim.servers.server import Server
from ratesim.servers.supervisor import ProcessSupervisor
from ratesim.servers.valkey_process import DURABLE, VOLATILE, in_use, new_password, start_node, valkey_program

__all__ = ["valkey"]


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
    elif program := valkey_program():
        with ProcessSupervisor("valkey", stop=signal.SIGTERM) as supervisor:
            node = start_node(supervisor, program, "valkey", DURABLE if persistence else VOLATILE, new_password())
            with in_use(supervisor, node.url, "valkey", node.version, [node.member("primary")]) as server:
                yield server
    else:
        with _fakeredis() as server:
            yield server


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
