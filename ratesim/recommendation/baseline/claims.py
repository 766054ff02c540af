"""What the design sketch claims of each backend, in our words, beside what was measured.

A claim is held against figures of this very study where one speaks to it. Much of such lists no figure can show; that is
left standing, and why is said.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ratesim.recommendation.baseline.claim_checks import MEASURES, Figures, Holds

if TYPE_CHECKING:
    import pandas as pd

    from ratesim.simulation.cost_model.profile import Profile

__all__ = ["CLAIMS", "CheckedClaim", "Claim", "claims"]

Backend = Literal["memory", "redis", "postgres", "hybrid"]
Kind = Literal["advantage", "disadvantage"]


@dataclass(frozen=True)
class Claim:
    """One line of the sketch's lists. measure: which of our figures speaks to it, a column of a study's results or a field
    of the profile; "" where none does, and then `why` says why."""

    backend: Backend
    kind: Kind
    text: str
    measure: str = ""
    why: str = ""


@dataclass(frozen=True)
class CheckedClaim:
    """A claim beside the figures. claim, measure: of the `Claim`. measured: in words, "" where nothing was. why: how `holds`
    follows."""

    backend: Backend
    kind: Kind
    claim: str
    measure: str
    measured: str
    holds: Holds
    why: str


CLAIMS = (
    Claim("memory", "advantage", "a decision takes less than 0.01 ms, the least of all", "latency_p50"),
    Claim("memory", "advantage", "nothing travels over a network", "l2_operations_per_request"),
    Claim("memory", "advantage", "easy to debug and to watch", why="how easy something is, no run shows"),
    Claim("memory", "advantage", "cleans up and evicts by itself", why="no figure of this study counts evictions"),
    Claim(
        "memory",
        "disadvantage",
        "a restart loses the state",
        why="a memory that persists to disk keeps it; none was restarted",
    ),
    Claim("memory", "disadvantage", "instances do not share it", "over_admission"),
    Claim("memory", "disadvantage", "takes memory with every active user", "bytes_per_key"),
    Claim("memory", "disadvantage", "a single point of failure", why="depends on what stands in for the process"),
    Claim(
        "redis",
        "advantage",
        "the state survives restarts",
        why="that depends on the server's persistence; none was restarted",
    ),
    Claim("redis", "advantage", "instances share one state", "over_admission"),
    Claim("redis", "advantage", "has clusters and replicas", why="a property of the product, not of a run"),
    Claim("redis", "advantage", "scripts make decisions atomic", "false_denial"),
    Claim("redis", "advantage", "fast with pooled connections", "l2_busy_per_request"),
    Claim("redis", "disadvantage", "the network costs 0.1 to 1 ms", "latency_p50"),
    Claim("redis", "disadvantage", "one more thing to run", why="nobody measures the work of running a server here"),
    Claim("redis", "disadvantage", "takes memory on the server", "bytes_per_key"),
    Claim(
        "redis",
        "disadvantage",
        "may be a single point of failure",
        why="depends on replicas and on the faults of a scenario",
    ),
    Claim("postgres", "advantage", "persistent, with ACID guarantees", why="no run here crashes a disk"),
    Claim("postgres", "advantage", "can be queried and analysed", why="a property of the product, not of a run"),
    Claim("postgres", "advantage", "partitions for large deployments", why="ratesim makes no partitions yet"),
    Claim("postgres", "advantage", "brings replication and backups", why="a property of the product, not of a run"),
    Claim("postgres", "advantage", "watched and debugged with SQL", why="how easy something is, no run shows"),
    Claim("postgres", "disadvantage", "slower: a decision takes 1 to 5 ms", "latency_p50"),
    Claim(
        "postgres",
        "disadvantage",
        "harder to set up and to maintain",
        why="nobody measures the work of running a server here",
    ),
    Claim("postgres", "disadvantage", "uses more resources", "l2_busy_per_request"),
    Claim("postgres", "disadvantage", "may be what limits throughput", "concurrency"),
    Claim("hybrid", "advantage", "as fast as memory, as persistent as its store", "latency_p50"),
    Claim("hybrid", "advantage", "its consistency can be chosen", "over_admission by policy"),
    Claim("hybrid", "advantage", "fails over and recovers by itself", why="the faults of a scenario would show it"),
    Claim("hybrid", "advantage", "can be tuned to access patterns", why="one traffic is not several patterns"),
    Claim("hybrid", "disadvantage", "complex to build and to debug", why="how easy something is, no run shows"),
    Claim("hybrid", "disadvantage", "its nodes may disagree", "over_admission"),
    Claim("hybrid", "disadvantage", "takes memory twice", "bytes_per_key"),
    Claim("hybrid", "disadvantage", "more can go wrong with it", why="the faults of a scenario would show some of it"),
)


def claims(results: pd.DataFrame, live: pd.DataFrame, profile: Profile) -> tuple[CheckedClaim, ...]:
    """Every claim, in the sketch's order. results, live: as a study has them; a backend in neither is not measured."""
    figures = Figures(results, live, profile)
    found = []
    for each in CLAIMS:
        known = MEASURES[each.backend, each.measure](figures) if each.measure else ("", "not measured", each.why)
        found.append(CheckedClaim(each.backend, each.kind, each.text, each.measure, *known))
    return tuple(found)
