"""Run by test_process_faults.py: a process that uses a storage and is killed, forks, or runs two event loops.

python process_script.py MODE URL TAG

It prints a line of JSON for each answer at once: process, monotonic time, key, whether it was admitted, class of the error.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import sys
import threading
import time

from subjects import KEYS, PAUSE

from ratesim.errors import StorageError
from ratesim.storage import RateLimitStorage, open_storage

CHILDREN = 2
CALLERS = 2  # of each key
REMEDY = "ratesim.storage.sync|fork|opened again|disk I.O error"  # what an error names
REQUESTS = 15  # of each caller, where it ends


async def call(storage: RateLimitStorage, tag: str, key: str, requests: int) -> None:
    for _ in range(requests):
        allowed, error = False, ""
        try:
            allowed = (await storage.acquire(f"{tag}-{key}", KEYS[key])).allowed
        except StorageError as raised:
            if not re.search(REMEDY, str(raised)):
                raise
            error = type(raised).__name__
        os.write(1, json.dumps([os.getpid(), time.monotonic(), key, allowed, error]).encode() + b"\n")
        await asyncio.sleep(PAUSE)


async def callers(storage: RateLimitStorage, tag: str, requests: int) -> None:
    await asyncio.gather(*(call(storage, tag, key, requests) for key in KEYS for _ in range(CALLERS)))


async def use(storage: RateLimitStorage, tag: str) -> None:
    await callers(storage, tag, REQUESTS)
    await storage.close()


async def for_ever(storage: RateLimitStorage, tag: str) -> None:
    await storage.open()
    await callers(storage, tag, 10**9)


async def fork(storage: RateLimitStorage, tag: str) -> None:
    """Fork while connections are open, and go on beside the children."""
    await storage.open()
    await callers(storage, tag, 1)
    for _ in range(CHILDREN):
        if not os.fork():
            status = 1
            try:
                asyncio.events._set_running_loop(None)  # the child's loop is a new one, as in a worker
                asyncio.run(use(storage, tag))
                status = 0
            finally:
                os._exit(status)
    await use(storage, tag)
    for _ in range(CHILDREN):
        assert (await asyncio.to_thread(os.wait))[1] == 0


async def beside(storage: RateLimitStorage, tag: str) -> None:
    """Use the storage here and, meanwhile, in the loop of another thread."""
    await storage.open()
    await callers(storage, tag, 1)
    other = threading.Thread(target=asyncio.run, args=(callers(storage, tag, 5),))
    other.start()
    await callers(storage, tag, 5)
    await asyncio.to_thread(other.join)
    await storage.close()


async def on_a_full_disk(storage: RateLimitStorage, tag: str) -> None:
    """Use the storage while no file may grow, and after it was opened again."""
    await storage.open()
    await callers(storage, tag, 5)
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, most))
    await callers(storage, tag, 5)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    await storage.close()
    await storage.open()
    await use(storage, tag)


def main(mode: str, url: str, tag: str) -> None:
    storage = open_storage(url)
    if mode == "process_kill":
        asyncio.run(for_ever(storage, tag))
    elif mode == "fork":
        asyncio.run(fork(storage, tag))
    elif mode == "full":
        asyncio.run(on_a_full_disk(storage, tag))
    else:
        asyncio.run(callers(storage, tag, 5))
        asyncio.run(beside(storage, tag))


if __name__ == "__main__":
    main(*sys.argv[1:])
