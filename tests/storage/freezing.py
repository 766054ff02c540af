"""A server whose processes all stand still (SIGSTOP): it keeps its connections and answers nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from ratesim.servers import Server


def descendants(pid: int) -> list[int]:
    """The process, and all that it has started, by /proc."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents.setdefault(int(path.read_text().rpartition(")")[2].split()[1]), []).append(int(path.parent.name))
    found = [pid]
    for each in found:
        found += parents.get(each, [])
    return found


@asynccontextmanager
async def frozen(server: Server) -> AsyncIterator[None]:
    """All processes of the server stand still."""
    stopped = descendants(server.pids[0])
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in stopped:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
