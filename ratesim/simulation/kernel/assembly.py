"""A world of the kernel, made of the cluster of a run, and what comes of it, given back to the cluster."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ratesim.simulation.cost_model.profile import BackendCosts, Coldness, HybridCosts
from ratesim.simulation.engine.cluster import Cluster
from ratesim.simulation.engine.context import RunContext
from ratesim.simulation.engine.outcome_columns import OutcomeColumns
from ratesim.simulation.kernel import layout
from ratesim.simulation.kernel.compilation import compiled_world
from ratesim.simulation.kernel.draw_assembly import draw_parts
from ratesim.simulation.kernel.hybrid_assembly import hybrid_parts, hybrid_tables, pairs_of
from ratesim.simulation.kernel.hybrid_samples import HybridSamples
from ratesim.simulation.kernel.rule_functions import compile_rule, interpret_rule
from ratesim.simulation.kernel.server_assembly import cluster_deadlines, free_list, server_parts
from ratesim.simulation.kernel.states import StateTable
from ratesim.simulation.kernel.station import STATION_BINS
from ratesim.simulation.kernel.view_bytes import view_bytes
from ratesim.simulation.kernel.wire_assembly import give_samples, wire_parts
from ratesim.simulation.network.load_balancer import Router
from ratesim.simulation.queueing.processor_sharing import MultiCoreCPU
from ratesim.simulation.queueing.station_account import ACCOUNT, BIN, BINS, GUEST
from ratesim.simulation.queueing.station_stats import StationStats
from ratesim.storage import StorageURL
from ratesim.storage.config import ClientConfig, HybridStorageConfig
from ratesim.storage.hybrid.lease import lease_terms
from ratesim.storage.remote.client import ALONE

__all__ = ["PLACES", "AbortError", "FullError", "World"]

Arrays = dict[str, NDArray[Any]]
Make = Callable[[Mapping[str, NDArray[Any]], Mapping[str, Any]], Any]

PLACES = 1 << 14  # tasks, operations and events at first


REASONS = {
    layout.DEADLINE_PASSED: "a deadline was reached",
    layout.QUEUE_FULL: "a client's queue was full",
    layout.LOOP_ACCOUNT: "the account of a node's loop is not sound",
    layout.STATE_AHEAD: "a state of the store was ahead of a node's clock",
    layout.ROOM_WANTED: "a node's queue of write_behind was full",
    layout.TOKEN_FULL: "a session's token was full",
    layout.ACCOUNT_WRONG: "the account of a station is not sound",
}


class FullError(Exception):
    """An array of the world is full: the run begins again with larger ones."""


class AbortError(Exception):
    """What SimPy has to decide: one line."""


class World:
    """A world, with the clock of a SimPy environment.

    Parameters
    ----------
    context, cluster
        The run, and its nodes and servers at the start.
    router
        The node of each request.
    places
        Tasks, operations and events for which there is room.
    make, kernel
        `compiled_world` and `compiled_kernel()`, or the same uncompiled.
    """

    def __init__(
        self, context: RunContext, cluster: Cluster, router: Router, places: int, make: Make, kernel: ModuleType
    ) -> None:
        self._context = context
        self._play, self._settle, self._cluster = kernel.play_until, kernel.play_settle, cluster
        self.arrays, self.scalars = _world(context, cluster, router, places)
        store = _store(context, places)
        self.arrays["answer"] = store.answer
        self.tables = {"store": store, **hybrid_tables(context, self.arrays, places)}
        rule: dict[str, Any] = {}
        if make is compiled_world:
            rule.update(compile_rule(store.limit))
            rule.update((name, table.address) for name, table in self.tables.items())
        else:
            rule.update(interpret_rule(store.limit))
            rule.update((name, table.plain) for name, table in self.tables.items())
        self._samples = None
        if self.scalars.get("kind") in (layout.LEASES, layout.VIEWS):
            self._samples = HybridSamples(context, self.arrays, store, self.tables.get("answer_table"))
            rule["samples_note"] = self._samples.address if make is compiled_world else self._samples.note
        self._w = make(self.arrays, {**self.scalars, **rule})

    @property
    def w(self) -> Any:
        """What the functions of the kernel take."""
        return self._w

    @property
    def now(self) -> float:
        """Simulated seconds."""
        return float(self._w.now)

    def peek(self) -> float:
        """Return when something happens next; inf if nothing does."""
        w, events = self._w, self.arrays["events"]
        return min(float(w.next_due), float(events["time"][0]) if w.events_count else inf)

    def run(self, until: float = inf) -> None:
        """Process what is due before a time.

        Raises
        ------
        FullError, AbortError
            The run cannot go on.
        """
        w = self._w
        self._play(w, until)
        while w.pause:
            w.pause = 0
            self._give_back()
            self._cluster.discount(self.now)
            self._play(w, until)
        if w.abort == layout.FULL or any(table.exhausted for table in self.tables.values()):
            raise FullError
        if w.abort != layout.SOUND:
            raise AbortError(REASONS[int(w.abort)])

    def last_answer(self) -> float:
        """Return when the last request was answered; inf while one is outstanding."""
        latency, sent = self.arrays["latency"], self.arrays["sent"]
        if not len(latency):
            return 0.0
        return float((sent + latency).max()) if latency[-1] >= 0.0 and (latency >= 0.0).all() else inf

    def outcome(self) -> OutcomeColumns:
        """Return the answers to the requests."""
        allowed = self.arrays["allowed"].view(np.bool_)
        latency, sequences = self.arrays["latency"], self.arrays["sequences"]
        view_age = self.arrays["view_age"] if self._cluster.views else None
        return OutcomeColumns(allowed, np.zeros(len(allowed), np.bool_), latency, sequences, view_age)

    def bytes(self) -> NDArray[np.int64]:
        """Return the bytes of the nodes' own entries, shape (nodes,)."""
        if not self._cluster.views:
            return self._cluster.memory()
        keys, views, nodes = self._context.trace.keys, self.tables["view_table"], len(self._cluster.loops)
        return view_bytes(self._context.limit, keys, nodes, views, self.arrays, int(self._w.there_count))

    def close(self, at: float) -> int:
        """End the observation at `at`, and give the cluster all its figures; returns the number of events."""
        self._settle(self._w)
        self._give_back()
        samples = self.arrays["samples"][: int(self._w.samples_count)]
        limit, keys = self.tables["store"].limit, self._context.trace.keys
        give_samples(limit, keys, self._cluster, self.arrays["wire_counts"], samples)
        if self._samples is not None:
            self._samples.give(self._cluster)
        for station in self._cluster.stations.values():
            if isinstance(station, MultiCoreCPU):
                station.stats.account.stays += self._unfinished()
                station.close(self.now)
            else:
                station.close(at)
        return int(self._w.number)

    def _unfinished(self) -> float:
        """Return the seconds until now of those who are still at the cores."""
        cores = self.arrays["cores"][0]
        inside = self.arrays["customers"]["came"][self.arrays["departures"]["argument"][: int(cores["inside"])]]
        unfinished = sum((self.now - inside).tolist())
        return unfinished + (self.now - float(cores["alone_came"]) if cores["alone"] else 0.0)

    def _give_back(self) -> None:
        """Give the cluster what happened until now."""
        nodes = self.arrays["nodes"]
        for remote, operations in zip(self._cluster.remotes, nodes["operations"].tolist(), strict=True):
            remote.client.operations = operations
        for server in self._cluster.servers:
            if server.cores is not None:
                server.cores.busy = float(self.arrays["cores"]["busy"][0])
        for stats, (first, size) in zip(_accounts(self._cluster), self.arrays["rings"].tolist(), strict=True):
            stats.guests = self.arrays["guests"][first : first + size].view(np.recarray)


