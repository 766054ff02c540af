"""What a PostgreSQL does beside decisions: checkpoints, autovacuum, and the removal of expired rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf

import numpy as np

from ratesim.limit import Decision
from ratesim.runtime import SimRuntime
from ratesim.simulation.cost_model.postgres_factors import CLEANED, DROPPED, MOVED, READ
from ratesim.simulation.cost_model.profile import Stall
from ratesim.simulation.results.run_result import SlowPhase
from ratesim.storage.config import PostgresStorageConfig
from ratesim.storage.partitions import ByTime
from ratesim.storage.remote.operations import Acquire, Apply, Operation

__all__ = ["PostgresWork"]

KEPT = 1.0  # seconds for which a row is kept after its state is as good as new


class PostgresWork:
    """The slow phases of a server, and the rows of its table.

    Parameters
    ----------
    config
        The options of the candidate.
    stalls
        What comes again and again, by cause.
    insert
        Seconds that the first decision of a key takes longer.
    rng
        Draws the beginning of each phase.
    runtime
        The simulated time.
    removes
        Whether expired rows are removed in this run.

    Attributes
    ----------
    phases
        The slow phases.
    first_cleanup
        When expired rows are removed first, in simulated seconds.
    follows
        Whether rows are followed until they expire.
    locked_until
        When decisions go on that wait because a partition is dropped, in simulated seconds.
    """

    def __init__(
        self,
        config: PostgresStorageConfig,
        stalls: Mapping[str, Stall],
        insert: float,
        rng: np.random.Generator,
        runtime: SimRuntime,
        removes: bool,
    ) -> None:
        self.config = config
        self.removes = removes
        self.first_cleanup = float(rng.random()) * config.cleanup_interval
        self._stalls = [(stall, float(rng.random()) * stall.every) for stall in stalls.values()]
        self.phases = tuple(
            SlowPhase(cause, phase, stall.every, stall.lasts)
            for cause, (stall, phase) in zip(stalls, self._stalls, strict=True)
        )
        self._insert = insert
        self._runtime = runtime
        strategy = config.partition_strategy
        self._span = strategy.seconds if isinstance(strategy, ByTime) else 0.0
        self.follows = removes or insert > 0.0
        self._calm_until = 0.0  # before that, no slow phase begins
        self._expires: dict[str, float] = {}
        self.locked_until = 0.0
        self._born: dict[str, int] = {}  # under time the span in which a row was made

    def service(self, batch: Sequence[Operation], seconds: float, now: float) -> float:
        """Return the service time of a batch that begins now."""
        if self._insert:
            seconds += self._insert * len({name for each in batch if (name := _written(each)) and self._makes_row(name)})
        return seconds if now < self._calm_until else self._longer("service", seconds, now)

    def flush(self, seconds: float, now: float) -> float:
        """Return the seconds of a flush of the log that begins now."""
        return seconds if now < self._calm_until else self._longer("commit", seconds, now)

    def _longer(self, part: str, seconds: float, now: float) -> float:
        calm_until = inf
        for stall, phase in self._stalls:
            since = (now - phase) % stall.every
            if since < stall.lasts:
                seconds *= getattr(stall, part)
                calm_until = now
            else:
                calm_until = min(calm_until, now + stall.every - since)
        self._calm_until = calm_until
        return seconds

    def record(self, batch: Sequence[Operation], answers: Sequence[object]) -> None:
        """Note until when the rows live that a batch has written."""
        now = self._runtime.time()
        for operation, answer in zip(batch, answers, strict=True):
            name = _written(operation)
            if not name or (isinstance(answer, Decision) and not answer.allowed):
                continue
            lasts = answer.reset_after if isinstance(answer, Decision) else _lifetime(operation)
            if self._span and self._makes_row(name):
                self._born[name] = int(now // self._span)
            self._expires[name] = now + lasts + KEPT

    def _makes_row(self, name: str) -> bool:
        """Tell whether a write makes a row: a key has none, or one that is over and lies in a partition that has ended."""
        expires, now = self._expires.get(name), self._runtime.time()
        if expires is None:
            return True
        return self._span > 0.0 and expires < now and self._born[name] < now // self._span

    @property
    def drops(self) -> bool:
        """Whether rows lie in partitions of time, which are dropped."""
        return self._span > 0.0

    def drop_partitions(self) -> None:
        """Drop the partitions of time in which all has expired. Decisions wait meanwhile."""
        now = self._runtime.time()
        present = int(now // self._span)
        living = {span for name, span in self._born.items() if self._expires[name] >= now}
        gone = [name for name, span in self._born.items() if span < present and span not in living]
        spans = len({self._born[name] for name in gone})
        for name in gone:
            del self._born[name], self._expires[name]
        self.locked_until = self._runtime.env.now + DROPPED * spans

    def remove_rows(self) -> list[float]:
        """Remove what an upkeep removes now, and return the processor seconds of each of its statements.

        Without partitions of time they read all rows, and delete those that have expired. With them they move rows that live
        on, in batches, out of partitions that have ended a span ago.
        """
        now, most = self._runtime.time(), self.config.cleanup_batch_size
        read = 0
        if self._span:
            present = int(now // self._span)
            found = [name for name, span in self._born.items() if span < present - 1 and self._expires[name] >= now]
            self._born.update(dict.fromkeys(found, present))
            each = MOVED
        else:
            found = [name for name, expires in self._expires.items() if expires < now]
            for name in found:
                del self._expires[name]
            each, read = CLEANED, len(self._expires)
        reading = [READ * min(most, read - first) for first in range(0, read, most)]
        return reading + [each * min(most, len(found) - first) for first in range(0, len(found), most)]


def _written(operation: Operation) -> str:
    """Return the identifier whose row an operation may write; "" for none."""
    if isinstance(operation, Acquire):
        return operation.identifier if operation.consume else ""
    return operation.charge.identifier if isinstance(operation, Apply) else ""


def _lifetime(operation: Operation) -> float:
    return 2.0 * operation.charge.limit.period if isinstance(operation, Apply) else 0.0
