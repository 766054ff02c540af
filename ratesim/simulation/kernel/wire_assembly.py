"""The counts and samples of batches on the wire, given to the meters of a cluster, which measure their bytes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ratesim.limit import Decision, Limit
from ratesim.simulation.engine.cluster import Cluster
from ratesim.simulation.engine.remote_storage import TracedAcquire
from ratesim.simulation.kernel import layout
from ratesim.storage.remote.operations import Operation

__all__ = ["give_samples", "wire_parts"]

SAMPLES = 1 << 12  # operations at least for which there is room
Batch = tuple[list[TracedAcquire], list[Decision]]


def wire_parts(servers: int, places: int) -> dict[str, NDArray[Any]]:
    """Make the arrays of the meters of so many servers."""
    return {
        "wire_counts": np.zeros(servers * layout.WIRE_KINDS, layout.WIRE_COUNT),
        "samples": np.zeros(max(places, SAMPLES), layout.SAMPLE),
    }


def give_samples(limit: Limit, keys: Sequence[str], cluster: Cluster, counts: NDArray[Any], samples: NDArray[Any]) -> None:
    """Give the meters of all servers their counts of decisions, and the batches of them that are measured.

    Parameters
    ----------
    limit, keys, cluster
        The limit that the servers decide, the names of the keys, and the servers.
    counts, samples
        The records of the world that are in use.
    """
    for number, server in enumerate(cluster.servers):
        count = counts[number * layout.WIRE_KINDS + layout.ACQUIRE]
        if count["batches"]:
            mine = samples[(samples["server"] == number) & (samples["kind"] == layout.ACQUIRE)]
            kinds: dict[type[Operation], tuple[int, int, int]] = {}
            kinds[TracedAcquire] = int(count["batches"]), int(count["operations"]), int(count["uncounted"])
            server.meter.enter(kinds, _batches(limit, keys, mine))


def _batches(limit: Limit, keys: Sequence[str], samples: NDArray[Any]) -> list[Batch]:
    """Make the operations and answers of each batch."""
    batches: list[Batch] = []
    for _, batch in groupby(samples.tolist(), lambda sample: sample[0]):
        operations, answers = [], []
        for _, cost, time, remaining, retry_after, reset_after, row, key, _, _, allowed in batch:
            operations.append(TracedAcquire(keys[key], (limit,), cost, time, True, row))
            answers.append(Decision(bool(allowed), remaining, retry_after, reset_after, limit))
        batches.append((operations, answers))
    return batches
