"""A supervisor process owns server processes and their directory, and ends with its parent.

This file is both ends of it. Imported, it gives `ProcessSupervisor`, which `ratesim.servers` uses. Run as a script
(isolated, standard library only) it is the process itself: it makes the directory, starts the commands that it is sent, and
waits. The two talk JSON lines over pipes. Only the parent holds the write end of the first pipe, the lifeline. The lifeline
ends when the parent is done or was killed. Then the supervisor stops its servers, removes the directory and exits. The
kernel closes a dead process's pipes, whatever killed it.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

if __name__ != "__main__":  # the script is isolated and has the standard library only; it raises no error of ours
    from ratesim.errors import ServerDiedError, ServerError, StorageError

START_SECONDS = 60.0  # how long a server may take to answer: much longer than it does, for a busy machine
POLL_SECONDS = 0.01
LOG_LINES = 15
REAP_SECONDS = 1.0  # how long the status of a server that closed its connections may take to be known
STOP_SECONDS = 10.0  # how long a server may take to stop before it is killed
REMOVE_SECONDS = 10.0  # how long processes that a killed server left may still write into the directory
ENVIRONMENT = {
    "PATH": os.defpath,
    "LC_ALL": "C",
    "TZ": "UTC",
}  # a server sees nothing of the caller's PG*, LD_* or locale


Answer = TypeVar("Answer")


class Account(NamedTuple):
    """The operating system's account that servers run under, if it is not the caller's own."""

    uid: int
    gid: int

    def process_options(self) -> dict[str, Any]:
        """Return the arguments of `subprocess` that run a process under this account and nothing else."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def may_enter(self, directory: Path) -> bool:
        """Tell whether the permission bits let this account reach the inside of `directory`."""
        for place in (directory.resolve(), *directory.resolve().parents):
            about = place.stat()
            bit = 0o100 if about.st_uid == self.uid else 0o010 if about.st_gid == self.gid else 0o001
            if not about.st_mode & bit:
                return False
        return True


# The parent's end -------------------------------------------------------------------------------------------

# Children made by exec do not inherit a lifeline: Python's pipes close on exec. Children made by fork
# alone, such as multiprocessing's, would, and would keep the servers alive after the parent's death; so a
# fork closes the lifelines in the child. The lock keeps a fork out of the moment between making or closing
# a pipe and saying so here.
_lifelines: set[int] = set()
_lifelines_lock = threading.Lock()


def _close_inherited_lifelines() -> None:
    for descriptor in _lifelines:
        os.close(descriptor)
    _lifelines.clear()
    _lifelines_lock.release()


if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(
        before=_lifelines_lock.acquire,
        after_in_parent=_lifelines_lock.release,
        after_in_child=_close_inherited_lifelines,
    )


