"""`MemoryStorage`: the state of a rate limiter in a dict of this process, with bounds and, if wished, a copy on disk.

`storage` decides, `entry_table` holds the entries within their bounds, `persistence` records them in a SQLite database.
"""

from ratesim.storage.memory.entry import Counter, Entry
from ratesim.storage.memory.storage import MemoryStorage

__all__ = ["Counter", "Entry", "MemoryStorage"]
