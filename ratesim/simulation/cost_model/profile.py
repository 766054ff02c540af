"""A profile: what the backends cost on a machine that was measured. It names the machine, the versions and the date.

The one that ships with the package serves until `ratesim calibrate` stores one of this machine.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import msgspec
import numpy as np
import platformdirs
from numpy.typing import NDArray

from ratesim.errors import ConfigurationError
from ratesim.simulation.network.links import Link

__all__ = ["QUANTILES", "BackendCosts", "Cost", "MeasuredLink", "Profile", "measured", "slower", "stored_path"]

# Where the factors of a cost stand: quantiles, in this order.
QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999)
EVEN = (1.0,) * len(QUANTILES)


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds that a batch of n takes: fixed + n * item, spread by `factors`.

    factors: the quantiles at QUANTILES as multiples of that, which is the median or, where a server accounts for its
    processor time, the mean; with straight lines between them. Quantiles and not a
    lognormal: what was measured is skewed to the right with a thin left side, and a lognormal through its p50 and p95
    misses its p99.
    """

    fixed: float = 0.0
    item: float = 0.0
    factors: tuple[float, ...] = EVEN

    def of(self, items: int, uniform: float = 0.5) -> float:
        """Seconds for a batch of `items` at a quantile in (0, 1)."""
        return (self.fixed + items * self.item) * _factor(self.factors, uniform)


@dataclass(frozen=True)
class MeasuredLink(Link):
    """A link whose delays were measured. factors: their quantiles at QUANTILES as multiples of the median."""

    factors: tuple[float, ...] = EVEN

    def delay(self, uniform: float) -> float:
        return self.median * _factor(self.factors, uniform)

    def delays(self, uniform: NDArray[np.float64]) -> NDArray[np.float64]:
        return self.median * np.interp(uniform, QUANTILES, self.factors)


def measured(round_trip: float, factors: tuple[float, ...], loss: float = 0.0) -> MeasuredLink:
    """The link of a round trip that was measured, in seconds."""
    return MeasuredLink(0.5 * round_trip, 0.0, "measured", loss, factors)


