"""Memory (L1) before a shared storage (L2), with every policy of docs/hybrid.md.

`storage` holds the interface and composes the parts that decide, read, write and lend, which are private to this package.
`SyncStats` reports what happened between L1 and L2.
"""

from ratesim.storage.hybrid.storage import HybridStorage
from ratesim.storage.hybrid.sync_stats import SyncStats

__all__ = ["HybridStorage", "SyncStats"]
