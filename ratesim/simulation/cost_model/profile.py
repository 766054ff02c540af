"""A profile: the costs of the backends on a measured machine, with the machine, the versions and the date.

The profile that ships with the package serves until `ratesim calibrate` stores one of this machine.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import pairwise
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import numpy as np
import platformdirs
from numpy.typing import NDArray

from ratesim.atomic_write import atomic_write
from ratesim.documents import DocumentError, parse_json, read_bytes
from ratesim.errors import ConfigurationError
from ratesim.simulation.jit_cache import compiled
from ratesim.simulation.network import interpolation
from ratesim.simulation.network.links import Link

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "QUANTILES",
    "BackendCosts",
    "Check",
    "Coldness",
    "Cost",
    "HybridCosts",
    "MeasuredLink",
    "ModelError",
    "Profile",
    "Stall",
    "between",
    "cluster_costs",
    "factors_at",
    "measured_link",
    "stored_path",
    "with_cluster_client",
    "with_longer_service",
    "with_slower_server",
]

# Where the factors of a cost stand: quantiles, in this order.
QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999)
EVEN = (1.0,) * len(QUANTILES)

# In the name of a server that was measured as a cluster.
PRIMARIES = " primaries"

# The backend of a profile that is a Redis cluster; one without it has the factors below.
CLUSTER = "redis cluster"

# Processor time of the client of a cluster over that of one server: of a batch, of an operation in it, of a decision alone.
# Measured in turns on valkey 9.1.2 (2026-11-29): 122 over 69 us one at a time, 23 over 17 us at 200 at once. Each further
# group of a batch takes 0.35 of the first; it is simulated with as much as the first.
CLUSTER_BATCH, CLUSTER_OPERATION, CLUSTER_ALONE = 2.0, 1.25, 1.75

# Share of the pieces of a measurement; where other work disturbed more of them, the rest says little.
MOST_DISTURBED = 0.5

IDLE = 0.1  # utilization below which most requests find a server idle
# Weight of the last pause, against those before it, in how cold a request finds the caches. After pauses that vary, the
# latency of a lone request follows its last one less than after equal pauses: 261 us after 2 ms between Poisson arrivals of
# 2,000/s, and 306 us at 2 ms each. Measured on valkey 9.1.2 (2026-11-29).
LAST = 0.7

# What a file may hold; a constructor does not check it.
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e6)]
Factor = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
Factors = Annotated[tuple[Factor, ...], msgspec.Meta(min_length=len(QUANTILES), max_length=len(QUANTILES))]
Count = Annotated[int, msgspec.Meta(ge=0)]
Text = Annotated[str, msgspec.Meta(max_length=1000)]


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """The seconds of a batch of n: fixed + n * item, spread by `factors`.

    Quantiles describe the spread, and not a lognormal. The measurements are skewed to the right with a thin left side, and a
    lognormal through their p50 and p95 misses their p99.

    Attributes
    ----------
    fixed, item : float
        Seconds of a batch, and of each operation in it.
    factors : tuple[float, ...]
        The quantiles at QUANTILES as multiples of that, linear between them. The reference is the median or, where a server
        accounts for its processor time, the mean.
    """

    fixed: Seconds = 0.0
    item: Seconds = 0.0
    factors: Factors = EVEN

    def of(self, items: int, uniform: float = 0.5) -> float:
        """Return the seconds of a batch of `items` at a quantile in (0, 1)."""
        return (self.fixed + items * self.item) * _factor(self.factors, uniform)


class Coldness(msgspec.Struct, frozen=True, kw_only=True):
    """What a lone request costs more after its node, and its server, had nothing to do for a while: caches are cold.

    Attributes
    ----------
    idle : tuple[float, ...]
        Seconds that the node's event loop, or the server, was idle since the question before, ascending from 0.
    wake : tuple[float, ...]
        Processor seconds until the loop runs a handler. They are not in a latency: the process would have slept without a
        limiter, too.
    ask, answer, after : tuple[float, ...]
        More processor seconds of the client before the question is written, from the answer's arrival until the caller has
        it, and behind that.
    served : tuple[float, ...]
        More seconds from the written question to the arrival of its answer.
    """

    idle: Annotated[tuple[Seconds, ...], msgspec.Meta(min_length=1, max_length=100)]
    wake: tuple[Seconds, ...]
    ask: tuple[Seconds, ...]
    answer: tuple[Seconds, ...]
    after: tuple[Seconds, ...]
    served: tuple[Seconds, ...]

    def __post_init__(self) -> None:
        """Raise ValueError unless there is one entry of each for each of `idle`, which ascends from 0."""
        if any(len(each) != len(self.idle) for each in (self.wake, self.ask, self.answer, self.after, self.served)):
            raise ValueError("cold: wake, ask, answer, after and served have as many entries as idle")
        if self.idle[0] != 0.0 or any(b <= a for a, b in pairwise(self.idle)):
            raise ValueError("cold.idle: ascends from 0")

    def pause(self, idle: float, before: float) -> float:
        """Return the idle seconds that count for a request: what the one before has warmed is not all that it needs.

        Parameters
        ----------
        idle
            Seconds without work before it.
        before
            The idle seconds that counted for the request before it.
        """
        return LAST * min(idle, self.idle[-1]) + (1.0 - LAST) * before

    def share(self, idle: float) -> tuple[int, float]:
        """Return between which entries so many idle seconds lie: the first of two, and the share of the way behind it."""
        i = bisect_right(self.idle, idle) - 1
        if i + 1 >= len(self.idle):
            return len(self.idle) - 1, 0.0
        return i, (idle - self.idle[i]) / (self.idle[i + 1] - self.idle[i])

    def client(self, idle: float) -> tuple[float, float, float]:
        """Return `ask`, `answer` and `after` after so many idle seconds."""
        place = self.share(idle)
        return between(self.ask, place), between(self.answer, place), between(self.after, place)

    def waking(self, idle: float) -> float:
        """Return `wake` after so many idle seconds."""
        return between(self.wake, self.share(idle))

    def serving(self, idle: float) -> float:
        """Return `served` after so many idle seconds."""
        return between(self.served, self.share(idle))


class ModelError(msgspec.Struct, frozen=True, kw_only=True):
    """How far simulated figures were from measured ones, up to a utilization.

    A measured figure was within simulated * (1 - error) to simulated * (1 + error): the error is the larger one of
    simulated / measured - 1 and measured / simulated - 1.

    Attributes
    ----------
    utilization : float
        Share of the time for which the busiest part is busy, up to which it holds.
    p50, p95, p99, throughput : float
        Relative errors of the quantiles of the latency and of the throughput.
    rounds : int
        Rounds in which it was measured.
    """

    utilization: Annotated[float, msgspec.Meta(gt=0, le=1)]
    p50: Factor
    p95: Factor
    p99: Factor
    throughput: Factor
    rounds: Annotated[int, msgspec.Meta(ge=1)] = 1


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """A Poisson load that no cost was fitted to, live and simulated with the costs.

    Attributes
    ----------
    load : float
        Share of the saturation throughput.
    rate : float
        Requests/s.
    live, simulated : tuple[float, float]
        p50 and p95 of the latency, in seconds.
    """

    load: Annotated[float, msgspec.Meta(gt=0, le=1)]
    rate: Factor
    live: tuple[Seconds, Seconds]
    simulated: tuple[Seconds, Seconds]

    @property
    def misses(self) -> tuple[float, float]:
        """The relative differences of p50 and p95: simulated / live - 1."""
        return self.simulated[0] / self.live[0] - 1.0, self.simulated[1] / self.live[1] - 1.0


class Stall(msgspec.Struct, frozen=True, kw_only=True):
    """A slow phase of a server that comes again and again, such as a checkpoint.

    Attributes
    ----------
    every, lasts : float
        Seconds from one beginning to the next, and of a phase.
    commit, service : float
        Factors of the flush of the log and of a service that begin in it.
    """

    every: Annotated[float, msgspec.Meta(gt=0, le=1e6)]
    lasts: Seconds
    commit: Factor = 1.0
    service: Factor = 1.0


@dataclass(frozen=True)
class MeasuredLink(Link):
    """A link whose delays were measured.

    Attributes
    ----------
    factors : tuple[float, ...]
        The quantiles of the delay at QUANTILES as multiples of the median.
    """

    factors: tuple[float, ...] = EVEN

    def delay(self, uniform: float) -> float:
        """Return the delay at a quantile in (0, 1), in seconds."""
        return self.median * _factor(self.factors, uniform)

    def delays(self, uniform: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the same for many quantiles."""
        return self.median * factors_at(uniform, self.factors)