class BackendCosts(msgspec.Struct, frozen=True, kw_only=True):
    """What a backend costs, in seconds; stations in the order in which a batch meets them.

    client: processor time in the client's process of a batch of n while it is busy, the tasks of its n requests included.
        None in a profile from before it was measured: see `cpu`.
    round_trip, round_trip_factors: a request without work there and back, less the server's share; its quantiles.
    fixed, item, factors: an `acquire` of a batch of n keeps one of the server's `concurrency` places busy for
        fixed + n * item, spread like a `Cost`.
    operations: the same of other operations by name (get, apply); what is missing costs what an acquire costs.
    speedup: {connections: throughput over that of one}, where it was measured; `concurrency` is its maximum, rounded.
    commit: the write-ahead log's flush, one at a time for the whole server: who comes during a flush shares the next one
        (group commit). None where an answer waits for no disk.
    locks: whether a decision holds the row of its key until its commit, so that batches with a key in common take turns.
    wake: what a request takes longer that finds client and server asleep (a paced one less one back to back, medians).

    client_cpu: processor time of one decision, one at a time, so with falling asleep and waking up.
    latency_p50, latency_p99: of one decision, one at a time, for comparison; the simulation does not use them.
    residual: latency_p50 less client_cpu, round_trip, the service and the commit of one: what the parts leave unexplained.
    bytes_per_key: by algorithm, measured. server, machine, measured: what and where; "" for the profile's own.
    """

    client_cpu: float
    fixed: float = 0.0
    item: float = 0.0
    factors: tuple[float, ...] = EVEN
    concurrency: int = 1
    bytes_per_key: dict[str, float] = {}
    latency_p50: float = 0.0
    latency_p99: float = 0.0
    server: str = ""
    client: Cost | None = None
    round_trip: float = 0.0
    round_trip_factors: tuple[float, ...] = EVEN
    operations: dict[str, Cost] = {}
    speedup: dict[int, float] = {}
    commit: Cost | None = None
    locks: bool = False
    wake: float = 0.0
    residual: float = 0.0
    machine: str = ""
    measured: str = ""

    def service(self, items: int, uniform: float, operation: str = "acquire") -> float:
        """Service time of a batch at a quantile in (0, 1)."""
        other = self.operations.get(operation)
        if other is not None:
            return other.of(items, uniform)
        return (self.fixed + items * self.item) * _factor(self.factors, uniform)

    def cpu(self, items: int) -> float:
        """Processor time in the client's process of a batch, its requests included."""
        return items * self.client_cpu if self.client is None else self.client.of(items)


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """The backends of one machine. `source`: "shipped", or the path it was read from.

    round_trip: seconds to the user's own server and back, stated (`--rtt`) or measured (`--url`); None where neither was
    given. round_trip_factors: its quantiles.
    """

    machine: str
    measured: str
    versions: dict[str, str]
    backends: dict[str, BackendCosts]
    source: str = "shipped"
    round_trip: float | None = None
    round_trip_factors: tuple[float, ...] = EVEN

    @classmethod
    def load(cls, path: Path | None = None) -> Profile:
        """The profile at `path`; without one that of `ratesim calibrate`, or else the shipped one.

        Raises ConfigurationError for a file that is no profile.
        """
        if path is None:
            path = stored_path()
            if not path.exists():
                shipped = resources.files("ratesim.simulation.cost_model") / "profiles" / "shipped.json"
                return cls._decode(shipped.read_bytes(), "shipped")
        try:
            return cls._decode(path.read_bytes(), str(path))
        except OSError as error:
            raise ConfigurationError(f"profile {path}: cannot be read: {error.strerror}") from error

    @classmethod
    def _decode(cls, data: bytes, source: str) -> Profile:
        try:
            return msgspec.structs.replace(msgspec.json.decode(data, type=cls), source=source)
        except msgspec.MsgspecError as error:
            raise ConfigurationError(f"profile {source}: {error}; run `ratesim calibrate` to make a new one") from error

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        text = msgspec.json.format(msgspec.json.encode(msgspec.structs.replace(self, source="shipped")), indent=2)
        partial = path.with_suffix(".partial")
        partial.write_bytes(text + b"\n")
        partial.replace(path)

    def describe(self) -> str:
        """One sentence on where the numbers come from."""
        origin = "the profile shipped with ratesim" if self.source == "shipped" else f"the profile {Path(self.source).name}"
        elsewhere = [f"{name} on {each.machine} on {each.measured}" for name, each in self.backends.items() if each.machine]
        rest = f" ({', '.join(elsewhere)})" if elsewhere else ""
        return f"Service times are from {origin}, measured on {self.machine} on {self.measured}{rest}."


def slower(profile: Profile, backend: str, factor: float) -> Profile:
    """The profile with a server of that backend that takes `factor` times as long for all that it does: services of every
    operation and, where answers wait for it, the commit. What the clients need for themselves stays as it is."""
    costs = profile.backends[backend]

    def longer(cost: Cost) -> Cost:
        return msgspec.structs.replace(cost, fixed=factor * cost.fixed, item=factor * cost.item)

    changed = msgspec.structs.replace(
        costs,
        fixed=factor * costs.fixed,
        item=factor * costs.item,
        operations={name: longer(cost) for name, cost in costs.operations.items()},
        commit=None if costs.commit is None else longer(costs.commit),
    )
    return msgspec.structs.replace(profile, backends={**profile.backends, backend: changed})


def stored_path() -> Path:
    """Where `ratesim calibrate` puts its profile; RATESIM_PROFILE names another place."""
    return Path(os.environ.get("RATESIM_PROFILE") or platformdirs.user_data_path("ratesim") / "profile.json")


def _factor(factors: tuple[float, ...], uniform: float) -> float:
    i = min(bisect_right(QUANTILES, uniform), len(QUANTILES) - 1) - 1
    left, right = QUANTILES[i], QUANTILES[i + 1]
    share = min((uniform - left) / (right - left), 1.0)
    return factors[i] + (factors[i + 1] - factors[i]) * share
