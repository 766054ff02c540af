"""A real pgbouncer before a server of a test."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from psycopg import conninfo

# Debian installs it where only root looks.
PROGRAM = os.environ.get("RATESIM_TEST_PGBOUNCER") or shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin") or ""
PATIENCE = 30.0  # seconds until it must answer


@contextmanager
def pgbouncer(url: str, mode: str = "transaction", size: int = 3, **settings: object) -> Iterator[str]:
    """Start a pgbouncer with `size` connections to the server; yields the URL for clients.

    Sessions are handed out in turn, so that a client meets all of them.
    """
    host = conninfo.conninfo_to_dict(url)["host"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="rs-pgbouncer-") as place:
        folder = Path(place)
        (folder / "users").write_text('"postgres" ""\n')
        lines = [
            *("[databases]", f"postgres = host={host} port=5432 dbname=postgres user=postgres", "[pgbouncer]"),
            *("listen_addr=127.0.0.1", f"listen_port={port}", "unix_socket_dir=", "auth_type=any"),
            *(f"auth_file={folder}/users", f"pool_mode={mode}", f"default_pool_size={size}", "server_round_robin=1"),
            *(f"{name}={value}" for name, value in settings.items()),
        ]
        (folder / "ini").write_text("\n".join(lines) + "\n")
        for each in (folder, *folder.iterdir()):  # pgbouncer leaves root's account
            each.chmod(0o755)
        as_nobody = ["-u", "nobody"] if os.geteuid() == 0 else []
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen([PROGRAM, *as_nobody, str(folder / "ini")], stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + PATIENCE
            while not _listens(port):
                told = (folder / "log").read_text()
                assert process.poll() is None, f"pgbouncer has ended: {told}"
                assert time.monotonic() < deadline, f"pgbouncer does not answer: {told}"
                time.sleep(0.02)
            yield f"postgresql://postgres@127.0.0.1:{port}/postgres?sslmode=disable"
        finally:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
