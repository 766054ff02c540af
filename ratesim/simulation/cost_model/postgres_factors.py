"""What partitions, a standby, checkpoints and autovacuum cost a PostgreSQL, where a profile does not say it itself."""

from __future__ import annotations

import math

import msgspec

from ratesim.simulation.cost_model.profile import BackendCosts, Cost, Stall, with_longer_service
from ratesim.storage.config import PostgresStorageConfig
from ratesim.storage.partitions import ByHash, ByIdentifier, ByTime, PartitionStrategy

__all__ = [
    "CLEANED",
    "DROPPED",
    "INSERTED",
    "MOVED",
    "READ",
    "STALLS",
    "STANDBY",
    "insert_cost",
    "postgres_costs",
    "standby_cost",
]

# Measured on PostgreSQL 18.4, AMD EPYC, 2 cores, 2026-11-29, in turns with the same on a table that is not cut: the
# storage's own functions in loops inside the server that commit after each call. It is the processor time of the server's
# process, the median of 13 pairs.

# With n partitions by hash or by identifier a generic plan locks and prunes all of them. So many seconds of a statement, and
# more for each partition; and the same of each row of a batch. An admitted decision takes 41 us, and 8, 13, 37 and 131 us
# more with 4, 16, 64 and 256 partitions; a row in a batch of 100 takes 14 us, and 0.8, 3, 17 and 48 us more. That an index
# is shorter saves nothing that can be measured: of 600,000 keys one took 29 us on one table, and 40 us with 16 partitions.
ROUTED, ROUTED_ROW = (6.5e-6, 2.9e-7), (0.0, 2e-7)

# By time each partition is looked at, because no request knows when its row was made. With four of them an admitted decision
# takes 20 us more, and a row in a batch 2 us.
LOOKED_AT, LOOKED_AT_ROW = 4.4e-6, 5e-7
AHEAD = 3  # partitions that are empty: two spans ahead, and the default

# The first row of a key by time is inserted under a lock that others share, after a second look at every partition. It takes
# 45 us more than without partitions, of which 20 are those of every decision.
INSERTED = 2.6e-5

# A row that expired, deleted in a batch of 1,000 (5.7 us) and vacuumed (0.8 us). One that is moved to the present partition.
# A partition of 30,000 rows that is dropped: its lock holds up all decisions for 14 to 45 ms, 33 in the middle, of which the
# processor works a tenth.
CLEANED, MOVED, DROPPED = 6.5e-6, 2.5e-5, 3.3e-2

# A row that has not expired, which a round of cleanup reads: 400,000 rows (74 MB, in memory) took 1.02 s at least, half of
# which the server rested.
READ = 1.3e-6

# What a commit waited for at a standby on the same machine beyond its own flush, medians of 1,400 pairs.
STANDBY = {
    "remote_write": Cost(fixed=83e-6),
    "on": Cost(fixed=284e-6),
    "remote_apply": Cost(fixed=372e-6),
}

# Behind the start of a checkpoint (checkpoint_timeout is 300 s by default) most updates write a whole page into the log: for
# 3 s a decision takes 1.2 times as long in the middle, and one that waits for the disk 1.7 times. The fsync at its end took
# 11 ms, 29 at most, and is not simulated. An autovacuum (autovacuum_naptime is 60 s) of 200,000 rows runs 0.1 to 0.4 s, and
# decisions take 1.2 and 1.3 times as long beside it; it takes no lock that they wait for. These are ratios of medians under
# pgbench, on PostgreSQL 16 and 18, with 200,000 rows and with 1.5 million.
STALLS = {
    "checkpoint": Stall(every=300.0, lasts=3.0, commit=1.7, service=1.2),
    "autovacuum": Stall(every=60.0, lasts=0.4, commit=1.3, service=1.2),
}


def postgres_costs(costs: BackendCosts, config: PostgresStorageConfig, lifetime: float) -> BackendCosts:
    """Return the costs of a PostgreSQL with these options.

    Parameters
    ----------
    costs
        As measured, with an unpartitioned table and durable commits.
    config
        The options. Answers wait for no flush with synchronous_commit off, nor where the tables are in no log, which also
        makes services shorter.
    lifetime
        Seconds for which a row is kept after its last decision; by time as many partitions are looked at.
    """
    commit = None if config.unlogged or config.synchronous_commit == "off" else costs.commit
    if config.unlogged:
        costs = with_longer_service(costs, costs.unlogged)
    fixed, item = _partition_costs(config.partition_strategy, lifetime)
    if not (fixed or item):
        return msgspec.structs.replace(costs, commit=commit)
    operations = {
        name: msgspec.structs.replace(cost, fixed=cost.fixed + fixed, item=cost.item + item)
        for name, cost in costs.operations.items()
    }
    alone = None if costs.alone is None else costs.alone + fixed + item
    more = {"fixed": costs.fixed + fixed, "item": costs.item + item, "alone": alone}
    return msgspec.structs.replace(costs, **more, operations=operations, commit=commit)


def insert_cost(strategy: PartitionStrategy | None) -> float:
    """Return the seconds that the first decision of a key takes longer on a table that is cut by a strategy."""
    return INSERTED if isinstance(strategy, ByTime) else 0.0


def standby_cost(costs: BackendCosts, commit: str) -> Cost:
    """Return what a commit waits for at a standby: as measured, or of the measured machine."""
    return costs.standby.get(commit) or STANDBY[commit]


def _partition_costs(strategy: PartitionStrategy | None, lifetime: float) -> tuple[float, float]:
    """Return the seconds that a batch takes longer, and those of each operation in it."""
    if isinstance(strategy, ByHash | ByIdentifier):
        count = strategy.partitions if isinstance(strategy, ByHash) else len(strategy.prefixes) + 1
        return ROUTED[0] + count * ROUTED[1], ROUTED_ROW[0] + count * ROUTED_ROW[1]
    if isinstance(strategy, ByTime):
        count = 1 + math.ceil(lifetime / strategy.seconds) + AHEAD
        return count * LOOKED_AT, count * LOOKED_AT_ROW
    return 0.0, 0.0