def factors_at(uniform: NDArray[np.float64], factors: tuple[float, ...]) -> NDArray[np.float64]:
    """Return the factors of a cost at many quantiles."""
    quantiles, points, values = np.array(QUANTILES), np.array(factors), np.empty(len(uniform))
    slopes = np.append(np.diff(points) / np.diff(quantiles), 0.0)
    compiled(interpolation).interpolate(uniform, quantiles, points, slopes, values)
    return values


def measured_link(round_trip: float, factors: tuple[float, ...], loss: float = 0.0) -> MeasuredLink:
    """Make the link of a measured round trip, in seconds."""
    return MeasuredLink(0.5 * round_trip, 0.0, "measured", loss, factors)


class BackendCosts(msgspec.Struct, frozen=True, kw_only=True):
    """The costs of a backend in seconds; stations in the order in which a batch meets them.

    Attributes
    ----------
    client : Cost or None
        Processor time in the client's process of a batch of n while it is busy, the tasks of its n requests included. None
        in a profile from before it was measured, see `cpu`.
    arrival : float
        Processor time with which a busy client takes a request in, before its handler begins: the timer and the task of the
        load generator, in the place of a server that reads a request.
    turn : float
        Processor time of a turn of the client's event loop, beside what it serves.
    split : tuple[float, float, float]
        Shares of `client`: before the question is written, from the arrival of the answer until the caller has it, and
        behind that.
    cold : Coldness or None
        What a lone request costs more; None where it was not measured.
    client_pace, server_pace : tuple[float, ...]
        How much longer than in the mean work takes at a moment, as quantiles at QUANTILES.
    errors : tuple[ModelError, ...]
        By utilization, ascending, as `ratesim validate` found them; empty where it was not run.
    round_trip, round_trip_factors : float, tuple[float, ...]
        A request without work there and back, less the server's share, and its quantiles.
    fixed, item, factors
        An `acquire` of a batch of n keeps one of the server's `concurrency` places busy for fixed + n * item, spread like a
        `Cost`.
    alone : float or None
        Seconds of an `acquire` that travels alone, where a server has a shorter way for it; None for fixed + item.
    operations : dict[str, Cost]
        The same for other operations by name (get, apply); a missing one costs as much as an acquire.
    speedup : dict[int, float]
        Throughput of so many connections over that of one, where it was measured; `concurrency` is its maximum, rounded.
    commit : Cost or None
        The write-ahead log's flush, one at a time for the whole server. A commit that comes during a flush shares the next
        one (group commit). None where an answer waits for no disk.
    unlogged : float
        A service with tables that are in no log over one with a log (PostgreSQL).
    locks : bool
        Whether a decision holds the row of its key until its commit, so that batches with a key in common take turns.
    standby : dict[str, Cost]
        What a commit waits for at a synchronous standby besides the way there and back, by `synchronous_commit`:
        remote_write, on, remote_apply.
    stalls : dict[str, Stall] or None
        Slow phases by cause (checkpoint, autovacuum), of PostgreSQL. With None, as in a profile that has not measured them,
        they are those of `postgres_factors.STALLS`; an empty one has none.
    client_cpu : float
        Processor time of one decision, one at a time, so with falling asleep and waking up.
    latency_p50, latency_p99 : float
        Latency of one decision, one at a time, for comparison; the simulation does not use them.
    checks : tuple[Check, ...]
        Loads that no cost was fitted to, against which the calibration has held them.
    pieces, disturbed : int
        Pieces of the measurement, and those of them that other work on the machine disturbed. They were dropped, where not
        more than half of all were disturbed; see `is_forced`.
    bytes_per_key : dict[str, float]
        Measured bytes of a key by algorithm.
    server, machine, measured : str
        The server, the machine and the date; "" for the profile's own.
    """

    client_cpu: Seconds
    fixed: Seconds = 0.0
    item: Seconds = 0.0
    factors: Factors = EVEN
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 1
    bytes_per_key: dict[Text, Annotated[float, msgspec.Meta(ge=0, le=1e12)]] = {}
    latency_p50: Seconds = 0.0
    latency_p99: Seconds = 0.0
    server: Text = ""
    client: Cost | None = None
    arrival: Seconds = 0.0
    turn: Seconds = 0.0
    split: tuple[Factor, Factor, Factor] = (0.45, 0.2, 0.35)
    cold: Coldness | None = None
    client_pace: Factors = EVEN
    server_pace: Factors = EVEN
    errors: tuple[ModelError, ...] = ()
    round_trip: Seconds = 0.0
    round_trip_factors: Factors = EVEN
    alone: Seconds | None = None
    operations: dict[Text, Cost] = {}
    speedup: dict[int, Factor] = {}
    commit: Cost | None = None
    unlogged: Factor = 1.0
    locks: bool = False
    standby: dict[Text, Cost] = {}
    stalls: dict[Text, Stall] | None = None
    checks: tuple[Check, ...] = ()
    pieces: Count = 0
    disturbed: Count = 0
    machine: Text = ""
    measured: Text = ""

    @property
    def residual(self) -> float:
        """The largest relative difference |simulated / live - 1| of p50 and p95 among `checks`; 0 without any."""
        return max((abs(miss) for check in self.checks for miss in check.misses), default=0.0)

    @property
    def unexplained(self) -> float:
        """The share of `latency_p50` that its processor time, way, service and commit do not explain."""
        parts = self.client_cpu + self.round_trip + self.seconds(1) + (self.commit.of(1) if self.commit else 0.0)
        return 1.0 - parts / self.latency_p50

    @property
    def is_forced(self) -> bool:
        """Whether it was measured although other work disturbed more than MOST_DISTURBED of the pieces."""
        return self.disturbed > MOST_DISTURBED * self.pieces

    def service(self, items: int, uniform: float, operation: str = "acquire") -> float:
        """Return the service time of a batch at a quantile in (0, 1)."""
        other = self.operations.get(operation)
        if other is not None:
            return other.of(items, uniform)
        return self.seconds(items) * _factor(self.factors, uniform)

    def seconds(self, items: int) -> float:
        """Return the service time of a batch of `acquire` at the factor 1."""
        return self.alone if items == 1 and self.alone is not None else self.fixed + items * self.item

    @property
    def warm(self) -> float:
        """The median time that a lone `acquire` takes of a server that is never idle, its commit included."""
        return self.service(1, 0.5) + (self.commit.of(1) if self.commit else 0.0)

    def while_busy(self, measured: float, operations: float, utilization: float) -> float:
        """Return the time that a request takes of a server that is kept busy.

        Parameters
        ----------
        measured
            What it took in a run.
        operations
            How many it makes there.
        utilization
            Of the server in that run. Where it was idle nearly all the time, its caches were cold.
        """
        return min(measured, operations * self.warm) if utilization < IDLE else measured

    def cpu(self, items: int) -> float:
        """Return the processor time in the client's process of a batch, its requests included, while it is busy."""
        return items * self.client_cpu if self.client is None else self.client.of(items)

    def steps(self, items: int, idle: float) -> tuple[float, float, float]:
        """Return the client's processor seconds of a batch before the question, after the answer, and behind that.

        Parameters
        ----------
        items
            Operations in it.
        idle
            Seconds that the client was idle since the question before.
        """
        seconds, (ask, answer, after) = self.cpu(items), self.split
        if idle <= 0.0 or self.cold is None:
            return seconds * ask, seconds * answer, seconds * after
        more = self.cold.client(idle)
        return seconds * ask + more[0], seconds * answer + more[1], seconds * after + more[2]


