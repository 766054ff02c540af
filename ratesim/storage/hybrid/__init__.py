"""Memory (L1) before a shared storage (L2): every policy, in docs/hybrid.md.

`storage` decides; `record` is what a node knows of one limit beside its view in L1; `views` keeps the views, `flushing`
tells L2 what was consumed, `session` makes and reads tokens, `leases` borrows quota, `away` answers without L2.
"""

from ratesim.storage.hybrid.storage import HybridStorage
from ratesim.storage.hybrid.tally import SyncStats

__all__ = ["HybridStorage", "SyncStats"]
