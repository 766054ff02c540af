"""The figures of a study that test a claim of the baseline.

Each claim has one function, which returns the figures in words, whether the claim holds, and why.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from ratesim.formatting import format_percent, format_range, format_seconds
from ratesim.storage import StorageURL

if TYPE_CHECKING:
    import pandas as pd

    from ratesim.simulation.cost_model.profile import Profile

__all__ = ["MEASURES", "Figures", "Finding", "Holds"]

Holds = Literal["yes", "no", "not measured"]
Finding = tuple[str, Holds, str]  # what was measured, whether the claim holds, why

# Seconds that a decision takes according to the baseline: at least, and less than.
LATENCIES: dict[str, tuple[float, float]] = {"memory": (0.0, 1e-5), "redis": (1e-4, 1e-3), "postgres": (1e-3, 5e-3)}
NOTHING: Finding = ("", "not measured", "it was not among the candidates")
NO_REDIS: Finding = ("", "not measured", "redis was not among the candidates")


class Figures:
    """Means over the seeds, by backend and candidate.

    Attributes
    ----------
    rows
        The means of each candidate's columns, by backend and candidate.
    live
        The first live row of each backend.
    profile
        The measured costs.
    """

    def __init__(self, results: pd.DataFrame, live: pd.DataFrame, profile: Profile) -> None:
        self.profile = profile
        self.rows: dict[str, dict[str, dict[str, Any]]] = {}
        for (backend, candidate), rows in results.groupby(["backend", "candidate"], sort=False):
            figures = {str(name): mean for name, mean in rows.mean(numeric_only=True).items()}
            first = rows.iloc[0]
            figures |= {"storage": str(first["storage"]), "routing": str(first["routing"])}
            self.rows.setdefault(str(backend), {})[str(candidate)] = figures
        backends = {candidate: backend for backend, found in self.rows.items() for candidate in found}
        self.live: dict[str, dict[str, Any]] = {}
        self.live_failures: dict[str, str] = {}
        for row in live.to_dict("records"):
            if row.get("failure"):
                self.live_failures[backends.get(row["candidate"], "")] = str(row["failure"])
                continue
            self.live.setdefault(backends.get(row["candidate"], ""), {str(name): value for name, value in row.items()})

    def of(self, backend: str, column: str) -> list[float]:
        """Return one figure for each candidate of the backend that has it."""
        values = [float(row[column]) for row in self.rows.get(backend, {}).values() if column in row]
        return [value for value in values if not math.isnan(value)]


# -- what a decision takes --------------------------------------------------------------------------------------------


def _latency(backend: str) -> Callable[[Figures], Finding]:
    least, most = LATENCIES[backend]

    def measure(figures: Figures) -> Finding:
        found, alone = figures.live.get(backend), figures.profile.backends.get(backend)
        said = [] if alone is None else [f"p50 {format_seconds(alone.latency_p50)} one at a time, from the profile"]
        if found is None:
            return "; ".join(said), "not measured", figures.live_failures.get(backend, "it was not replayed live")
        p50 = float(found["latency_p50"])
        if math.isnan(p50):
            return "; ".join(said), "not measured", "no live request was answered"
        said.insert(0, f"p50 {format_seconds(p50)}, p99 {format_seconds(float(found['latency_p99']))} live, on one machine")
        within = least <= p50 < most
        why = "at the median" if within else f"it is {'faster' if p50 < least else 'slower'}, at the median"
        if within and backend == "memory":
            others = [each["latency_p50"] for name, each in figures.live.items() if name not in ("memory", "hybrid")]
            if any(p50 >= other for other in others):
                return "; ".join(said), "no", "another is as fast, at the median"
        return "; ".join(said), "yes" if within else "no", why

    return measure


def _hybrid_latency(figures: Figures) -> Finding:
    fast, memory, redis = (figures.of(name, "latency_p50") for name in ("hybrid", "memory", "redis"))
    if not fast or not memory or not redis:
        return NOTHING if not fast else ("", "not measured", "memory or redis was no candidate")
    best = min(fast)
    parts = (("p50", fast), ("memory", memory), ("redis", redis))
    said = ", ".join(f"{name} {_range(values, format_seconds)}" for name, values in parts) + ", simulated"
    if best < LATENCIES["memory"][1]:
        return said, "yes", "the fastest of them is as fast as memory is said to be; its persistence was not tried"
    if best < min(redis):
        return said, "no", "the fastest of them lies between memory and redis, at the median"
    return said, "no", "none of them is faster than redis, at the median"


# -- what is admitted too much ----------------------------------------------------------------------------------------


def _alone(figures: Figures) -> Finding:
    """Where each request may meet any node; with routing by key every node has its keys for itself."""
    rows = figures.rows.get("memory", {}).values()
    over = [row["over_admission"] for row in rows if row["routing"] not in ("sticky", "key_hash")]
    if not over:
        return NOTHING
    said = f"over-admission {_range(over, format_percent)}, where routing does not go by key"
    if max(over) > 0:
        return said, "yes", "nodes admit what others have admitted already"
    return said, "not measured", "with one node, or a limit that does not bind, there is nothing to share"


def _shared(figures: Figures) -> Finding:
    over = figures.of("redis", "over_admission")
    if not over:
        return NOTHING
    said = f"over-admission {_range(over, format_percent)}"
    if max(over) == 0:
        return said, "yes", "no node admits what another has admitted already"
    return said, "no", "more is admitted than by one exact limiter"


def _atomic(figures: Figures) -> Finding:
    over, denied = figures.of("redis", "over_admission"), figures.of("redis", "false_denial")
    if not over:
        return NOTHING
    said = f"over-admission {_range(over, format_percent)}, false denials {_range(denied, format_percent)}"
    if max(over) == max(denied) == 0:
        return said, "yes", "it decides as one exact limiter would, whatever arrives at once"
    return said, "no", "it decides otherwise than one exact limiter"


def _chosen(figures: Figures) -> Finding:
    over = figures.of("hybrid", "over_admission")
    if len(over) < 2:
        return NOTHING if not over else ("", "not measured", "there was but one hybrid")
    said = f"over-admission {_range(over, format_percent)} among {len(over)} hybrids"
    if max(over) > min(over):
        return said, "yes", "what is admitted too much follows from the policy"
    return said, "not measured", "this traffic does not tell them apart"


def _disagree(figures: Figures) -> Finding:
    strict = [name for name, row in figures.rows.get("hybrid", {}).items() if _consistency(row) in ("strong", "lease")]
    rows = {name: row["over_admission"] for name, row in figures.rows.get("hybrid", {}).items() if name not in strict}
    if not rows:
        return NOTHING
    said = f"over-admission {_range(list(rows.values()), format_percent)}, of those that decide on their own view"
    if max(rows.values()) > 0:
        return said, "yes", "nodes decide on views that are behind"
    return said, "not measured", "with one node, or a limit that does not bind, views do not matter"


def _consistency(row: dict[str, Any]) -> str:
    hybrid = StorageURL.parse(row["storage"]).hybrid
    return "" if hybrid is None else hybrid.consistency


# -- what it takes ----------------------------------------------------------------------------------------------------


def _nothing_travels(figures: Figures) -> Finding:
    asked = figures.of("memory", "l2_operations_per_request")
    if not asked:
        return NOTHING
    said = f"{_range(asked, lambda value: f'{value:.3g}')} operations of a shared store per request"
    return (said, "yes", "there is none to ask") if max(asked) == 0 else (said, "no", "it asks one")


def _takes_memory(backend: str) -> Callable[[Figures], Finding]:
    def measure(figures: Figures) -> Finding:
        sizes = figures.of(backend, "bytes_per_key")
        if not sizes:
            return NOTHING
        return (
            f"{_range(sizes, lambda value: f'{value:,.0f} bytes')} per key",
            "yes",
            "each key adds as much, while it is live",
        )

    return measure


def _twice(figures: Figures) -> Finding:
    both, one = figures.of("hybrid", "bytes_per_key"), figures.of("redis", "bytes_per_key")
    if not both or not one:
        return NOTHING if not both else NO_REDIS
    said = f"{_range(both, _bytes)} per key, redis {max(one):,.0f} bytes"
    if max(both) > max(one):
        return said, "yes", "a key is in the store, and on each node that knows it"
    return said, "no", "none of these keeps it twice"


def _more_resources(figures: Figures) -> Finding:
    mine, other = figures.of("postgres", "l2_busy_per_request"), figures.of("redis", "l2_busy_per_request")
    if not mine or not other:
        return NOTHING if not mine else NO_REDIS
    said = f"{_range(mine, format_seconds)} of the server per request, redis {_range(other, format_seconds)}"
    return (said, "yes", "of the server's time") if min(mine) > max(other) else (said, "no", "of the server's time")


def _throughput(figures: Figures) -> Finding:
    mine, other = figures.of("postgres", "l2_busy_per_request"), figures.of("redis", "l2_busy_per_request")
    backends = figures.profile.backends
    if not mine or not min(mine) > 0 or "postgres" not in backends:
        return NOTHING
    places = backends["postgres"].concurrency
    most = places / max(mine)
    said = f"about {most:,.0f} requests/s in batches as here: {places} at a time, {format_seconds(max(mine))} each"
    if not other or not min(other) > 0 or "redis" not in backends:
        return said, "not measured", "there was no redis to compare it with"
    theirs = backends["redis"].concurrency / max(other)
    said += f"; redis {theirs:,.0f}"
    return (said, "yes", "it saturates first") if most < theirs else (said, "no", "redis saturates first")


def _bytes(value: float) -> str:
    return f"{value:,.0f} bytes"


def _range(values: list[float], unit: Callable[[float], str]) -> str:
    low, high = min(values), max(values)
    return unit(low) if low == high else format_range(low, high, unit)


MEASURES: dict[tuple[str, str], Callable[[Figures], Finding]] = {
    ("memory", "latency_p50"): _latency("memory"),
    ("memory", "l2_operations_per_request"): _nothing_travels,
    ("memory", "over_admission"): _alone,
    ("memory", "bytes_per_key"): _takes_memory("memory"),
    ("redis", "over_admission"): _shared,
    ("redis", "false_denial"): _atomic,
    ("redis", "latency_p50"): _latency("redis"),
    ("redis", "bytes_per_key"): _takes_memory("redis"),
    ("postgres", "latency_p50"): _latency("postgres"),
    ("postgres", "l2_busy_per_request"): _more_resources,
    ("postgres", "concurrency"): _throughput,
    ("hybrid", "latency_p50"): _hybrid_latency,
    ("hybrid", "over_admission by policy"): _chosen,
    ("hybrid", "over_admission"): _disagree,
    ("hybrid", "bytes_per_key"): _twice,
}