class HybridCosts(msgspec.Struct, frozen=True, kw_only=True):
    """The processor time of a node of a hybrid, beside that of its store's client.

    Attributes
    ----------
    decide : float
        Seconds of a decision in the node's memory.
    ask : float
        More seconds of a decision that asks the store, for a view or for a lease.
    tell : float
        Seconds of a key in a flush.
    cold : Coldness
        What they cost more after a pause: `ask` of it is more for `decide`, `answer` for `ask`.
    """

    decide: Seconds
    ask: Seconds
    tell: Seconds
    cold: Coldness

    def beside(self, asked: int, told: int, idle: float) -> float:
        """Return the seconds beside the client's of a batch: decisions that ask, keys of a flush, after idle seconds."""
        return asked * self.ask + told * self.tell + (self.cold.client(idle)[1] if asked else 0.0)


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """The backends of one machine.

    Attributes
    ----------
    machine, measured : str
        The machine, and the date.
    versions : dict[str, str]
        Versions of the software.
    backends : dict[str, BackendCosts]
        Costs by backend.
    hybrids : dict[str, HybridCosts]
        Costs of the nodes of hybrids by consistency; those of memory hold for one that is missing.
    source : str
        "shipped", or the path that it was read from.
    round_trip : float or None
        Seconds to the user's own server and back, stated (`--rtt`) or measured (`--url`); None where neither was given.
    round_trip_factors : tuple[float, ...]
        Its quantiles.
    """

    machine: Text
    measured: Text
    versions: dict[Text, Text]
    backends: dict[Text, BackendCosts]
    hybrids: dict[Text, HybridCosts] = {}
    source: str = "shipped"
    round_trip: Seconds | None = None
    round_trip_factors: Factors = EVEN

    @classmethod
    def load(cls, path: Path | None = None) -> Profile:
        """Read the profile at `path`; without a path that of `ratesim calibrate`, or else the shipped one.

        Raises ConfigurationError for a file that is no profile.
        """
        if path is None:
            path = stored_path()
            if not path.exists():
                return cls.shipped()
        try:
            return cls._decode(read_bytes(path), str(path))
        except DocumentError as error:
            raise ConfigurationError(f"profile {path}: {error}; run `ratesim calibrate` to make a new one") from error

    @classmethod
    def shipped(cls) -> Profile:
        """Read the profile that ships with ratesim."""
        file = resources.files("ratesim.simulation.cost_model") / "profiles" / "shipped.json"
        return cls._decode(file.read_bytes(), "shipped")

    @classmethod
    def _decode(cls, data: bytes, source: str) -> Profile:
        profile: Profile = parse_json(data, cls)
        missing = [name for name in ("memory", "redis", "postgres") if name not in profile.backends]
        if missing:
            raise DocumentError(f"lacks backends.{missing[0]}")
        return msgspec.structs.replace(profile, source=source)

    def save(self, path: Path) -> None:
        """Write the profile, whole or not at all."""
        text = msgspec.json.format(msgspec.json.encode(msgspec.structs.replace(self, source="shipped")), indent=2)
        with atomic_write(path) as partial:
            partial.write_bytes(text + b"\n")

    def to_frame(self) -> pd.DataFrame:
        """Return one row for each backend, times in seconds.

        Returns
        -------
        pandas.DataFrame
            backend, server; client_cpu (processor time of a lone decision in its client), round_trip, service (of one
            `acquire`), commit (the flush behind it, nan where an answer waits for none), latency_p50 and latency_p99 (as
            measured, one at a time), concurrency (requests served at once).
        """
        import pandas as pd

        rows = [
            {
                "backend": name,
                "server": each.server,
                "client_cpu": each.client_cpu,
                "round_trip": each.round_trip,
                "service": each.seconds(1),
                "commit": nan if each.commit is None else each.commit.of(1),
                "latency_p50": each.latency_p50,
                "latency_p99": each.latency_p99,
                "concurrency": each.concurrency,
            }
            for name, each in self.backends.items()
        ]
        return pd.DataFrame(rows)

    def _repr_html_(self) -> str:
        from ratesim.formatting import format_metric
        from ratesim.views.html import card_html

        shown = ("backend", "server", "latency_p50", "latency_p99")
        frame = self.to_frame()
        rows = [
            [format_metric(name, value) for name, value in zip(shown, row, strict=True)]
            for row in frame[[*shown]].to_numpy()
        ]
        return card_html("Profile", head=[name.replace("_", " ") for name in shown], rows=rows, note=self.describe())

    def __repr__(self) -> str:
        return f"Profile({self.machine}, {self.measured}: {', '.join(self.backends)})"

    def describe(self) -> str:
        """Describe in one sentence where the numbers come from."""
        origin = "the profile shipped with ratesim" if self.source == "shipped" else f"the profile {Path(self.source).name}"
        elsewhere = [f"{name} on {each.machine} on {each.measured}" for name, each in self.backends.items() if each.machine]
        rest = f" ({', '.join(elsewhere)})" if elsewhere else ""
        forced = [name for name, each in self.backends.items() if each.is_forced]
        noisy = f" The machine was busy with other work while {', '.join(forced)} was measured." if forced else ""
        return f"Service times are from {origin}, measured on {self.machine} on {self.measured}{rest}.{noisy}"