def _accounts(cluster: Cluster) -> list[StationStats]:
    """List the accounts of the servers' stations, and of the nodes'."""
    return [server.processor.stats for server in cluster.servers] + [loop.stats for loop in cluster.loops]


def _share_accounts(cluster: Cluster, places: int) -> tuple[Arrays, int]:
    """Move the accounts of all stations into arrays, where the kernel goes on with them; also return the guests' places."""
    stations = _accounts(cluster)
    arrays: Arrays = {
        "accounts": np.array([each.account for each in stations], ACCOUNT),
        "bins": np.zeros(STATION_BINS * len(stations), BIN),
        "rings": np.zeros(len(stations), layout.RING),
    }
    sizes = np.array([len(each.guests) for each in stations])
    arrays["rings"]["first"], arrays["rings"]["length"] = np.cumsum(sizes) - sizes, sizes
    arrays["guests"] = np.zeros(int(sizes.sum()) + places, GUEST)
    for i, stats in enumerate(stations):
        stats.account = arrays["accounts"].view(np.recarray)[i]
        stats.by_bin = arrays["bins"][STATION_BINS * i : STATION_BINS * i + BINS].view(np.recarray)
        first = int(arrays["rings"]["first"][i])
        arrays["guests"][first : first + int(sizes[i])] = stats.guests
    return arrays, int(sizes.sum())


