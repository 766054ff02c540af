"""The figures of a study that test a claim of the baseline.

Each claim has one function, which returns the figures in words, whether the claim holds, and why.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from ratesim.formatting import Format, format_amount, format_bytes, format_percent, format_range, format_seconds
from ratesim.storage import StorageURL

if TYPE_CHECKING:
    import pandas as pd

    from ratesim.simulation.cost_model.profile import Profile

__all__ = ["MEASURES", "Figures", "Finding", "Holds"]

Holds = Literal["yes", "no", "not measured"]
Finding = tuple[str, Holds, str]  # what was measured, whether the claim holds, why

# Seconds that a decision takes according to the baseline: at least, and less than.
LATENCIES: dict[str, tuple[float, float]] = {"memory": (0.0, 1e-5), "redis": (1e-4, 1e-3), "postgres": (1e-3, 5e-3)}
SERVED = ("redis", "postgres")
TIMED = "measured live on one machine: operations of the storage, one at a time, back to back, of keys in use"
NOTHING: Finding = ("", "not measured", "it was not among the candidates")
NO_REDIS: Finding = ("", "not measured", "redis was not among the candidates")


class Figures:
    """Means over the seeds, by backend and candidate.

    Attributes
    ----------
    rows
        The means of each candidate's columns, by backend and candidate.
    operations
        Medians of the operation times of each backend's live replays, in seconds; those of a disturbed machine are left out.
    unmeasured
        Why a backend has no operation time, where something was tried.
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
        self.operations: dict[str, list[float]] = {}
        self.unmeasured: dict[str, str] = {}
        for row in live.to_dict("records"):
            backend, seconds = backends.get(row["candidate"], ""), float(row.get("operation_p50", math.nan))
            disturbed = row.get("disturbed") and f"the machine was disturbed: {row['disturbed']}"
            if row.get("failure") or disturbed or math.isnan(seconds):
                self.unmeasured[backend] = str(row.get("failure") or disturbed or "no live operation was timed")
            else:
                self.operations.setdefault(backend, []).append(seconds)

    def of(self, backend: str, column: str) -> list[float]:
        """Return one figure for each candidate of the backend that has it."""
        values = [float(row[column]) for row in self.rows.get(backend, {}).values() if column in row]
        return [value for value in values if not math.isnan(value)]

    def while_busy(self, backend: str) -> list[float]:
        """Return for each candidate of the backend the seconds that a request takes of a server that is kept busy."""
        costs, found = self.profile.backends.get(backend), []
        for row in self.rows.get(backend, {}).values():
            if costs is not None and not math.isnan(busy := float(row.get("l2_busy_per_request", math.nan))):
                found.append(costs.while_busy(busy, float(row["l2_operations_per_request"]), float(row["utilization"])))
        return found


# -- what a decision takes --------------------------------------------------------------------------------------------


def _operation(backend: str) -> Callable[[Figures], Finding]:
    least, most = LATENCIES[backend]

    def measure(figures: Figures) -> Finding:
        found, alone = figures.operations.get(backend), figures.profile.backends.get(backend)
        before = "" if alone is None else f"p50 {format_seconds(alone.latency_p50)} one at a time, from the profile"
        if found is None:
            return before, "not measured", figures.unmeasured.get(backend, "it was not replayed live")
        live = min(found)
        said = "; ".join(filter(None, (f"p50 {format_seconds(live)}, {TIMED}", before)))
        fastest, source = live, ""
        if backend == "memory" and alone is not None and alone.latency_p50 < live and live >= most:
            # It waits for nothing, so a machine can only add to what it takes: the smaller of the two figures is its own.
            fastest, source = alone.latency_p50, " by the profile; the process of the live replay was slower than that"
        if fastest >= most:
            return said, "no", f"it is slower: {format_seconds(fastest)} at the median{source}"
        if fastest < least:
            return said, "no", f"it is faster: {format_seconds(fastest)} at the median"
        others = [seconds for name in SERVED for seconds in figures.operations.get(name, ())]
        if backend == "memory" and others and live >= min(others):
            return said, "no", f"a server is as fast, {format_seconds(min(others))} at the median"
        return said, "yes", f"{format_seconds(fastest)} at the median{source}"

    return measure


def _hybrid_operation(figures: Figures) -> Finding:
    if not figures.rows.get("hybrid"):
        return NOTHING
    fast, memory = figures.operations.get("hybrid"), figures.operations.get("memory")
    if fast is None or memory is None:
        backend = "hybrid" if fast is None else "memory"
        return "", "not measured", figures.unmeasured.get(backend, f"{backend} was not measured live")
    best, beside = min(fast), min(memory)
    said = f"p50 {format_seconds(best)}, memory {format_seconds(beside)}, {TIMED}"
    if best < LATENCIES["memory"][1]:
        return said, "yes", "the fastest of them is as fast as memory is said to be; its persistence was not tried"
    if best <= beside:
        return said, "yes", "the fastest of them is as fast as memory was beside it; its persistence was not tried"
    return said, "no", "none of them is as fast as memory is said to be, at the median"


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
    said = f"{_range(asked, format_amount)} operations of a shared store per request"
    return (said, "yes", "there is none to ask") if max(asked) == 0 else (said, "no", "it asks one")


def _takes_memory(backend: str) -> Callable[[Figures], Finding]:
    def measure(figures: Figures) -> Finding:
        sizes = figures.of(backend, "bytes_per_key")
        if not sizes:
            return NOTHING
        return (
            f"{_range(sizes, format_bytes)} per key",
            "yes",
            "each key adds as much, while it is live",
        )

    return measure


def _twice(figures: Figures) -> Finding:
    both, one = figures.of("hybrid", "bytes_per_key"), figures.of("redis", "bytes_per_key")
    if not both or not one:
        return NOTHING if not both else NO_REDIS
    said = f"{_range(both, format_bytes)} per key, redis {format_bytes(max(one))}"
    if max(both) > max(one):
        return said, "yes", "a key is in the store, and on each node that knows it"
    return said, "no", "none of these keeps it twice"


def _more_resources(figures: Figures) -> Finding:
    mine, other = figures.while_busy("postgres"), figures.while_busy("redis")
    if not mine or not other:
        return NOTHING if not mine else NO_REDIS
    said = f"{_range(mine, format_seconds)} of the server per request, redis {_range(other, format_seconds)}"
    return (said, "yes", "of the server's time") if min(mine) > max(other) else (said, "no", "of the server's time")


def _throughput(figures: Figures) -> Finding:
    mine, other = figures.while_busy("postgres"), figures.while_busy("redis")
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


def _range(values: list[float], unit: Format) -> str:
    return format_range(min(values), max(values), unit)


MEASURES: dict[tuple[str, str], Callable[[Figures], Finding]] = {
    ("memory", "operation_p50"): _operation("memory"),
    ("memory", "l2_operations_per_request"): _nothing_travels,
    ("memory", "over_admission"): _alone,
    ("memory", "bytes_per_key"): _takes_memory("memory"),
    ("redis", "over_admission"): _shared,
    ("redis", "false_denial"): _atomic,
    ("redis", "operation_p50"): _operation("redis"),
    ("redis", "bytes_per_key"): _takes_memory("redis"),
    ("postgres", "operation_p50"): _operation("postgres"),
    ("postgres", "l2_busy_per_request"): _more_resources,
    ("postgres", "concurrency"): _throughput,
    ("hybrid", "operation_p50"): _hybrid_operation,
    ("hybrid", "over_admission by policy"): _chosen,
    ("hybrid", "over_admission"): _disagree,
    ("hybrid", "bytes_per_key"): _twice,
}