def between(values: Sequence[float], place: tuple[int, float]) -> float:
    """Return the value at a place on the straight lines between these, see `Coldness.share`."""
    i, share = place
    return values[i] + share * (values[i + 1] - values[i]) if share else values[i]


def on_cores(costs: BackendCosts, cores: int) -> BackendCosts:
    """Return the costs of a server that has so many cores, and not all of the machine's."""
    speedup = {many: min(speed, float(cores)) for many, speed in costs.speedup.items()}
    concurrency = max(1, round(max(speedup.values(), default=1.0)))
    return msgspec.structs.replace(costs, speedup=speedup, concurrency=min(costs.concurrency, concurrency))


def at_pace(costs: BackendCosts, client: float, server: float) -> BackendCosts:
    """Return the costs of a machine on which the client's work, and the server's, takes so many times as long."""
    if costs.client is None:
        raise ValueError("costs of a client that was not measured have no pace")
    cold = costs.cold
    if cold is not None:
        columns = {name: tuple(client * each for each in getattr(cold, name)) for name in ("wake", "ask", "answer", "after")}
        cold = msgspec.structs.replace(cold, **columns, served=tuple(server * each for each in cold.served))
    return msgspec.structs.replace(
        costs,
        client=msgspec.structs.replace(costs.client, fixed=client * costs.client.fixed, item=client * costs.client.item),
        arrival=client * costs.arrival,
        turn=client * costs.turn,
        cold=cold,
        fixed=server * costs.fixed,
        item=server * costs.item,
        alone=None if costs.alone is None else server * costs.alone,
    )


