"""Hybrids live, each node a process of its own before one server, beside the simulation of as many nodes.

A node's processes, clock and background tasks are its own, as in production. All begin at one moment of the machine's
monotonic clock, which shows the trace's time from then on. So decisions, flushes and leases have the same times live and
simulated, and the phases of the flushes are drawn alike. What differs is the cost of the work, which the profile states.

The latency of a decision counts from the handler of the request on, waits for the node's event loop included, and not from
the network of its client.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
import uuid
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from ratesim.atomic_write import atomic_write
from ratesim.errors import require_all
from ratesim.formatting import format_seconds
from ratesim.limit import Limit
from ratesim.runtime import AsyncioRuntime
from ratesim.servers import Server
from ratesim.servers.watch import run_watched
from ratesim.simulation.cost_model.calibrate import machine
from ratesim.simulation.cost_model.cost_fit import fit
from ratesim.simulation.cost_model.hybrid_costs import measure_hybrids
from ratesim.simulation.cost_model.load_process import in_process, run_in_process, split_cores
from ratesim.simulation.cost_model.machine_account import Meter
from ratesim.simulation.cost_model.profile import BackendCosts, Profile
from ratesim.simulation.cost_model.survey import survey, warm_up
from ratesim.simulation.cost_model.target_server import open_target
from ratesim.simulation.engine.backends import own_schema
from ratesim.simulation.engine.context import STORE_CLIENTS
from ratesim.simulation.network.load_balancer import Router
from ratesim.simulation.results.run_result import RunResult
from ratesim.simulation.runner import run
from ratesim.simulation.scenario.scenario import Candidate, Scenario, ScenarioError
from ratesim.simulation.validation.covariates import OTHERS, STEAL
from ratesim.storage import HybridStorage, PostgresStorage, RedisStorage, StorageURL
from ratesim.storage.remote.client import Client
from ratesim.storage.remote.operations import Acquire, Reset
from ratesim.storage.remote.storage import RemoteStorage
from traffic import Trace, replay

__all__ = ["HYBRIDS", "HybridFigure", "NodeResult", "compare_hybrids", "hybrid_table", "replay_nodes"]

HYBRIDS = {
    "hybrid eventual 100 ms": "hybrid+{store}://server?consistency=eventual&sync_interval=0.1&l1_ttl=0.1",
    "hybrid lease 1 s": "hybrid+{store}://server?consistency=lease&lease_ttl=1",
}
NODES, RATE, SECONDS = 4, 1000.0, 5.0
TOLERANCE = 0.15
LEAST = 3  # kept replays that can tell something
EFFORT = 0.4  # of the measurement of a node's costs
QUANTILES = {"p50": 0.5, "p95": 0.95}
START = 0.3  # seconds until the first request, once all nodes are ready
SPUN = 0.002  # the last of them are waited for without sleep: a timer is up to a millisecond late
POLL = 0.02  # seconds between two looks whether all are ready, or whether a node has told its store everything
LONGEST_QUIET = 60.0  # as in simulated time


@dataclass(frozen=True)
class NodeReplay:
    """What the process of a node replays; it travels there pickled.

    Attributes
    ----------
    storage, server, tag
        The candidate's storage URL, the server's, and what its keys or its schema are named after.
    node, nodes, seed
        Which node it is, of how many, and the seed of their random draws.
    limit, trace
        The limit, and the node's own rows.
    pids
        Processes of the server.
    epoch
        The time of the first request of all nodes, seconds since the epoch.
    warmup
        Seconds from there that are in no figure.
    """

    storage: str
    server: str
    tag: str
    node: int
    nodes: int
    seed: int
    limit: Limit
    trace: Trace
    pids: tuple[int, ...]
    epoch: float
    warmup: float

    @property
    def names(self) -> list[str]:
        """The identifier of each row."""
        return [self.trace.keys[key] for key in self.trace.key.tolist()]


@dataclass(frozen=True)
class NodeResult:
    """What the process of a node measured after the warm-up.

    Attributes
    ----------
    latency
        Seconds from the handler of each request to its decision, shape (requests,).
    allowed
        Whether each was admitted.
    operations, batches
        What its client sent to the store, until everything was told.
    processor
        Processor seconds of the process while requests came.
    steal, others
        Shares of the machine that went to its hypervisor's other guests, and to programs that take no part. The first node
        sees them, for the others they are 0.
    """

    latency: NDArray[np.float64]
    allowed: NDArray[np.bool_]
    operations: int
    batches: int
    processor: float
    steal: float = 0.0
    others: float = 0.0


@dataclass(frozen=True)
class HybridFigure:
    """One figure of a hybrid, live and simulated, by kept replay.

    Attributes
    ----------
    candidate, figure
        What was compared: a quantile of the latency in seconds, or a number of the run.
    live, simulated
        The values by replay.
    overall
        Simulated over live of all replays, those with a disturbed machine included.
    """

    candidate: str
    figure: str
    live: tuple[float, ...]
    simulated: tuple[float, ...]
    overall: tuple[float, ...]

    @property
    def ratios(self) -> NDArray[np.float64]:
        """Simulated over live, by replay."""
        return np.divide(self.simulated, self.live)

    @property
    def ratio(self) -> float:
        """The median of the ratios; nan without a replay."""
        return float(np.median(self.ratios)) if self.live else np.nan

    @property
    def verdict(self) -> str:
        """Whether the ratio is within the tolerance: yes, no, or cannot tell, where too few replays agree."""
        if len(self.live) < LEAST or np.ptp(self.ratios) > 2.0 * TOLERANCE * self.ratio:
            return "cannot tell"
        return "yes" if abs(self.ratio - 1.0) <= TOLERANCE else "no"


def hybrid_table(figures: Sequence[HybridFigure], rate: float = RATE) -> list[str]:
    """Write the figures as lines of a table (Markdown). rate: requests/s of all nodes together."""
    lines = [
        f"Hybrids in {NODES} processes over one server, {rate:,.0f} requests/s in all. Medians of the kept replays, each "
        "simulated with costs of its own round, the range of their ratios, and the median ratio of all replays.",
        "",
        "| candidate | figure | kept | measured | simulated | ratio | range | of all | within |",
        "|---|---|---:|---:|---:|---:|---|---:|---|",
    ]
    for each in figures:
        cells = [each.candidate, each.figure, f"{len(each.live)} of {len(each.overall)}"]
        if each.live:
            cells += [_text(each.figure, float(np.median(values))) for values in (each.live, each.simulated)]
            cells += [f"{each.ratio:.2f}", f"{each.ratios.min():.2f} to {each.ratios.max():.2f}"]
        else:
            cells += ["-"] * 4
        cells.append(f"{np.median(each.overall):.2f}")
        lines.append(f"| {' | '.join(cells)} | {each.verdict} ({100 * TOLERANCE:.0f} %) |")
    return lines


def _text(figure: str, value: float) -> str:
    return format_seconds(value) if figure in QUANTILES else f"{value:,.0f}"


def compare_hybrids(
    server: Server,
    *,
    rounds: int = LEAST,
    ends: float = math.inf,
    rate: float = RATE,
    names: Sequence[str] = tuple(HYBRIDS),
) -> list[HybridFigure]:
    """Compare hybrids live and simulated: quantiles of the latency, admitted requests, operations of the store.

    Replays of one candidate after the other make a round, before which the costs are measured. A replay is kept where other
    programs and the hypervisor left the machine alone, during the measurement of its costs too.

    Parameters
    ----------
    server
        Where they keep their state.
    rounds
        Replays to be kept of each candidate, each of another trace. There are at most twice as many.
    ends
        The time.monotonic() after which no round but the first begins.
    rate
        Requests/s of all nodes together.
    names
        Of HYBRIDS.

    Raises
    ------
    LoadProcessError, StorageError, ServerError
        If the process of a node, its storage or the server fails.
    """
    store = "postgresql" if _backend(server) == "postgres" else "redis"
    scenario = _scenario(NODES, rate, SECONDS)
    found: dict[str, list[tuple[dict[str, tuple[float, float]], bool]]] = {name: [] for name in names}
    took = 0.0
    for seed in range(1, 2 * rounds + 1):
        began = time.monotonic()
        if all(sum(kept for _, kept in rows) >= rounds for rows in found.values()) or (took and began + took > ends):
            break
        trace, (profile, *shares) = scenario.trace(seed), _measured_profile(server)
        for name, rows in found.items():
            candidate = Candidate(name=name, storage=HYBRIDS[name].format(store=store))
            live = replay_nodes(scenario, candidate, trace, server, seed)
            simulated = run(scenario, candidate, seed, profile=profile, trace=trace, progress=False)
            rows.append((_pairs(live, simulated), _is_quiet(*shares) and _is_quiet(live[0].steal, live[0].others)))
        took = time.monotonic() - began
    return [_figure(name, figure, rows) for name, rows in found.items() for figure in rows[0][0]]


def _figure(name: str, figure: str, rows: Sequence[tuple[dict[str, tuple[float, float]], bool]]) -> HybridFigure:
    kept = [pairs[figure] for pairs, is_kept in rows if is_kept]
    overall = tuple(other / live for live, other in (pairs[figure] for pairs, _ in rows))
    return HybridFigure(name, figure, tuple(live for live, _ in kept), tuple(other for _, other in kept), overall)


def _is_quiet(steal: float, others: float) -> bool:
    """Tell whether these shares of the machine disturb nothing; where they are not known, nobody can tell."""
    return not (steal > STEAL or others > OTHERS)


def _measured_profile(server: Server) -> tuple[Profile, float, float]:
    """Measure the costs of a server and of a hybrid's node, each in a process of its own, in about ten seconds.

    Returns
    -------
    tuple
        The profile, and the shares of the machine that were stolen, and that other programs used, meanwhile.
    """
    with split_cores(server.pids):
        costs, steal, others = in_process(_measure_server, server.url, server.pids, server=server)
        hybrids = in_process(measure_hybrids, EFFORT)
    memory = BackendCosts(client_cpu=hybrids["eventual"].decide)
    # What comes once in a minute is not in a replay of some seconds.
    backends = {"memory": memory, "redis": memory, "postgres": memory, _backend(server): replace(costs, stalls={})}
    return Profile(machine=machine(), measured="now", versions={}, backends=backends, hybrids=hybrids), steal, others


def _backend(server: Server) -> str:
    return "postgres" if server.kind == "postgres" else "redis"


async def _measure_server(url: str, pids: Sequence[int]) -> tuple[BackendCosts, float, float]:
    async with open_target(url) as opened:
        await warm_up(opened.target)
        meter = Meter(pids)
        costs = fit(opened.target, [await survey(opened.target)])
        return costs, *meter.shares()


def _pairs(live: Sequence[NodeResult], simulated: RunResult) -> dict[str, tuple[float, float]]:
    """Return each figure of one replay, live and simulated."""
    latency = np.concatenate([each.latency for each in live])
    pairs = {
        name: (float(np.quantile(latency, q)), float(np.quantile(simulated.latency, q))) for name, q in QUANTILES.items()
    }
    operations = float(sum(each.operations for each in live))
    admitted = float(sum(each.allowed.sum() for each in live))
    return pairs | {
        "store operations": (operations, float(simulated.l2_operations)),
        "admitted": (admitted, float(simulated.allowed.sum())),
    }


def _scenario(nodes: int, rate: float, seconds: float) -> Scenario:
    """Make the scenario of the comparison: few keys that many nodes share, whose limit the busiest of them exceed."""
    return Scenario.of(
        {
            "workload": {"requests_per_second": rate, "duration": seconds, "keys": 1000, "zipf": 1.0},
            "limit": {"rate": "300/minute"},
            "deployment": {"nodes": nodes, "network": "loopback"},
            "warmup": min(1.0, 0.25 * seconds),
        }
    )


def replay_nodes(
    scenario: Scenario, candidate: Candidate, trace: Trace, server: Server, seed: int | None = None
) -> list[NodeResult]:
    """Replay a trace in real time against a hybrid, each node a process of its own.

    Parameters
    ----------
    scenario, candidate
        Limit, deployment and warm-up, and the hybrid.
    trace
        All requests; each node is sent those that it gets in a simulated run with the same seed.
    server
        Where the hybrid keeps its state.
    seed
        The scenario's unless given.

    Returns
    -------
    list of NodeResult
        One for each node.

    Raises
    ------
    LoadProcessError, StorageError, ServerError
        If the process of a node, its storage or the server fails.
    """
    seed, nodes = scenario.seed if seed is None else seed, scenario.deployment.nodes
    router = Router(trace, candidate.routing or scenario.deployment.routing, nodes, seed)
    if not router.known:
        raise ScenarioError(f"{candidate.name}: its routing needs answers, which processes do not share; choose another")
    place, tag, epoch = np.array(router.node), uuid.uuid4().hex[:12], float(trace.time[0])
    work = [
        NodeReplay(
            candidate.storage,
            server.url,
            tag,
            node,
            nodes,
            seed,
            scenario.limit.limit(),
            trace.select(place == node, "of a node"),
            server.pids,
            epoch,
            scenario.warmup,
        )
        for node in range(nodes)
    ]
    with _schema(server, tag), TemporaryDirectory() as meeting:
        return run_watched(server, _together(work, Path(meeting)))


def _schema(server: Server, tag: str) -> AbstractContextManager[None]:
    if server.kind != "postgres":
        return nullcontext()
    return own_schema(StorageURL.parse(server.url).config.url, _schema_name(tag), server)


def _schema_name(tag: str) -> str:
    return f"ratesim_nodes_{tag}"


async def _together(work: Sequence[NodeReplay], meeting: Path) -> list[NodeResult]:
    """Run each node in a process of its own; the first that fails ends the others."""
    tasks = [asyncio.ensure_future(run_in_process(replay_node, each, meeting, all_cores=True)) for each in work]
    try:
        results: list[NodeResult] = await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if not any(StorageURL.parse(each.storage).backend == "postgres" for each in work):  # whose schema is dropped
        async with _store(work[0], AsyncioRuntime()) as store:
            names = {name for each in work for name in each.names}
            require_all(await store.client.submit_all([Reset(name) for name in sorted(names)]))
    return results


async def replay_node(work: NodeReplay, meeting: Path) -> NodeResult:
    """Replay the rows of one node, in its own process, together with the others. meeting: an empty directory of theirs."""
    begin = time.monotonic()  # until the moment is known

    def now() -> float:
        return work.epoch + time.monotonic() - begin

    runtime = AsyncioRuntime(now, now)
    store = _store(work, runtime)
    async with _hybrid(work, store, runtime) as storage:
        await _connect(store, work)
        begin = await asyncio.to_thread(_meet, meeting, work.node, work.nodes)
        meter = Meter((os.getppid(), *work.pids)) if work.node == 0 else None  # its children, the other nodes, take part
        names, costs, stamps = work.names, work.trace.cost.tolist(), work.trace.time.tolist()
        await _wait_until(begin + stamps[0] - work.epoch)
        before = asyncio.ensure_future(_counts_at(begin + work.warmup, store.client))
        spent = time.process_time()
        result = await replay(work.trace, lambda i: storage.acquire(names[i], work.limit, costs[i], stamps[i]))
        spent = time.process_time() - spent
        shares = (0.0, 0.0) if meter is None else meter.shares()
        if result.errors:
            raise next(each for each in result.results if isinstance(each, Exception))
        operations, batches = await before
        await _told(storage)
        counted = work.trace.time >= work.epoch + work.warmup
        return NodeResult(
            result.latency[counted],
            np.array([bool(each) for each in result.results])[counted],
            store.client.operations - operations,
            store.client.batches - batches,
            spent,
            *shares,
        )


def _store(work: NodeReplay, runtime: AsyncioRuntime) -> RemoteStorage:
    """Make the storage of a node on the server, in a place of this replay's own."""
    backend, config, _ = StorageURL.parse(work.storage)
    at = StorageURL.parse(work.server).config
    config = replace(config, url=at.url, clock="client")
    if backend == "redis":
        prefix = f"ratesim:nodes:{work.tag}:"
        config = replace(config, cluster_mode=at.cluster_mode, key_prefix=prefix)
        return RedisStorage(config, runtime)
    return PostgresStorage(replace(config, schema=_schema_name(work.tag)), runtime)


