"""`StorageRecommendation`: the rule table of the design sketch, whole. It never looks at the workload, so it needs none.

The first row that fits is the answer. Where a row gives something that does not keep what was asked,
`RuleResult.caveats` says so; the row stands as it is, since a report sets it beside the evidence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlencode

from ratesim.recommendation.assess.assessment import LEVELS, persistence
from ratesim.storage.config import HybridStorageConfig, MemoryStorageConfig, PostgresStorageConfig, RedisStorageConfig

if TYPE_CHECKING:
    from ratesim.simulation.scenario.scenario import Deployment, Requirements

__all__ = [
    "BaselineChoice",
    "DataRequirements",
    "DeploymentType",
    "LatencyTarget",
    "PerformanceRequirements",
    "PersistenceLevel",
    "RuleResult",
    "StorageConfig",
    "StorageRecommendation",
    "baseline_choice",
    "recommend_by_rules",
    "to_requirements",
]

Backend = Literal["memory", "redis", "postgres", "hybrid"]
StorageConfig = MemoryStorageConfig | RedisStorageConfig | PostgresStorageConfig | HybridStorageConfig


class LatencyTarget(Enum):
    """What a decision may take. The value is the bound in seconds: the 99th percentile is below it.

    The table knows only the first; the others tell how far a target is from it.
    """

    SUB_MILLISECOND = 1e-3
    MILLISECONDS = 1e-2
    TENS_OF_MILLISECONDS = 0.1
    RELAXED = math.inf

    @classmethod
    def of(cls, p99: float | None) -> LatencyTarget:
        """The level that a 99th percentile in seconds falls into; RELAXED without one. ValueError for one not above 0."""
        if p99 is None:
            return cls.RELAXED
        if not p99 > 0:
            raise ValueError(f"p99 {p99!r}: must be a number of seconds above 0")
        return next((level for level in cls if p99 < level.value), cls.RELAXED)


class DeploymentType(StrEnum):
    """Where the limiter runs: one process, several that share the limit, several with a store that is replicated."""

    SINGLE_INSTANCE = "single_instance"
    CLUSTERED = "clustered"
    HIGH_AVAILABILITY = "high_availability"


class PersistenceLevel(StrEnum):
    """What must survive: nothing, the restart of an API node (session), or that of the store too (durable)."""

    NONE = "none"
    SESSION = "session"
    DURABLE = "durable"


@dataclass(frozen=True)
class PerformanceRequirements:
    """How fast a decision must be."""

    latency_target: LatencyTarget = LatencyTarget.RELAXED


@dataclass(frozen=True)
class DataRequirements:
    """What must become of the state."""

    persistence: PersistenceLevel = PersistenceLevel.NONE


@dataclass(frozen=True)
class RuleResult:
    """What the table says.

    config: of the backend; of a hybrid, its own, with the default Redis as L2. url: the same as `open_storage` takes it.
    rule: when the row fits, in words. also_asked: what the sketch asks for beside, and no option of ours gives yet.
    caveats: what was asked and the answer does not keep. sentence: all of it.
    """

    backend: Backend
    config: StorageConfig
    url: str
    rule: str
    also_asked: tuple[str, ...] = ()
    caveats: tuple[str, ...] = ()
    sentence: str = ""


@dataclass(frozen=True)
class _Row:
    """One row of the table; None fits anything. options: those that the sketch names, all others are defaults."""

    latency: LatencyTarget | None
    deployment: DeploymentType | None
    persistence: PersistenceLevel | None
    rule: str
    backend: Backend
    options: tuple[tuple[str, Any], ...] = ()
    also_asked: tuple[str, ...] = ()

    def fits(self, latency: LatencyTarget, deployment: DeploymentType, kept: PersistenceLevel) -> bool:
        wanted = (self.latency, self.deployment, self.persistence)
        return all(each is None or each is given for each, given in zip(wanted, (latency, deployment, kept), strict=True))


# In the sketch's order, which is that of precedence.
_TABLE = (
    _Row(
        LatencyTarget.SUB_MILLISECOND,
        None,
        None,
        "a latency target below 1 ms",
        "memory",
        (("max_entries", 1_000_000), ("eviction_policy", "AdaptiveLRU"), ("memory_limit", 512 * 1024 * 1024)),
    ),
    _Row(
        None,
        DeploymentType.SINGLE_INSTANCE,
        PersistenceLevel.NONE,
        "a single instance without persistence",
        "memory",
    ),
    _Row(
        None,
        DeploymentType.CLUSTERED,
        PersistenceLevel.SESSION,
        "a cluster with session persistence",
        "hybrid",
        (("consistency", "eventual"), ("write", "write_back"), ("read", "cache_aside")),
    ),
    _Row(
        None,
        DeploymentType.HIGH_AVAILABILITY,
        PersistenceLevel.DURABLE,
        "high availability with durable persistence",
        "postgres",
        (),
        ("partitions by time, of one day each",),
    ),
    _Row(
        None,
        None,
        None,
        "no other rule, so the default for distributed deployments",
        "redis",
        (),
        ("the cluster mode of Redis", "states compressed with Snappy"),
    ),
)

_CONFIGS: dict[Backend, type[StorageConfig]] = {
    "memory": MemoryStorageConfig,
    "redis": RedisStorageConfig,
    "postgres": PostgresStorageConfig,
    "hybrid": HybridStorageConfig,
}
_PLACES: dict[Backend, str] = {
    "memory": "memory://",
    "redis": RedisStorageConfig().url,
    "postgres": PostgresStorageConfig().url,
    "hybrid": f"hybrid+{RedisStorageConfig().url}",
}


class StorageRecommendation:
    """The sketch's name for its table."""

    @staticmethod
    def recommend_storage(
        requirements: PerformanceRequirements, deployment: DeploymentType, data: DataRequirements
    ) -> RuleResult:
        """The answer of the first row that fits. The last fits everything."""
        row = next(each for each in _TABLE if each.fits(requirements.latency_target, deployment, data.persistence))
        url = _PLACES[row.backend] + ("?" + urlencode(row.options) if row.options else "")
        caveats = _caveats(row.backend, url, deployment, data.persistence)
        also = f" The sketch also asks for {' and '.join(row.also_asked)}: no option here." if row.also_asked else ""
        but = f" It does not keep all that was asked: {'; '.join(caveats)}." if caveats else ""
        return RuleResult(
            backend=row.backend,
            config=_CONFIGS[row.backend](**dict(row.options)),
            url=url,
            rule=row.rule,
            also_asked=row.also_asked,
            caveats=caveats,
            sentence=f"The rule table of the design sketch says {row.backend} ({row.rule}).{also}{but}",
        )


