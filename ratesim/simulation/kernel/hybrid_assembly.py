"""The records of nodes that decide on views, made of the hybrid storages of a cluster."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ratesim.algorithms import bind
from ratesim.simulation.engine.cluster import Cluster
from ratesim.simulation.engine.context import RunContext
from ratesim.simulation.kernel import layout
from ratesim.simulation.kernel.server_assembly import free_list
from ratesim.simulation.kernel.states import StateTable
from ratesim.simulation.scenario.scenario import Candidate, Scenario
from ratesim.storage import HybridStorage, StorageURL
from traffic import Trace

__all__ = ["hybrid_parts", "hybrid_reason", "hybrid_tables", "pairs_of"]

Arrays = dict[str, NDArray[Any]]

MOST_PAIRS, MOST_MARKS = 1 << 22, 1 << 25  # for which there is room: a GiB, and a quarter of one


def hybrid_reason(scenario: Scenario, candidate: Candidate, trace: Trace) -> str | None:
    """Return why the nodes of a hybrid have to be played by SimPy; None if they do not.

    Parameters
    ----------
    scenario, candidate, trace
        As for `covers`.
    """
    hybrid = StorageURL.parse(candidate.storage).hybrid
    assert hybrid is not None
    if hybrid.consistency == "strong":
        return None
    if len(trace.keys) > hybrid.max_entries:
        return f"{len(trace.keys):,} keys may be more than a node keeps"
    nodes = scenario.deployment.nodes
    if nodes * len(trace.keys) > MOST_PAIRS and (candidate.routing or scenario.deployment.routing) == "least_outstanding":
        return f"records of {len(trace.keys):,} keys at each of {nodes:,} nodes take too much memory"
    if hybrid.consistency == "lease":
        return None
    if bind(scenario.limit.limit()).size is None:
        return "views whose states grow are not compiled"
    if hybrid.sync == "state":
        return "states that overwrite those of the store are not compiled"
    if hybrid.memory_limit is not None or hybrid.eviction_policy != "LRU":
        return "a node may evict views"
    if hybrid.consistency == "session" and min(nodes * len(trace.keys), len(trace)) * nodes > MOST_MARKS:
        return f"watermarks of {nodes:,} nodes in each view take too much memory"
    return None


def pairs_of(context: RunContext, route: NDArray[np.int16], nodes: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count the pairs of a node and a key that meet, and number them.

    Parameters
    ----------
    context
        The run.
    route
        The node of each request, shape (len(trace),), if it is known beforehand.
    nodes
        The number of nodes.

    Returns
    -------
    tuple
        The pair of each request, empty where its node is not known: pairs are numbered by node and key then. And how many
        pairs each node has.
    """
    trace, keys = context.trace, len(context.trace.keys)
    if not len(route):
        return np.zeros(0, np.int64), np.full(nodes, keys)
    pairs, pair = np.unique(route.astype(np.int64) * keys + trace.key, return_inverse=True)
    return pair.astype(np.int64), np.bincount(pairs // keys, minlength=nodes)


def hybrid_parts(
    context: RunContext, cluster: Cluster, route: NDArray[np.int16], places: int
) -> tuple[Arrays, dict[str, float | int]]:
    """Make what a hybrid's nodes hold beside their clients.

    Parameters
    ----------
    context, cluster
        The run, and its nodes and servers at the start.
    route
        As of `pairs_of`.
    places
        Unsent deltas for which there is room.

    Returns
    -------
    tuple
        Arrays and scalars by the names in `layout`; of no hybrid they are empty.
    """
    arrays: Arrays = {
        "replicas": np.zeros(0, layout.REPLICA),
        "deltas": np.zeros(0, layout.DELTA),
        "queues": np.zeros(0, layout.FLUSH_QUEUE),
        "view_age": np.zeros(0, np.float32),
        "view_rows": np.zeros(0),
        "there_log": np.zeros(0, np.int64),
        "answer_rows": np.zeros(0),
        "token": np.zeros(0, np.int64),
        "tokens": np.zeros(0, layout.TOKEN),
        "owns": np.zeros(0, layout.OWN),
        "seen_marks": np.zeros(0),
        "answer_marks": np.zeros(0),
    }
    hybrid = StorageURL.parse(context.candidate.storage).hybrid
    if hybrid is None or hybrid.consistency == "lease":
        return arrays, {}
    if hybrid.consistency == "strong":
        return arrays, {"waits_for_store": 1}
    nodes = len(cluster.loops)
    arrays["pair"], counts = pairs_of(context, route, nodes)
    arrays["replicas"] = np.zeros(int(counts.sum()), layout.REPLICA)
    arrays["deltas"] = free_list(places, layout.DELTA)
    arrays["there_log"] = np.zeros(len(arrays["replicas"]) + 4 * places, np.int64)
    arrays["queues"] = np.zeros(nodes, layout.FLUSH_QUEUE)
    arrays["view_age"] = np.full(len(context.trace), nan, np.float32)
    storages = [each for each in cluster.storages if isinstance(each, HybridStorage)]
    arrays["queues"]["phase"] = [each._write_behind._phase for each in storages]
    arrays["queues"]["epoch"] = [each._views._epoch for each in storages]
    if hybrid.consistency == "session":
        trace, keys = context.trace, len(context.trace.keys)
        tokens, arrays["token"] = np.unique(trace.session.astype(np.int64) * keys + trace.key, return_inverse=True)
        arrays["tokens"] = np.zeros(len(tokens), layout.TOKEN)
        arrays["tokens"]["own_first"] = layout.NONE
        arrays["owns"] = free_list(places + len(tokens), layout.OWN)
        arrays["seen_marks"] = np.zeros(len(arrays["replicas"]) * nodes)
        arrays["answer_marks"] = np.zeros(places * nodes)
    bound, limit = bind(context.limit), context.limit
    return arrays, {
        "kind": layout.VIEWS,
        "keys": len(context.trace.keys),
        "deltas_free": 0,
        "owns_free": 0,
        "state_stride": StateTable(limit, 0, 0.0).rows.shape[1],
        "sessions": int(hybrid.consistency == "session"),
        "session_horizon": limit.period * max(2.0, (limit.rate if limit.burst is None else limit.burst) / limit.rate),
        "decides_nowait": int(hybrid.consistency == "eventual" and hybrid.write == "write_back"),
        "read_ahead": int(hybrid.read == "refresh_ahead"),
        "writes_through": int(hybrid.write in ("write_through", "write_around")),
        "writes_around": int(hybrid.write == "write_around"),
        "flush_lingers": int(hybrid.write == "write_behind"),
        "flush_linger": hybrid.linger,
        "flush_batch": hybrid.flush_batch,
        "queue_size": hybrid.queue_size,
        "sync_interval": hybrid.sync_interval,
        "view_ttl": hybrid.l1_ttl,
        "view_fresh": storages[0]._views._fresh_for,
        "view_skew": inf if storages[0]._views._server_clock else min(hybrid.max_clock_skew, context.limit.period),
        "max_wait": hybrid.max_wait,
        "replica_resolution": bound.algorithm.rule.time_resolution(bound.params),
    }


def hybrid_tables(context: RunContext, arrays: Arrays, places: int) -> dict[str, StateTable]:
    """Make the tables of the nodes' views, and of the states that travel with answers, by their names in `layout`.

    Parameters
    ----------
    context
        The run.
    arrays
        Those of `hybrid_parts`; the rows of the tables are added.
    places
        Operations, each with room for a state.
    """
    pairs, hybrid = len(arrays["replicas"]), StorageURL.parse(context.candidate.storage).hybrid
    if hybrid is None or not pairs:
        return {}
    room = 16 * (len(context.trace) + places)
    views = StateTable(context.limit, pairs, hybrid.max_clock_skew, 64 * pairs + room)
    answers = StateTable(context.limit, places + 1, hybrid.max_clock_skew, 64 * places + room)
    arrays["view_rows"], arrays["answer_rows"] = views.rows.reshape(-1), answers.rows.reshape(-1)
    return {"view_table": views, "answer_table": answers}
