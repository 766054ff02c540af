"""Memory (L1) before a shared storage (L2): every policy, in docs/hybrid.md.

`storage` is the interface. `near` decides in L1: `record` is what a node knows of one limit beside its view in L1, `views`
keeps the views, `flushing` tells L2 what was consumed, `session` makes and reads tokens, `beside` decides on what only a
session knows. `leases` borrow quota (`lease`: on which terms), `away` answers without L2, `tally` counts.
"""

from ratesim.storage.hybrid.storage import HybridStorage
from ratesim.storage.hybrid.sync_stats import SyncStats

__all__ = ["HybridStorage", "SyncStats"]