def _world(context: RunContext, cluster: Cluster, router: Router, places: int) -> tuple[Arrays, dict[str, float | int]]:
    trace, server = context.trace, cluster.servers[0]
    url, beside = StorageURL.parse(context.candidate.storage), _costs_beside(context)
    config: ClientConfig = cluster.remotes[0].client.config
    n, nodes, primaries = len(trace), len(cluster.loops), len(cluster.servers)
    due = trace.time - context.runtime.epoch
    max_wait = config.command_timeout if url.hybrid is None else url.hybrid.max_wait
    lengths = list(dict.fromkeys([config.command_timeout, max_wait, *cluster_deadlines(cluster)]))  # of deadlines
    assert cluster.plan is not None
    arrays: Arrays = {
        "events": np.zeros(places, layout.EVENT),
        "turn": np.zeros(places, layout.CALL),
        "deadlines": np.zeros(len(lengths), layout.DEADLINES),
        "deadline_entries": np.zeros(places * len(lengths), layout.DEADLINE_ENTRY),
        "nodes": np.zeros(nodes, layout.NODE),
        "came": free_list(places, layout.CAME),
        "drivers": np.zeros(nodes * primaries, layout.DRIVER),
        "servers": np.zeros(primaries, layout.SERVER),
        "tasks": free_list(places, layout.TASK),
        "operations": free_list(places, layout.OPERATION),
        "cold": np.concatenate([_cold_points(each) for each in _coldness(cluster, beside)]),
        "batch_costs": _batch_costs(server.costs, config.max_batch),
        "client_paces": _paces([loop._pace for loop in cluster.loops]),
        "server_paces": _paces([each.pace for each in cluster.servers]),
        "due": due,
        "time": np.ascontiguousarray(trace.time),
        "cost": np.ascontiguousarray(trace.cost),
        "key": np.ascontiguousarray(trace.key, np.int64),
        "route": np.frombuffer(router.node, np.int16),
        "plan_out": np.frombuffer(cluster.plan.out),
        "plan_service": np.frombuffer(cluster.plan.service),
        "plan_back": np.frombuffer(cluster.plan.back),
        "sent": due.copy(),
        "allowed": np.zeros(n, np.uint8),
        "latency": np.full(n, np.nan),
        "sequences": np.zeros(n, np.int64),
        "pair": np.zeros(0, np.int64),
        "leases": np.zeros(0, layout.LEASE),
        "lease_managers": np.zeros(0, layout.LEASE_MANAGER),
        "leases_due": np.zeros(0, layout.EVENT),
    }
    accounts, guests_used = _share_accounts(cluster, places)
    arrays.update(accounts)
    parts, of_server = server_parts(context, cluster, places)
    of_nodes, of_hybrid = hybrid_parts(context, cluster, arrays["route"] if router.known else arrays["route"][:0], places)
    arrays.update(parts)
    arrays.update(wire_parts(primaries, places))
    arrays.update(of_nodes)
    draws, of_draws = draw_parts(context, cluster)
    arrays.update(draws)
    arrays["deadlines"]["seconds"] = lengths
    each = arrays["nodes"]
    each["number"] = np.arange(nodes)
    each["turn_at"], each["free"] = -1.0, config.pool_size
    for name in ("ready_first", "ready_last", "came_first", "came_last", "waiting_first", "waiting_last"):
        each[name] = layout.NONE
    arrays["servers"]["number"] = np.arange(primaries)
    scalars: dict[str, float | int] = {
        "next_due": float(due[0]) if n else inf,
        "requests": n,
        "tasks_free": 0,
        "operations_free": 0,
        "came_free": 0,
        "primaries": primaries,
        "reserve": max(config.pool_size - ALONE, 0),
        "pool_size": config.pool_size,
        "max_batch": config.max_batch,
        "max_waiting": config.max_waiting,
        "turn_seconds": server.costs.turn,
        "arrival_seconds": server.costs.arrival,
        "client_cold": 0 if server.costs.cold is None else len(server.costs.cold.idle),
        "client_paced": int(cluster.loops[0]._pace is not None),
        "server_paced": int(server.pace is not None),
        "least_outstanding": int(not router.known),
        "warmup": context.scenario.warmup,
        "deadline_room": places,
        "wait_class": lengths.index(max_wait),
        "cluster_class": next(map(lengths.index, cluster_deadlines(cluster)), layout.NONE),
        "guests_used": guests_used,
        "server_clock": int(getattr(config, "clock", "client") == "server"),
        **_hybrid_costs(cluster, beside),
        **of_server,
        **of_hybrid,
        **of_draws,
    }
    if server.work is not None and server.work.removes:
        arrays["tasks"][0]["kind"], arrays["tasks"][0]["at"] = layout.CLEANUP, layout.CLEANUP_WAIT
        scalars["tasks_free"] = 1
        _spawn(arrays, scalars, layout.GO_ON, 0)
    hybrid = url.hybrid
    if hybrid is not None and hybrid.consistency == "lease":
        _add_leases(arrays, scalars, context, hybrid)
    if context.scenario.warmup > 0.0:
        _spawn(arrays, scalars, layout.WARMUP_START)
    return arrays, scalars


