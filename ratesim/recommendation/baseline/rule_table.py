"""The rule-of-thumb baseline: a table of rules that chooses a backend without looking at the workload.

The first row that fits is the answer. If the answer does not meet a requirement, `RuleResult.caveats` says so. The row is
not corrected, because a report compares it with the evidence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlencode

from ratesim.recommendation.assess.persistence import LEVELS, persistence
from ratesim.storage.config import HybridStorageConfig, MemoryStorageConfig, PostgresStorageConfig, RedisStorageConfig
from ratesim.storage.partitions import ByTime
from ratesim.storage.urls import url_name

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
    """The latency target of a decision. The value is an upper bound of the 99th percentile, in seconds.

    The table has a rule for the first level only.
    """

    SUB_MILLISECOND = 1e-3
    MILLISECONDS = 1e-2
    TENS_OF_MILLISECONDS = 0.1
    RELAXED = math.inf

    @classmethod
    def of(cls, p99: float | None) -> LatencyTarget:
        """Return the level of a 99th percentile in seconds; RELAXED if it is None.

        Raises
        ------
        ValueError
            `p99` is not above 0.
        """
        if p99 is None:
            return cls.RELAXED
        if not p99 > 0:
            raise ValueError(f"p99 {p99!r}: must be a number of seconds above 0")
        return next((level for level in cls if p99 < level.value), cls.RELAXED)


class DeploymentType(StrEnum):
    """The deployment: one process, several that share the limit, or several with a replicated store."""

    SINGLE_INSTANCE = "single_instance"
    CLUSTERED = "clustered"
    HIGH_AVAILABILITY = "high_availability"


class PersistenceLevel(StrEnum):
    """The required persistence: none, across the restart of an API node (session), or of the store too (durable)."""

    NONE = "none"
    SESSION = "session"
    DURABLE = "durable"


@dataclass(frozen=True)
class PerformanceRequirements:
    """The required speed of a decision."""

    latency_target: LatencyTarget = LatencyTarget.RELAXED


@dataclass(frozen=True)
class DataRequirements:
    """The required persistence of the state."""

    persistence: PersistenceLevel = PersistenceLevel.NONE


@dataclass(frozen=True)
class RuleResult:
    """The answer of the table.

    Attributes
    ----------
    backend
        The chosen backend.
    config
        Its configuration. For a hybrid: the hybrid's own, with the default Redis as L2.
    url
        The same as a storage URL for `open_storage`.
    rule
        The condition of the row, in words.
    caveats
        Requirements that the answer does not meet.
    sentence
        The whole answer in one or more sentences.
    """

    backend: Backend
    config: StorageConfig
    url: str
    rule: str
    caveats: tuple[str, ...] = ()
    sentence: str = ""


@dataclass(frozen=True)
class _Row:
    """One row of the table. None fits anything. Options that are not in `options` have their defaults."""

    latency: LatencyTarget | None
    deployment: DeploymentType | None
    persistence: PersistenceLevel | None
    rule: str
    backend: Backend
    options: tuple[tuple[str, Any], ...] = ()

    def fits(self, latency: LatencyTarget, deployment: DeploymentType, kept: PersistenceLevel) -> bool:
        wanted = (self.latency, self.deployment, self.persistence)
        return all(each is None or each is given for each, given in zip(wanted, (latency, deployment, kept), strict=True))


# In the order of precedence.
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
        (("partition_strategy", ByTime(86_400.0)),),
    ),
    _Row(
        None,
        None,
        None,
        "no other rule, so the default for distributed deployments",
        "redis",
        (("cluster_mode", True), ("compression", "snappy")),
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
    """The rule table."""

    @staticmethod
    def recommend_storage(
        requirements: PerformanceRequirements, deployment: DeploymentType, data: DataRequirements
    ) -> RuleResult:
        """Return the answer of the first row that fits. The last row fits everything."""
        row = next(each for each in _TABLE if each.fits(requirements.latency_target, deployment, data.persistence))
        url = _PLACES[row.backend] + ("?" + urlencode(_texts(row.options), safe=":") if row.options else "")
        caveats = _caveats(row.backend, url, deployment, data.persistence)
        but = f" It does not meet all requirements: {'; '.join(caveats)}." if caveats else ""
        return RuleResult(
            backend=row.backend,
            config=_CONFIGS[row.backend](**dict(row.options)),
            url=url,
            rule=row.rule,
            caveats=caveats,
            sentence=f"The rule-of-thumb baseline chooses {row.backend} ({row.rule}).{but}",
        )


def recommend_by_rules(
    performance: PerformanceRequirements, deployment: DeploymentType, data: DataRequirements
) -> RuleResult:
    """Return the answer of the rule table. No traffic is needed."""
    return StorageRecommendation.recommend_storage(performance, deployment, data)


def to_requirements(
    requirements: Requirements, deployment: Deployment
) -> tuple[PerformanceRequirements, DeploymentType, DataRequirements]:
    """Translate a scenario's requirements for the table, which ignores all others, over-admission included."""
    return (
        PerformanceRequirements(LatencyTarget.of(requirements.p99)),
        DeploymentType(deployment.type),
        DataRequirements(PersistenceLevel(requirements.persistence)),
    )


@dataclass(frozen=True)
class BaselineChoice:
    """The choice of the rule-of-thumb baseline.

    Attributes
    ----------
    backend
        The chosen backend.
    rule
        The condition of the row that applied.
    sentence
        The choice beside the evidence, in words.
    storage
        Its configuration as a storage URL.
    """

    backend: Backend
    rule: str
    sentence: str = ""
    storage: str = ""


def baseline_choice(requirements: Requirements, deployment: Deployment) -> BaselineChoice:
    """Return the answer of the table to a scenario."""
    ruled = recommend_by_rules(*to_requirements(requirements, deployment))
    return BaselineChoice(ruled.backend, ruled.rule, storage=ruled.url)


def _texts(options: tuple[tuple[str, Any], ...]) -> list[tuple[str, Any]]:
    """Write the options as a URL has them."""
    return [(url_name(name), str(value).lower() if isinstance(value, bool) else value) for name, value in options]


def _caveats(backend: Backend, url: str, deployment: DeploymentType, wanted: PersistenceLevel) -> tuple[str, ...]:
    found = []
    if backend == "memory" and deployment is not DeploymentType.SINGLE_INSTANCE:
        found.append("no node sees what the others admitted")
    kept = persistence(url)
    if LEVELS.index(kept) < LEVELS.index(wanted.value):
        found.append(f"the persistence is {kept}, and {wanted.value} was asked")
    return tuple(found)