class ProcessSupervisor:
    """The parent's handle on a supervisor process and on the directory that it owns.

    Use it as a context manager: on exit the servers are stopped and the directory is gone. The servers run in the
    subdirectory `home`, which is theirs alone (mode 0700). Their logs are beside it, out of their reach, so that another
    account can never make root follow a link that it planted.

    Parameters
    ----------
    name : str
        Becomes part of the directory's name.
    stop : signal.Signals
        The signal that asks these servers to stop.
    parent : str, optional
        The directory that holds the new one; by default that of temporary files.
    account : Account, optional
        The account that the servers run under; only root can give one.
    """

    def __init__(
        self, name: str, *, stop: signal.Signals, parent: str | None = None, account: Account | None = None
    ) -> None:
        plan = {
            "prefix": f"ratesim-{name}-",
            "parent": parent or tempfile.gettempdir(),
            "stop": int(stop),
            "stop_seconds": STOP_SECONDS,
            "account": account,
        }
        self._pids: list[int] = []
        self._parent_pid = os.getpid()
        self._turn = threading.Lock()
        with _lifelines_lock:
            theirs, self._lifeline = os.pipe()
            _lifelines.add(self._lifeline)
        try:
            self._process: subprocess.Popen[bytes] = subprocess.Popen(  # noqa: S603 (this interpreter and this file)
                [sys.executable, "-I", "-S", __file__, json.dumps(plan)],
                stdin=theirs,
                stdout=subprocess.PIPE,
                start_new_session=True,  # the terminal's Ctrl-C is for the parent alone
            )
        except BaseException:
            self._cut()
            raise
        finally:
            os.close(theirs)
        self.directory = Path()
        try:
            self.directory = Path(self._reply()["directory"])
            self.home = self.directory / "home"
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> ProcessSupervisor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self, command: list[str], log: str, *, stdin: str = "") -> int:
        """Start `command` in `home`, its output going to the file `log` in `directory`; return its process id.

        It reads `stdin` from its standard input: what no list of processes may show.
        """
        pid = int(self._ask({"start": command, "log": log, "stdin": stdin})["pid"])
        self._pids.append(pid)
        return pid

    def status(self, pid: int) -> int | None:
        """Return the exit status of a started process, negative for a signal; None while it runs."""
        status: int | None = self._ask({"status": pid})["status"]
        return status

    def how_all_ended(self, *pids: int) -> str | None:
        """Say how the first of these processes ended: "was ended by SIGKILL"; None while any of them runs."""
        try:
            statuses = [self.status(pid) for pid in pids]
        except ServerError as error:
            return f"has ended ({error})"
        if statuses[0] is None or None in statuses:
            return None
        return f"was ended by {signal.Signals(-statuses[0]).name}" if statuses[0] < 0 else f"ended with status {statuses[0]}"

    @contextmanager
    def in_use(self, name: str, how_ended: Callable[[], str | None]) -> Iterator[None]:
        """Turn an error of the block into ServerDiedError if the server has ended.

        An error that a broken connection gives is met before the status of the process is known, and waits for it.
        """
        try:
            yield
        except ServerDiedError:
            raise
        except Exception as error:
            broken = isinstance(error, ServerError | StorageError | OSError)
            if how := wait_for_end(how_ended) if broken else how_ended():
                raise ServerDiedError(f"{name} {how} while it was in use: give the command again") from error
            raise

    def tail(self, log: str) -> str:
        """Return the last lines that a server wrote."""
        return "\n".join((self.directory / log).read_text(errors="replace").splitlines()[-LOG_LINES:])

    def wait_for(self, what: str, ready: Callable[[], Answer | None], *, log: str, pid: int | None = None) -> Answer:
        """Poll `ready` until it gives a value, and return that.

        Raises ServerError with the last lines of `log` if process `pid` ends or START_SECONDS pass first.
        """
        deadline = time.monotonic() + START_SECONDS
        while (answer := ready()) is None:
            status = None if pid is None else self.status(pid)
            if status is not None:
                raise ServerError(f"{what} ended with status {status}; its log ends:\n{self.tail(log)}")
            if time.monotonic() > deadline:
                raise ServerError(f"{what} did not answer in {START_SECONDS:.0f} s; its log ends:\n{self.tail(log)}")
            time.sleep(POLL_SECONDS)
        return answer

    def close(self) -> None:
        """Stop the servers and remove the directory; does nothing the second time.

        Raises ServerError where something is left.
        """
        if os.getpid() != self._parent_pid:  # a forked child that leaves the block owns nothing
            return
        self._cut()
        try:
            self._process.wait(STOP_SECONDS + REMOVE_SECONDS + 5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        finally:
            self._replies.close()
        if self._process.returncode != 0:
            self._clean_up_after_a_dead_supervisor()

    def _clean_up_after_a_dead_supervisor(self) -> None:
        for pid in self._pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._pids.clear()
        if self.directory != Path():
            try:
                _remove(self.directory)
            except OSError as error:
                raise ServerError(f"{self.directory} could not be removed: {error}") from error

    def _cut(self) -> None:
        with _lifelines_lock:
            if self._lifeline in _lifelines:
                _lifelines.remove(self._lifeline)
                os.close(self._lifeline)

    @property
    def _replies(self) -> IO[bytes]:
        assert self._process.stdout is not None
        return self._process.stdout

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        with self._turn:
            try:
                os.write(self._lifeline, json.dumps(request).encode() + b"\n")
            except BrokenPipeError as error:
                raise ServerError("the process that keeps the servers has died, and they with it") from error
            return self._reply()

    def _reply(self) -> dict[str, Any]:
        line = self._replies.readline()
        if not line:
            raise ServerError("the process that keeps the servers has died, and they with it")
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise ServerError(reply["error"])
        return reply


def wait_for_end(how_ended: Callable[[], str | None]) -> str | None:
    """Say how a server ended whose connections broke; None if it still runs after REAP_SECONDS."""
    deadline = time.monotonic() + REAP_SECONDS
    while (how := how_ended()) is None and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return how


def _remove(directory: Path) -> None:
    """Remove a directory into which something may still be writing, because its server was killed."""
    deadline = time.monotonic() + REMOVE_SECONDS
    while directory.exists():
        try:
            shutil.rmtree(directory)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


# The supervisor's end -------------------------------------------------------------------------------------------


class _Servers:
    """The processes of one supervisor, and the directory they run in."""

    def __init__(self, directory: Path, stop: int, account: Account | None) -> None:
        self.directory = directory
        self.home = directory / "home"
        self.stop_signal = stop
        self.as_account = {} if account is None else account.process_options()
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self.home.mkdir(mode=0o700)
        if account is not None:
            os.chown(self.home, *account)
            directory.chmod(0o711)

    def start(self, command: list[str], log: str, stdin: str) -> int:
        with (self.directory / log).open("wb") as output, _readable(stdin) as source:
            process = subprocess.Popen(  # noqa: S603 (the command comes from the parent, over its own pipe)
                command,
                cwd=self.home,
                env=ENVIRONMENT,
                stdin=source,
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=_die_with_supervisor(self.stop_signal),  # safe: the supervisor has one thread
                **self.as_account,
            )
        self.processes[process.pid] = process
        return process.pid

    def stop(self, seconds: float) -> None:
        """Ask every server to stop, and kill those that have not after `seconds`, with the processes that they left."""
        running = [process for process in self.processes.values() if process.poll() is None]
        for process in running:
            process.send_signal(self.stop_signal)
        deadline = time.monotonic() + seconds
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        _kill_orphans()

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        if "status" in request:
            return {"status": self.processes[request["status"]].poll()}
        try:
            return {"pid": self.start(request["start"], request["log"], request["stdin"])}
        except (OSError, subprocess.SubprocessError) as error:
            return {"error": f"{request['start'][0]} could not be started: {error}"}


@contextmanager
def _readable(text: str) -> Iterator[int]:
    """Give the end of a pipe from which this text can be read; it must be shorter than a pipe holds."""
    reader, writer = os.pipe()
    try:
        os.write(writer, text.encode())
        os.close(writer)
        yield reader
    finally:
        os.close(reader)


def _adopt_orphans() -> None:
    """Become the parent of the processes that a dead server leaves behind, where the system is Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER


def _kill_orphans() -> None:
    """Kill the processes that dead servers left: a frozen one would never see that its server has died."""
    while left := _children():
        for pid in left:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _children() -> list[int]:
    """List the children of this process, where the system is Linux."""
    found = []
    for about in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(about.read_text(errors="replace").rpartition(")")[2].split()[1])
        except OSError:  # it has ended since
            continue
        if parent == os.getpid():
            found.append(int(about.parent.name))
    return found


def _die_with_supervisor(stop: int) -> Any:
    """Make the function that a server runs before exec, so that Linux stops it if even the supervisor is killed.

    It is None elsewhere.
    """
    if sys.platform != "linux":
        return None
    set_parent_death_signal = ctypes.CDLL(None).prctl
    supervisor = os.getpid()

    def prepare() -> None:
        set_parent_death_signal(1, stop)  # PR_SET_PDEATHSIG, see prctl(2)
        if os.getppid() != supervisor:  # it died before the line above
            os.kill(os.getpid(), signal.SIGKILL)

    return prepare


def _end(*_: object) -> None:
    raise SystemExit(0)


def _go_on(*_: object) -> None:
    """Ignore a signal; unlike SIG_IGN this is not inherited by the servers."""


def main() -> None:
    """Supervise servers for the parent whose pipe is on standard input, until it ends."""
    plan = json.loads(sys.argv[1])
    os.umask(0o077)
    _adopt_orphans()
    signal.signal(signal.SIGINT, _go_on)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    directory = None
    servers = None
    try:
        try:
            directory = Path(tempfile.mkdtemp(prefix=plan["prefix"], dir=plan["parent"]))
            servers = _Servers(directory, plan["stop"], plan["account"] and Account(*plan["account"]))
        except OSError as error:
            _say({"error": f"no directory for the server could be made in {plan['parent']}: {error}"})
            return
        _say({"directory": str(directory)})
        for line in sys.stdin:
            _say(servers.answer(json.loads(line)))
    except BrokenPipeError:  # the parent died before it read the answer
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the last flush would fail as well
    finally:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _go_on)
        if servers is not None:
            servers.stop(plan["stop_seconds"])
        if directory is not None:
            _remove(directory)


def _say(reply: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(reply) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