def _store(context: RunContext, places: int) -> StateTable:
    """Make the table of the servers' states. It never fills up: an arena that is not used takes no memory."""
    url, trace = StorageURL.parse(context.candidate.storage), context.trace
    leases = url.hybrid is not None and url.hybrid.consistency == "lease"
    merges = url.hybrid is not None and url.hybrid.consistency != "strong"
    nodes = context.scenario.deployment.nodes if merges else 0
    limit = lease_terms(context.limit, url.hybrid.lease_ttl).limit if url.hybrid is not None and leases else context.limit
    keys, skew = len(trace.keys), url.config.max_clock_skew
    marks = min(nodes * keys, len(trace))
    return StateTable(limit, keys, skew, 64 * keys + 16 * len(trace) + places, nodes, marks)


def _spawn(arrays: Arrays, scalars: dict[str, float | int], what: int, argument: int = 0) -> None:
    """Start a task before anything happens, as `SimRuntime.spawn` does: in the first turn, for which there is an event."""
    count = int(scalars.get("events_count", 0))
    arrays["events"][count] = (0.0, count, layout.NOTHING, 0)
    arrays["turn"][count] = (what, argument)
    scalars.update(events_count=count + 1, number=count + 1, turn_count=count + 1)


def _costs_beside(context: RunContext) -> HybridCosts | None:
    """Return what a hybrid's node spends beside its client."""
    hybrid = StorageURL.parse(context.candidate.storage).hybrid
    return None if hybrid is None else context.profile.hybrids.get(hybrid.consistency)


def _coldness(cluster: Cluster, beside: HybridCosts | None) -> list[Coldness | None]:
    """List the coldness of the way to the store, of a decision in memory, and of what a hybrid's node spends beside."""
    return [cluster.servers[0].costs.cold, cluster.memory_costs.cold, None if beside is None else beside.cold]


def _hybrid_costs(cluster: Cluster, beside: HybridCosts | None) -> dict[str, float | int]:
    sizes = [0 if each is None else len(each.idle) for each in _coldness(cluster, beside)]
    return {
        "decide_seconds": cluster.memory_costs.client_cpu,
        "memory_cold": sizes[1],
        "memory_cold_first": sizes[0],
        "hybrid": int(beside is not None),
        "hybrid_ask": 0.0 if beside is None else beside.ask,
        "hybrid_tell": 0.0 if beside is None else beside.tell,
        "hybrid_cold": sizes[2],
        "hybrid_cold_first": sizes[0] + sizes[1],
    }


def _add_leases(arrays: Arrays, scalars: dict[str, float | int], context: RunContext, hybrid: HybridStorageConfig) -> None:
    """Add a lease for each pair of a node and a key that meet."""
    trace, limit, nodes = context.trace, context.limit, len(arrays["nodes"])
    keys = len(trace.keys)
    route = arrays["route"][:0] if scalars["least_outstanding"] else arrays["route"]
    arrays["pair"], counts = pairs_of(context, route, nodes)
    total = int(counts.sum())
    arrays["leases"] = np.zeros(total, layout.LEASE)
    arrays["leases_due"] = np.zeros(total + 1, layout.EVENT)
    arrays["lease_managers"] = np.zeros(nodes, layout.LEASE_MANAGER)
    arrays["lease_managers"]["first"] = np.cumsum(counts) - counts
    arrays["lease_managers"]["returns"] = int(context.runtime.epoch * 1e6)
    terms = lease_terms(limit, hybrid.lease_ttl)
    scalars.update(
        kind=layout.LEASES,
        keys=keys,
        lease_lifetime=terms.lifetime,
        lease_resolution=terms.time_resolution,
        lease_ttl=hybrid.lease_ttl,
        lease_tolerance=hybrid.clock_tolerance,
        lease_skew=min(hybrid.max_clock_skew, limit.period),
        lease_nodes=hybrid.nodes if hybrid.nodes > 1 else nodes,
    )


def _cold_points(cold: Coldness | None) -> NDArray[Any]:
    names = layout.COLD.names
    points = np.zeros(0 if cold is None else len(cold.idle), layout.COLD)
    for name in names or ():
        if cold is not None:
            points[name] = getattr(cold, name)
    return points


def _batch_costs(costs: BackendCosts, most: int) -> NDArray[Any]:
    """Tabulate what a batch costs by its operations, in the arithmetic of the cost model."""
    table = np.zeros(most + 1, layout.BATCH_COST)
    for items in range(1, most + 1):
        table[items] = (*costs.steps(items, 0.0), costs.seconds(items))
    return table


def _paces(paces: list[Any]) -> NDArray[np.float64]:
    """Return the factors of processors whose pace varies, side by side those of a moment; none where it does not."""
    return np.stack([each.factors for each in paces], 1).reshape(-1) if paces[0] is not None else np.zeros(0)
