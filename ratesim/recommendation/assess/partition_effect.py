"""What partitions would change for the tables of a PostgreSQL: processor time that they take, and that they spare."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from ratesim.formatting import format_amount, format_percent, format_seconds
from ratesim.limit import Limit
from ratesim.simulation.cost_model.postgres_factors import CLEANED, DROPPED, INSERTED, READ, postgres_costs
from ratesim.simulation.cost_model.profile import BackendCosts
from ratesim.storage.config import PostgresStorageConfig
from ratesim.storage.partitions import ByHash, ByTime, PartitionStrategy

__all__ = ["PartitionEffect", "expired_rows", "partition_effect"]

DAY, SIXTEEN = ByTime(86_400.0), ByHash(16)  # what a table is compared with that is cut otherwise
LITTLE = 0.05  # of a processor
MOST_READING = 0.45  # a round of cleanup takes 0.9 of its interval at most, half of which the server rests


@dataclass(frozen=True)
class PartitionEffect:
    """Processors that are busy in the busiest second with what partitions change.

    Attributes
    ----------
    strategy
        Of this candidate, as the option `partition` names it.
    expired
        Rows that expire per second, at most.
    deleting
        To look for expired rows, to delete them, and to vacuum, of a table that is not cut by time.
    by_time
        To look at every partition, and to insert a key's first row, of a table with partitions of `time`.
    by_hash
        To find the partition of a row, of a table that is cut by a hash or the identifier: as this candidate, or into 16.
    time
        The strategy by time that this is worked out for: this candidate's, or partitions of a day.
    """

    strategy: str
    expired: float
    deleting: float
    by_time: float
    by_hash: float
    time: str

    @property
    def sentence(self) -> str:
        """The same in plain words."""
        kind, deleting, by_time = self.strategy.partition(":")[0], *map(format_percent, (self.deleting, self.by_time))
        if kind == "time":
            return (
                f"Its tables are cut by time ({self.time}), and a partition is dropped as a whole: that takes {by_time} of "
                f"a processor at most, where it takes {deleting} to look for expired rows, delete them and vacuum. "
                f"Decisions wait about {format_seconds(DROPPED)} for each drop."
            )
        rows = (
            f"At most {format_amount(self.expired)} rows a second expire. To look for them, delete them and vacuum takes up "
            f"to {deleting} of a processor; partitions by time ({self.time}), dropped as a whole, would take {by_time}"
        )
        hashed = format_percent(self.by_hash)
        if kind in ("hash", "identifier"):
            return (
                f"Its tables are cut ({self.strategy}): to find the partition of a row takes {hashed} of a processor and "
                f"spares none, and each partition is vacuumed by itself. {rows}."
            )
        why = "so the tables are not cut"
        if self.deleting > max(self.by_time, LITTLE):
            why = "tables cut by time (`ratesim repartition`), or a longer cleanup_interval, leave more for decisions"
        return f"{rows}, and 16 by hash {hashed}, which spares nothing that was measured: {why}."


def partition_effect(
    config: PostgresStorageConfig, limit: Limit, keys: int, operations: float, requests: float
) -> PartitionEffect:
    """Work out what partitions take and spare, from costs that were measured (`postgres_factors`).

    Parameters
    ----------
    config
        The options.
    limit
        The limit, of which a row lives on until it is as good as new.
    keys
        Their number.
    operations, requests
        Of the store, and of all nodes, per second. Each operation is taken to be a statement of its own.
    """
    own, lifetime = config.partition_strategy, _lifetime(limit)
    expired = expired_rows(limit, keys, requests)
    time = own if isinstance(own, ByTime) else DAY
    other = SIXTEEN if own is None or isinstance(own, ByTime) else own
    reading = min(keys * READ / config.cleanup_interval, MOST_READING) if config.cleanup_interval else 0.0
    return PartitionEffect(
        strategy="none" if own is None else str(own),
        expired=expired,
        deleting=reading + expired * CLEANED,
        by_time=operations * _added(config, time, lifetime) + expired * INSERTED,
        by_hash=operations * _added(config, other, lifetime),
        time=str(time),
    )


def expired_rows(limit: Limit, keys: int, requests: float) -> float:
    """Return how many rows expire per second, at most.

    No row expires more often than it lives, or without having been asked for.
    """
    return min(requests, keys / _lifetime(limit))


def _lifetime(limit: Limit) -> float:
    return limit.period * max(1.0, (limit.burst or 0.0) / limit.rate)


def _added(config: PostgresStorageConfig, strategy: PartitionStrategy, lifetime: float) -> float:
    """Return the seconds that a statement of one operation takes longer on tables that are cut so."""
    cut = msgspec.structs.replace(config, partition_strategy=strategy)
    costs = postgres_costs(BackendCosts(client_cpu=0.0), cut, lifetime)
    return costs.fixed + costs.item
