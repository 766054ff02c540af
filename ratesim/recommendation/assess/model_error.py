"""The model's error of a candidate's latency: how far `ratesim validate` found simulated latencies from measured ones.

It is the entry of the candidate's backend for the utilization of its busiest part. A profile that was not validated borrows
the verdict of the shipped one, which was measured on another machine. Above the last entry nobody has looked, and queues
grow fastest there: a simulated latency is then a lower bound.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean
from typing import Any, Literal

from ratesim.formatting import format_count, format_percent
from ratesim.simulation.cost_model.profile import BackendCosts, ModelError, Profile
from ratesim.storage import StorageURL

__all__ = ["LatencyError", "Source", "entry_at", "latency_error", "verdict_of"]

Source = Literal["profile", "shipped", "unknown"]
"""Whose verdict it is: that of the profile in use, that of the shipped one on behalf of another profile, or nobody's."""


@dataclass(frozen=True)
class LatencyError:
    """The model's error of the latencies of one candidate.

    Attributes
    ----------
    backend
        The backend whose verdict it is; of a hybrid that of its store.
    source
        Whose verdict it is.
    part
        The busiest part, a node or the store.
    utilization
        Share of the time for which that is busy, the mean over the run and over the seeds.
    limit
        The utilization up to which the backend was validated; 0 where it was not.
    rounds, machine
        Rounds in which it was measured, and on which machine.
    p50, p99
        |simulated / measured - 1|; 0 where it is not known.
    p50_is_lower_bound, p99_is_lower_bound
        Whether the latency is a lower bound, since `utilization` is above the last entry.
    is_local
        Whether the p99 has no part in the store, so that it has no queue that matters.
    """

    backend: str
    source: Source
    part: Literal["node", "store"]
    utilization: float
    limit: float
    rounds: int
    machine: str
    p50: float
    p99: float
    p50_is_lower_bound: bool = False
    p99_is_lower_bound: bool = False
    is_local: bool = False

    @property
    def share(self) -> str:
        """The error of the p99 and the utilization, in a few words: "25 % at 40 % utilization"."""
        return f"{self.size}{',' * self.p99_is_lower_bound} {self.busy}"

    @property
    def size(self) -> str:
        """The error of the p99 alone: "25 %"."""
        if self.p99_is_lower_bound:
            return "at least"
        return "not known" if self.source == "unknown" or not self.p99 else format_percent(self.p99)

    @property
    def busy(self) -> str:
        """The utilization at which it is: "at 40 % utilization"."""
        return f"at {format_percent(self.utilization)} utilization"

    @property
    def verdict(self) -> str:
        """Whose verdict it is, and up to where: "redis was validated up to 60 % utilization in 20 rounds on AMD EPYC"."""
        if self.source == "unknown":
            alone = "; it waits in no queue, and its interval is of the seeds alone" if self.backend == "memory" else ""
            return f"{self.backend} was not validated{alone}"
        where = f" on {self.machine}"
        if self.source == "shipped":
            where = f" with the shipped profile, on another machine ({self.machine})"
        upto = "" if self.backend == "memory" else f" up to {format_percent(self.limit)} utilization"
        return f"{self.backend} was validated{upto} in {format_count(self.rounds, 'round')}{where}"

    @property
    def sentence(self) -> str:
        """Error, utilization and verdict in one clause."""
        part = "store" if self.part == "store" else "busiest node"
        return f"{self.share} of its {part}; {self.verdict}"

    @property
    def remedy(self) -> str:
        """The way to a verdict where a latency is a lower bound."""
        more = "nodes" if self.part == "node" else "servers"
        return f"`ratesim validate --store` tells how far it is on your machines, and more {more} take load off it"


def verdict_of(profile: Profile, backend: str, shipped: Profile | None = None) -> tuple[tuple[ModelError, ...], Source]:
    """Return the entries that hold for a backend, and whose they are.

    Parameters
    ----------
    profile
        The profile in use; its own verdict comes first.
    backend
        memory, redis or postgres.
    shipped
        The profile that stands in for one that was not validated; the one that ships unless given.
    """
    if own := profile.backends[backend].errors:
        return own, "profile"
    lender = (shipped or _shipped()).backends.get(backend)
    if lender is None or not lender.errors:
        return (), "unknown"
    return lender.errors, "shipped"


def entry_at(entries: Sequence[ModelError], utilization: float) -> ModelError | None:
    """Return the first entry that holds at a utilization, or else the last one; None where there is none."""
    return next((each for each in entries if not each.utilization < utilization), entries[-1] if entries else None)


def latency_error(rows: Sequence[Mapping[Any, Any]], profile: Profile, shipped: Profile | None = None) -> LatencyError:
    """Find the model's error of a candidate.

    Parameters
    ----------
    rows
        Of `RunResult.row`, one for each seed.
    profile
        The profile with which they were simulated.
    shipped
        See `verdict_of`.

    Notes
    -----
    A decision in a node's memory waits in no queue, so memory has no utilization up to which it is believed. A hybrid has
    the error of its store in the latencies that have a part there. A quantile below what a question takes on a loopback
    without any waiting has none, and takes memory's error.
    """
    url = StorageURL.parse(str(rows[0]["storage"]))
    node, store = _mean(rows, "node_utilization_max"), _mean(rows, "utilization_max")
    busiest, costs = max(node, store), profile.backends[url.backend]
    entries, source = verdict_of(profile, url.backend, shipped)
    validated = (shipped or _shipped()) if source == "shipped" else profile
    near, _ = verdict_of(profile, "memory", shipped)
    is_lower_bound = url.backend != "memory" and bool(entries) and busiest > entries[-1].utilization

    def is_local(column: str) -> bool:
        return url.backend == "memory" or (url.hybrid is not None and _mean(rows, column) < _least(costs))

    used = entry_at(entries, busiest)
    p50, p99 = (entry_at(near, node) if is_local(f"latency_{name}") else used for name in ("p50", "p99"))
    return LatencyError(
        backend=url.backend,
        source=source,
        part="node" if node >= store else "store",
        utilization=busiest,
        limit=entries[-1].utilization if entries else 0.0,
        rounds=used.rounds if used else 0,
        machine=(validated.backends[url.backend].machine or validated.machine) if entries else "",
        p50=p50.p50 if p50 else 0.0,
        p99=p99.p99 if p99 else 0.0,
        p50_is_lower_bound=is_lower_bound and not is_local("latency_p50"),
        p99_is_lower_bound=is_lower_bound and not is_local("latency_p99"),
        is_local=is_local("latency_p99"),
    )


def _least(costs: BackendCosts) -> float:
    """Return the seconds that one question takes at least: the client's until its answer, a loopback's, the server's."""
    ask, answer, _ = costs.split
    return costs.cpu(1) * (ask + answer) + costs.round_trip + costs.seconds(1)


def _mean(rows: Sequence[Mapping[Any, Any]], name: str) -> float:
    return fmean(float(row[name]) for row in rows)


@cache
def _shipped() -> Profile:
    return Profile.shipped()
