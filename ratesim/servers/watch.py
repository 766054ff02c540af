"""Runs a measurement against a server, and ends it as soon as the server dies or freezes.

Half of a measurement is no measurement, and a storage that decides without its server hides that it has gone. So a second
connection asks the server four times a second whether it is there. It also notices a server that was restarted, because that
closes every connection.

A server of several members has a connection to each. One that dies, restarts or freezes is not asked again: its cluster or
its sentinels replace it, and what uses them sees the errors of a failover. The server is lost with the last member of a
shard, or with the last sentinel. Of a cluster or of sentinels that were not started here the addresses in the URL are asked,
and the last of them counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any, TypeVar

from ratesim.errors import ServerDiedError
from ratesim.safe_text import redact
from ratesim.server_url import driver_url, redis_node_urls
from ratesim.servers.existing import postgres_url, redis_client, server_info
from ratesim.servers.server import Server
from ratesim.servers.supervisor import wait_for_end

__all__ = ["ANSWER_SECONDS", "run_watched"]

WATCH_SECONDS = 0.25
ANSWER_SECONDS = 5.0  # how long a server may keep silent until it counts as frozen
CANCEL_SECONDS = 1.0  # between two attempts to cancel what uses a dead server

T = TypeVar("T")


def run_watched(server: Server, coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that uses a server on a new event loop, and return its result.

    A server that was started here and freezes is killed, so that whoever waits for it is let go.

    Raises
    ------
    ServerDiedError
        If the server ends, restarts or freezes before the coroutine is done. What the coroutine raises passes through.
    """
    return asyncio.run(_run(server, coroutine))


async def _run(server: Server, coroutine: Coroutine[Any, Any, T]) -> T:
    task = asyncio.ensure_future(coroutine)
    watch = _Watch(server, asyncio.get_running_loop())
    try:
        await asyncio.wait((task, watch.lost), return_when=asyncio.FIRST_COMPLETED)
    finally:
        lost = watch.lost.done()
        if lost:
            for pid in server.pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        while not task.done():  # cleaning up may wait for the dead server again
            task.cancel()
            await asyncio.wait({task}, timeout=CANCEL_SECONDS)
        await watch.stop()
    if watch.failure:
        cause = None if task.cancelled() else task.exception()
        raise ServerDiedError(watch.failure) from cause
    return task.result()


class _Watch:
    """A thread that asks a server whether it is there. `lost` is done, and `failure` says why, once it is not."""

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        self.failure = ""
        self.lost: asyncio.Future[None] = loop.create_future()
        self._server = server
        self._loop = loop
        self._began = time.monotonic()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._look, name="ratesim-watch", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Ask the server a last time, and end."""
        self._stopped.set()
        while self._thread.is_alive():  # noqa: ASYNC110 - a thread sets no event of a loop
            await asyncio.sleep(0.005)

    def _look(self) -> None:
        connected = False
        try:
            with _ask_postgres(self._server.url) if self._server.kind == "postgres" else _ask_redis(self._server) as ask:
                connected, last = True, False
                while not last:
                    last = self._stopped.wait(WATCH_SECONDS)
                    ask()
            if how := self._server.how_ended():  # a process of a PostgreSQL may answer a moment longer
                raise ServerDiedError(how)
        except Exception as error:  # noqa: BLE001 - whatever the driver raises, the server did not answer
            if not (connected or self._server.embedded or isinstance(error, TimeoutError)):
                return  # a server of the user's that was never there: the coroutine meets the same, and says it better
            after = time.monotonic() - self._began
            self.failure = f"{self._server} {self._reason(error)} after {after:.1f} s"
            self._loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        if not self.lost.done():
            self.lost.set_result(None)

    def _reason(self, error: Exception) -> str:
        if isinstance(error, TimeoutError):
            return f"froze: it gave no answer for {ANSWER_SECONDS:g} s,"
        how = wait_for_end(self._server.how_ended) if self._server.embedded else None
        return how or f"closed its connections ({redact(' '.join(str(error).split()), self._server.url)})"


@contextmanager
def _ask_redis(server: Server) -> Iterator[Callable[[], object]]:
    import redis

    groups: dict[int | None, list[str]] = {}
    for member in server.members:
        groups.setdefault(member.shard, []).append(member.url)
    shards = list(groups.values()) or [redis_node_urls(driver_url(server.url))]
    try:
        with ExitStack() as stack:
            asks = [stack.enter_context(_ask_node(*urls) if len(urls) == 1 else _ask_any(urls)) for urls in shards]
            yield lambda: [ask() for ask in asks]
    except redis.TimeoutError as error:
        raise TimeoutError from error


@contextmanager
def _ask_any(urls: list[str]) -> Iterator[Callable[[], object]]:
    """Ask members that hold the same data; those that do not answer, or have restarted, are left out, but the last."""
    import redis

    with ExitStack() as stack:
        clients = [stack.enter_context(redis_client(url, ANSWER_SECONDS)) for url in urls]
        runs: dict[redis.Redis, str] = {}

        def ask() -> None:
            for client in tuple(clients):
                try:
                    # A promoted replica closes its connections, and stays what it was.
                    run = server_info(client)["run_id"]
                    if runs.setdefault(client, run) != run:
                        raise redis.ConnectionError("it was restarted")
                except (redis.RedisError, OSError):
                    if clients == [client]:
                        raise
                    clients.remove(client)

        ask()
        yield ask


@contextmanager
def _ask_node(url: str) -> Iterator[Callable[[], object]]:
    with redis_client(url, ANSWER_SECONDS) as client:
        # A client would reconnect in silence, also to another server.
        connection = client.connection_pool.make_connection()
        try:
            connection.connect()

            def ask() -> object:
                connection.send_command("PING", check_health=False)
                return connection.read_response()

            yield ask
        finally:
            connection.disconnect()


@contextmanager
def _ask_postgres(url: str) -> Iterator[Callable[[], object]]:
    import psycopg

    # Closed and not left: leaving would roll back, over a connection that may be gone.
    try:
        connection = psycopg.connect(postgres_url(url), autocommit=True, connect_timeout=round(ANSWER_SECONDS))
    except psycopg.errors.ConnectionTimeout as error:
        raise TimeoutError from error
    with closing(connection):
        wire = connection.pgconn

        def ask() -> object:
            wire.send_query(b"")
            deadline = time.monotonic() + ANSWER_SECONDS
            while wire.is_busy():
                if not select.select([wire.socket], [], [], max(0.0, deadline - time.monotonic()))[0]:
                    raise TimeoutError
                wire.consume_input()
            while (answer := wire.get_result()) is not None:
                if answer.error_message:
                    raise psycopg.OperationalError(answer.get_error_message())
            return None

        yield ask