def with_slower_server(profile: Profile, backend: str, factor: float) -> Profile:
    """Return the profile with a server of that backend that takes `factor` times as long for all its work.

    The services of every operation and, where answers wait for it, the commit are slower. The clients' own costs stay as
    they are.
    """
    costs = with_longer_service(profile.backends[backend], factor)
    commit = costs.commit and msgspec.structs.replace(
        costs.commit, fixed=factor * costs.commit.fixed, item=factor * costs.commit.item
    )
    cold = costs.cold and msgspec.structs.replace(costs.cold, served=tuple(factor * each for each in costs.cold.served))
    changed = msgspec.structs.replace(costs, commit=commit, cold=cold)
    slower = msgspec.structs.replace(profile, backends={**profile.backends, backend: changed})
    return with_slower_server(slower, CLUSTER, factor) if backend == "redis" and CLUSTER in profile.backends else slower


def with_longer_service(costs: BackendCosts, factor: float) -> BackendCosts:
    """Return costs with services of every operation that take `factor` times as long."""

    def longer(cost: Cost) -> Cost:
        return msgspec.structs.replace(cost, fixed=factor * cost.fixed, item=factor * cost.item)

    return msgspec.structs.replace(
        costs,
        fixed=factor * costs.fixed,
        item=factor * costs.item,
        alone=None if costs.alone is None else factor * costs.alone,
        operations={name: longer(cost) for name, cost in costs.operations.items()},
    )


