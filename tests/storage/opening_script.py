"""Opens a storage as one of several processes that start at once, decides once, and prints whether that was admitted."""

import asyncio
import sys

from ratesim.limit import Limit
from ratesim.storage import open_storage


async def main() -> None:
    for url in sys.argv[1:]:
        async with open_storage(url) as storage:
            print(int((await storage.acquire("x", Limit(5, 1000, "fixed_window"), now=1_700_000_000.0)).allowed))


asyncio.run(main())
