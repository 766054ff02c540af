"""A program that samples how fast cores are: a short fixed piece of work on each, again and again, until its input ends.

It is started as a file of its own, `python pace_sampler.py FILE CORE...`, so that it loads nothing. It appends a line for
each piece: the core, perf_counter, and the seconds of the piece. These are processor time of the thread, so a core that is
busy with something else does not count as slow. The piece is done twice, and the second is timed: the first warms the
caches.
"""

from __future__ import annotations

import os
import sys
import threading
import time

INTERVAL = 0.025  # seconds between two pieces on a core
LOOPS = 1000  # of the piece: some 40 us


def piece() -> float:
    """Do the piece of work, and return its processor seconds."""
    for _ in range(2):
        began = time.thread_time()
        sum(i * i for i in range(LOOPS))
    return time.thread_time() - began


def sample(core: int, path: str, ended: threading.Event) -> None:
    """Append a line for each piece until `ended` is set. A core below 0 is any."""
    if core >= 0:
        os.sched_setaffinity(0, {core})  # of this thread
    with open(path, "a", buffering=1, encoding="ascii") as file:
        while not ended.wait(INTERVAL):
            at, seconds = time.perf_counter(), piece()
            file.write(f"{core} {at:.6f} {seconds:.9f}\n")


def main(path: str, *cores: str) -> None:
    """Sample the cores until standard input ends."""
    ended = threading.Event()
    threads = [threading.Thread(target=sample, args=(int(core), path, ended)) for core in cores]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    ended.set()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