def cluster_costs(profile: Profile) -> BackendCosts:
    """Return the costs of a Redis cluster: as measured, or else those of one server with the client of a cluster."""
    return profile.backends.get(CLUSTER) or with_cluster_client(profile.backends["redis"])


def with_cluster_client(costs: BackendCosts) -> BackendCosts:
    """Return costs with the processor time that a client of a cluster takes, unless they were measured on one."""
    if PRIMARIES in costs.server:
        return costs
    client = costs.client and msgspec.structs.replace(
        costs.client, fixed=CLUSTER_BATCH * costs.client.fixed, item=CLUSTER_OPERATION * costs.client.item
    )
    return msgspec.structs.replace(costs, client_cpu=CLUSTER_ALONE * costs.client_cpu, client=client)


def stored_path() -> Path:
    """Return the path at which `ratesim calibrate` stores its profile; RATESIM_PROFILE names another."""
    return Path(os.environ.get("RATESIM_PROFILE") or platformdirs.user_data_path("ratesim") / "profile.json")


def _factor(factors: tuple[float, ...], uniform: float) -> float:
    i = min(bisect_right(QUANTILES, uniform), len(QUANTILES) - 1) - 1
    left, right = QUANTILES[i], QUANTILES[i + 1]
    share = min((uniform - left) / (right - left), 1.0)
    return factors[i] + (factors[i + 1] - factors[i]) * share
