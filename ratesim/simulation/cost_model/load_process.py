"""Load process: a measuring function runs in a fresh process of its own, on one half of the cores.

What else a process does disturbs a load generator in it: other tasks of its event loop, the garbage of earlier work, threads
that hold the interpreter. So the function runs where nothing else does. It and its arguments are pickled, and its result, or
the error that it raises, comes back. The process ends with its caller, also when that is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, Popen, TimeoutExpired
from typing import Any, ClassVar, TypeVar, overload

from ratesim.errors import RatesimError
from ratesim.servers import Server
from ratesim.servers.watch import run_watched
from traffic.live_replay import loop_factory

__all__ = [
    "LoadProcessError",
    "halves",
    "in_process",
    "run_in_process",
    "serve",
    "server_cores",
    "split_cores",
    "started_ahead",
]

GRACE = 5.0  # seconds that a process has to clean up before it is killed
LENGTH = 8  # bytes that say how long the question is
# Ctrl-C while modules are imported ends the process without a traceback.
PROGRAM = (
    "import signal; signal.signal(signal.SIGINT, signal.SIG_DFL); import {}; "
    "from ratesim.simulation.cost_model.load_process import serve; serve()"
)
READY = b" "  # written before the answer, which does not begin with it

T = TypeVar("T")


class LoadProcessError(RatesimError):
    """The load process ended without a result, or did not end in time."""

    exit_code: ClassVar[int] = 70


@overload
def in_process(
    function: Callable[..., Coroutine[Any, Any, T]],
    *arguments: Any,
    timeout: float | None = None,
    server: Server | None = None,
) -> T: ...


@overload
def in_process(
    function: Callable[..., T], *arguments: Any, timeout: float | None = None, server: Server | None = None
) -> T: ...


def in_process(
    function: Callable[..., Any], *arguments: Any, timeout: float | None = None, server: Server | None = None
) -> Any:
    """Call a function in a process of its own, and return its result.

    The process has the first half of the cores, where there are two; `split_cores` gives the other half to servers. Its
    garbage collector does not look at what was imported. A coroutine function runs on a loop of
    `traffic.live_replay.loop_factory`. Ctrl-C, and the end of `timeout`, reach the function as a KeyboardInterrupt. Where it
    does not end then, the process is killed.

    Parameters
    ----------
    function
        A function of a module that can be imported.
    *arguments
        Its arguments, which can be pickled.
    timeout : float, optional
        Seconds that it may take.
    server : Server, optional
        The server that it uses: it ends as soon as that dies or freezes.

    Returns
    -------
    Any
        What the function returns.

    Raises
    ------
    LoadProcessError
        If the process ends without a result, or not in time.
    ServerDiedError
        If the server ends, restarts or freezes meanwhile.
    BaseException
        What the function raises. One that is no RatesimError has the traceback of the process as a note.
    """
    work = run_in_process(function, *arguments, timeout=timeout)
    return asyncio.run(work) if server is None else run_watched(server, work)


async def run_in_process(
    function: Callable[..., Any], *arguments: Any, timeout: float | None = None, all_cores: bool = False
) -> Any:
    """Do what `in_process` does, without keeping the caller's loop. Canceling it ends the process.

    With `all_cores` the process keeps to no half of the cores: several at a time would stand in each other's way there.
    """
    question = pickle.dumps((_all_cores(), all_cores, function, arguments))
    ahead = _ahead.get(function)
    process = ahead.pop() if ahead else _start(function)
    try:
        async with asyncio.timeout(timeout):
            answer, status = await asyncio.to_thread(_ask, process, question)
    except TimeoutError:
        raise LoadProcessError(
            f"the load process was not done after {timeout:g} s and was ended; look for a server that does not answer"
        ) from None
    finally:
        await _end(process)
    if not answer:
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        raise LoadProcessError(f"the load process {how} before its result was there; is there enough memory?")
    error, result = pickle.loads(answer)  # noqa: S301 - of our own process
    if error is not None:
        raise error
    return result


_ahead: dict[Callable[..., Any], list[Popen[bytes]]] = {}


@contextmanager
def started_ahead(function: Callable[..., Any], calls: int) -> Iterator[None]:
    """Start the processes of so many calls of a function in the block, all at once.

    None of them imports anything later, so that no call waits for that, and none is disturbed by it. Those that are not
    used are ended.
    """
    processes = _ahead.setdefault(function, [])
    try:
        for _ in range(calls):
            processes.append(_start(function))
        for process in processes:
            process.stdout.read(len(READY))  # type: ignore[union-attr]
        yield
    finally:
        for process in _ahead.pop(function):
            with process:
                process.kill()


def _start(function: Callable[..., Any]) -> Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)}
    command = [sys.executable, "-P", "-c", PROGRAM.format(function.__module__)]
    return Popen(command, stdin=PIPE, stdout=PIPE, env=environment, start_new_session=True)  # noqa: S603 - our own interpreter


def _ask(process: Popen[bytes], question: bytes) -> tuple[bytes, int]:
    """Return the answer and the status. The process takes the end of its input for the end of its caller."""
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError):  # it has ended, and its status says how
        process.stdin.write(len(question).to_bytes(LENGTH, "big") + question)
        process.stdin.flush()
    return process.stdout.read().lstrip(READY), process.wait()


async def _end(process: Popen[bytes]) -> None:
    try:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(TimeoutExpired):
                await asyncio.to_thread(process.wait, GRACE)
    finally:
        with contextlib.suppress(BrokenPipeError), process:  # of a question that was not read
            process.kill()


# In the process -------------------------------------------------------------------------------------------------------


def serve() -> None:
    """Answer the one question on standard input. What the function prints goes to standard error."""
    global _cores
    with contextlib.suppress(BrokenPipeError), os.fdopen(os.dup(1), "wb") as channel:  # the caller may have gone
        os.dup2(2, 1)
        channel.write(READY)
        channel.flush()
        question = sys.stdin.buffer.read(int.from_bytes(sys.stdin.buffer.read(LENGTH), "big"))
        if not question:  # it was started ahead, and is not needed
            return
        threading.Thread(target=_end_with_caller, name="ratesim-end", daemon=True).start()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            _cores, all_cores, function, arguments = pickle.loads(question)  # noqa: S301 - of our own parent
            if split := halves():
                for thread in Path("/proc/self/task").iterdir():  # some are of libraries
                    os.sched_setaffinity(int(thread.name), _cores if all_cores else split[0])
            answer = pickle.dumps((None, _call(function, arguments)))
        except BaseException as error:  # noqa: BLE001 - raised again by the caller
            answer = _packed(error)
        channel.write(answer)


def _call(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    gc.collect()
    gc.freeze()
    if not inspect.iscoroutinefunction(function):
        return function(*arguments)
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(function(*arguments))


def _packed(error: BaseException) -> bytes:
    """Pickle an error. One that cannot be pickled is described."""
    if not isinstance(error, RatesimError):  # of which the message says all
        error.add_note("".join(traceback.format_exception(error)))
    try:
        packed = pickle.dumps((error, None))
        pickle.loads(packed)  # noqa: S301 - what was just packed
    except Exception:  # noqa: BLE001 - whatever the error's own methods raise
        return pickle.dumps((LoadProcessError(f"{type(error).__name__}: {' '.join(str(error).split())}"), None))
    return packed


def _end_with_caller() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(GRACE)
    os._exit(1)


# Cores ----------------------------------------------------------------------------------------------------------------

_cores: tuple[int, ...] = ()  # those that are halved, while this process has one half of them


def _all_cores() -> tuple[int, ...]:
    """Return the cores that there are for client and server together; none where Linux does not say it."""
    return _cores or (tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else ())


def halves() -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Return the cores of the client and those of the server; None of one core, and where Linux does not say it."""
    cores = _all_cores()
    half = len(cores) // 2
    return (cores[:half], cores[half:]) if half else None


def server_cores() -> int:
    """Return how many cores a server has beside a client on cores that are split."""
    split = halves()
    return len(split[1]) if split else os.cpu_count() or 1


@contextmanager
def split_cores(pids: Sequence[int]) -> Iterator[bool]:
    """Give servers one half of the cores and this process the other, where there are two and Linux allows it.

    Otherwise the scheduler may put both on one core, or move them while they are measured. Processes that a server starts
    later keep to its cores, and so does a server afterward. Processes of `in_process` have this process's half.

    Parameters
    ----------
    pids : Sequence[int]
        Processes of the servers.

    Yields
    ------
    bool
        Whether the cores are split.
    """
    global _cores
    split = halves()
    if split is None or not pids:
        yield False
        return
    for pid in pids:
        with contextlib.suppress(FileNotFoundError):  # it has ended, as whoever asks it will notice
            for thread in Path(f"/proc/{pid}/task").iterdir():
                with contextlib.suppress(ProcessLookupError):
                    os.sched_setaffinity(int(thread.name), split[1])
    before = _cores, os.sched_getaffinity(0)
    _cores = _all_cores()
    os.sched_setaffinity(0, split[0])
    try:
        yield True
    finally:
        _cores = before[0]
        os.sched_setaffinity(0, before[1])