def recommend_by_rules(
    performance: PerformanceRequirements, deployment: DeploymentType, data: DataRequirements
) -> RuleResult:
    """`StorageRecommendation.recommend_storage`: what the rule table says, without any traffic and at once."""
    return StorageRecommendation.recommend_storage(performance, deployment, data)


def to_requirements(
    requirements: Requirements, deployment: Deployment
) -> tuple[PerformanceRequirements, DeploymentType, DataRequirements]:
    """What a scenario asks, as the table reads it. All else of a scenario it ignores, over-admission too."""
    return (
        PerformanceRequirements(LatencyTarget.of(requirements.p99)),
        DeploymentType(deployment.type),
        DataRequirements(PersistenceLevel(requirements.persistence)),
    )


@dataclass(frozen=True)
class BaselineChoice:
    """What the rule table would have chosen without looking at the workload: the backend, and the rule that fired."""

    backend: Backend
    rule: str
    sentence: str = ""


def baseline_choice(requirements: Requirements, deployment: Deployment) -> BaselineChoice:
    """The table's answer to a scenario, without its configuration."""
    ruled = recommend_by_rules(*to_requirements(requirements, deployment))
    return BaselineChoice(ruled.backend, ruled.rule)


def _caveats(backend: Backend, url: str, deployment: DeploymentType, wanted: PersistenceLevel) -> tuple[str, ...]:
    found = []
    if backend == "memory" and deployment is not DeploymentType.SINGLE_INSTANCE:
        found.append("no node sees what the others admitted")
    kept = persistence(url)
    if LEVELS.index(kept) < LEVELS.index(wanted.value):
        found.append(f"the persistence is {kept}, and {wanted.value} was asked")
    return tuple(found)