def _hybrid(work: NodeReplay, store: RemoteStorage, runtime: AsyncioRuntime) -> HybridStorage:
    """Make the hybrid of a node with the random draws that it has in a run, and a name that it makes up."""
    hybrid = StorageURL.parse(work.storage).hybrid
    assert hybrid is not None
    rngs = np.random.default_rng([work.seed, STORE_CLIENTS]).spawn(2 * work.nodes)
    sharing = hybrid.nodes if hybrid.nodes > 1 else work.nodes
    config = replace(hybrid, node="", nodes=sharing)
    return HybridStorage(store, config, runtime, rngs[work.nodes + work.node])


async def _connect(store: RemoteStorage, work: NodeReplay) -> None:
    """Open all connections, and teach the server its scripts or functions on each."""
    look = Acquire("warm-up", (work.limit,), 1.0, work.epoch, False)
    await store.peek("warm-up", work.limit, now=work.epoch)
    await asyncio.gather(*(store.client.driver.execute([look]) for _ in range(store.client.config.pool_size)))


def _meet(meeting: Path, node: int, nodes: int) -> float:
    """Wait for the other nodes, and return the moment on the monotonic clock at which all begin; the first one names it."""
    named = meeting / "begin"
    (meeting / f"{node}.ready").touch()
    if node == 0:
        while len(list(meeting.glob("*.ready"))) < nodes:
            time.sleep(POLL)
        with atomic_write(named) as partial:
            partial.write_text(repr(time.monotonic() + START), "ascii")
    while not named.exists():
        time.sleep(POLL)
    return float(named.read_text("ascii"))


async def _wait_until(moment: float) -> None:
    await asyncio.sleep(max(moment - time.monotonic() - SPUN, 0.0))
    while time.monotonic() < moment:
        pass


async def _counts_at(moment: float, client: Client) -> tuple[int, int]:
    """Return the operations and batches that a client has sent by a moment."""
    await asyncio.sleep(max(moment - time.monotonic(), 0.0))
    return client.operations, client.batches


async def _told(storage: HybridStorage) -> None:
    """Wait until the store knows all consumption of a node, and has its leases back."""
    ends = time.monotonic() + LONGEST_QUIET
    while time.monotonic() < ends:
        stats = storage.sync_stats()
        if not stats.unflushed_requests and not stats.leased_outstanding:
            return
        await asyncio.sleep(POLL)
