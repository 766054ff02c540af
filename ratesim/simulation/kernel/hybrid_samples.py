"""Reads, flushes and returned leases whose bytes on the wire are measured: operations and answers, made as they come.

The kernel calls `HybridSamples.note` for each batch that is measured, at the moment in which a server has executed it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from ratesim.algorithms import bind
from ratesim.simulation.engine.cluster import Cluster
from ratesim.simulation.engine.context import RunContext
from ratesim.simulation.kernel import layout
from ratesim.simulation.kernel.state_layout import ROW_ACCESSED_AT, ROW_CREATED_AT, ROW_LIVES, ROW_REQUESTS
from ratesim.simulation.kernel.states import StateTable
from ratesim.state import AlgorithmData, RateLimitState, Watermark, micro
from ratesim.storage.base import Charge
from ratesim.storage.hybrid.lease_manager import RETURNS_SUFFIX
from ratesim.storage.remote.operations import Apply, Get, Operation

__all__ = ["HybridSamples"]


class HybridSamples:
    """The measured batches of a world.

    Parameters
    ----------
    context
        The run.
    arrays, store, answers
        The arrays of the world, the table of the servers' states, and of those that answer; without one these are the
        servers' own.

    Attributes
    ----------
    address
        Of a function that calls `note`, for the compiled kernel.
    """

    def __init__(
        self, context: RunContext, arrays: Mapping[str, NDArray[Any]], store: StateTable, answers: StateTable | None
    ) -> None:
        self._context, self._arrays, self._store, self._answers = context, arrays, store, answers
        self._suffix = "" if answers is not None else RETURNS_SUFFIX
        self._nodes = context.scenario.deployment.nodes
        self._samples: list[tuple[int, list[Operation], list[object]]] = []
        self._failure: Exception | None = None
        self._function = ctypes.CFUNCTYPE(None, ctypes.c_int64)(self.note)
        self.address = ctypes.cast(self._function, ctypes.c_void_p).value

    def note(self, task: int) -> None:
        """Keep the batch of a task. An error is raised by `give`, since compiled code cannot pass it on."""
        try:
            self._note(task)
        except Exception as error:  # noqa: BLE001
            self._failure = self._failure or error

    def _note(self, task: int) -> None:
        operations: list[Operation] = []
        answers: list[object] = []
        o = int(self._arrays["tasks"]["first"][task])
        while o != layout.NONE:
            row = self._arrays["operations"][o]
            operations.append(self._operation(row))
            answers.append(self._state(row, o))
            o = int(row["next"])
        self._samples.append((int(self._arrays["tasks"]["server"][task]), operations, answers))

    def _operation(self, row: Any) -> Operation:
        name, limit = self._context.trace.keys[int(row["key"])], self._store.limit
        if row["kind"] == layout.GET:
            return Get(name, limit.name, float(row["time"]))
        node = f"node-{int(row['node'])}{self._suffix}"
        if self._answers is None:
            returned = ((float(row["time"]), float(row["cost"]), 0),)
            return Apply(Charge(name, limit, node, int(row["epoch"]), 0.0, returned, float(row["sent"])))
        replica = self._arrays["replicas"][int(row["pair"])]
        entries, d = [], int(replica["sending_first"])
        while d != layout.NONE:
            delta = self._arrays["deltas"][d]
            entries.append((float(delta["time"]), float(delta["cost"]), int(delta["requests"])))
            d = int(delta["next"])
        before = float(replica["acked"])
        return Apply(Charge(name, limit, node, int(row["epoch"]), before, tuple(entries), float(row["sent"])))

    def _state(self, row: Any, o: int) -> RateLimitState | None:
        if row["kind"] == layout.GET and not row["found"]:
            return None
        algorithm, key = bind(self._store.limit).algorithm, int(row["key"])
        state = self._store.state(key) if self._answers is None else self._answers.state(o)
        header = self._store.rows[key]
        return RateLimitState(
            AlgorithmData.of(algorithm.name, algorithm.stored(state.tolist())),
            micro(float(header[ROW_CREATED_AT])),
            micro(float(header[ROW_ACCESSED_AT])),
            int(header[ROW_REQUESTS]),
            {},
            {
                f"node-{node}{self._suffix}": Watermark(epoch, consumed)
                for node, epoch, consumed in self._store.marks(key, float(header[ROW_LIVES]))
            },
        )

    def give(self, cluster: Cluster) -> None:
        """Give the meters of all servers their counts and batches."""
        if self._failure is not None:
            raise self._failure
        for number, server in enumerate(cluster.servers):
            counts = self._arrays["wire_counts"][number * layout.WIRE_KINDS :]
            classes: tuple[tuple[type[Operation], int], ...] = (Get, layout.GET), (Apply, layout.APPLY)
            kinds = {
                kind: (int(count["batches"]), int(count["operations"]), int(count["uncounted"]))
                for kind, place in classes
                if (count := counts[place])["batches"]
            }
            mine = [(batch, answers) for place, batch, answers in self._samples if place == number]
            server.meter.enter(kinds, mine)
