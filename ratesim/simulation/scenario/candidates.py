"""The candidates that compete unless a scenario names its own.

They are every backend, and every combination of a hybrid's policies that differs from another (docs/hybrid.md has the
table), at intervals from 10 ms to 10 s where it has one. Sentinel and clusters compete where high availability is asked for,
clusters also where the load is more than one server carries. A PostgreSQL with a synchronous standby competes where high
availability or durability is asked for, and partitioned tables where there are very many keys. Memory with sticky routing
competes where the routing may change (`Scenario.may_change_routing`).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from ratesim.simulation.scenario.scenario import Candidate, Scenario

__all__ = ["cluster_candidate", "default_candidates", "partitioned_candidate", "standby_candidate"]

INTERVALS = (0.01, 0.1, 1.0, 10.0)  # seconds
LEASES = (0.1, 1.0, 10.0)  # seconds
WRITES = ("write_back", "write_through", "write_behind", "write_around")
READS = ("cache_aside", "read_through", "refresh_ahead")
CLUSTERS = (3, 6)  # primaries
# Decisions per second of one Redis at 70 % of its processor, in full batches: 0.7 / (0.037 ms), `profiles/shipped.json`.
ONE_SERVER = 20_000.0
# Keys from which on a table of PostgreSQL is cut: dropping a partition spares it to delete, and to vacuum, as many rows.
MANY_KEYS = 10_000_000
PARTITIONS = ("time:1d", "hash:16")
# Over PostgreSQL the policies differ as they do over Redis: of these there are the common ones.
OVER_POSTGRES = (0.1, 1.0, 10.0)


def default_candidates(scenario: Scenario) -> tuple[Candidate, ...]:
    """Return the candidates of a scenario: its own, or all that make sense for its deployment."""
    if scenario.candidates:
        return scenario.candidates
    found = [Candidate(name="memory", storage="memory://")]
    if scenario.deployment.nodes > 1 and scenario.deployment.routing != "sticky" and scenario.may_change_routing:
        found.append(Candidate(name="memory, sticky", storage="memory://", routing="sticky"))
    found += [
        _candidate("redis", "redis://localhost"),
        _candidate("postgres", "postgresql://localhost"),
        _candidate("postgres, commits later", "postgresql://localhost", synchronous_commit="off"),
        _candidate("postgres, unlogged", "postgresql://localhost", unlogged="true"),
    ]
    found += [*_over_redis(), *_over_postgres()]
    available = scenario.deployment.type == "high_availability"
    if available:
        found.append(_candidate("redis sentinel", "redis+sentinel://localhost/ratesim"))
    if available or scenario.workload.mean_rate > ONE_SERVER * scenario.deployment.shards:
        found += _clusters()
    if available or scenario.requirements.persistence == "durable":
        found.append(standby_candidate())
    if (scenario.requirements.key_count or 0) >= MANY_KEYS:
        found += map(partitioned_candidate, PARTITIONS)
    return tuple(found)


def cluster_candidate(primaries: int) -> Candidate:
    """Return the candidate of a Redis cluster with so many primaries."""
    name = f"redis cluster, {primaries} primaries"
    return Candidate(name=name, storage="redis+cluster://localhost", primaries=primaries)


def standby_candidate() -> Candidate:
    """Return the candidate of a PostgreSQL whose answers wait for a standby: durable, and highly available."""
    storage = "postgresql://localhost?synchronous_commit=remote_apply"
    return Candidate(name="postgres, synchronous standby", storage=storage, replicas=1)


def partitioned_candidate(strategy: str) -> Candidate:
    """Return the candidate of a PostgreSQL whose table is cut by a strategy, as the option `partition` names it."""
    said = "".join(each if each.isalnum() or each in " ._,:+-" else "" for each in strategy)
    return _candidate(f"postgres, partition {said}"[:80], "postgresql://localhost", partition=strategy)


def _clusters() -> Iterator[Candidate]:
    yield from map(cluster_candidate, CLUSTERS)
    store = "hybrid+redis+cluster://localhost"
    for each in (
        _lease("hybrid over cluster", store, 1.0),
        _policy("hybrid over cluster", store, "eventual", "write_back", "cache_aside", 0.1),
    ):
        yield each.model_copy(update={"primaries": CLUSTERS[0]})


def _over_redis() -> Iterator[Candidate]:
    store = "hybrid+redis://localhost"
    yield _candidate("hybrid strong", store, consistency="strong", write="write_through")
    yield from (_lease("hybrid", store, seconds) for seconds in LEASES)
    for consistency, write, read in product(("eventual", "session"), WRITES, READS):
        if write in ("write_through", "write_around") and read == "read_through":
            # These four coincide: nothing is kept in memory, and nothing is left to know of a session.
            if (consistency, write) == ("eventual", "write_through"):
                yield _candidate("hybrid, nothing kept", store, consistency=consistency, write=write, read=read)
            continue
        for seconds in INTERVALS if _has_interval(write, read) else (None,):
            yield _policy("hybrid", store, consistency, write, read, seconds)
    yield from (_long("hybrid", store, seconds) for seconds in INTERVALS)


def _over_postgres() -> Iterator[Candidate]:
    store = "hybrid+postgresql://localhost"
    name = "hybrid over postgres"
    yield _candidate(f"{name} strong", store, consistency="strong", write="write_through")
    yield _lease(name, store, 1.0)
    for consistency, seconds in product(("eventual", "session"), OVER_POSTGRES):
        yield _policy(name, store, consistency, "write_back", "cache_aside", seconds)
    yield from (_long(name, store, seconds) for seconds in OVER_POSTGRES)


def _has_interval(write: str, read: str) -> bool:
    """Tell whether anything is flushed at an interval, or a view lives for one."""
    return write == "write_back" or read != "read_through"


def _lease(name: str, store: str, seconds: float) -> Candidate:
    return _candidate(f"{name} lease {_said(seconds)}", store, consistency="lease", lease_ttl=seconds)


def _long(name: str, store: str, seconds: float) -> Candidate:
    """Make a candidate whose view only its own flushes refresh, for as long as the rule-of-thumb baseline's 300 s.

    No request waits for the store, however far or gone that is. A key that comes back after a pause is decided on an old
    view.
    """
    options = {"consistency": "eventual", "write": "write_back", "sync_interval": seconds}
    return _candidate(f"{name} eventual {_said(seconds)}, long views", store, **options)


def _policy(name: str, store: str, consistency: str, write: str, read: str, seconds: float | None) -> Candidate:
    policies = [text.replace("_", "-") for text in (write, read) if text not in (WRITES[0], READS[0])]
    said = " ".join([name, consistency, *policies, *([] if seconds is None else [_said(seconds)])])
    options: dict[str, object] = {"consistency": consistency, "write": write}
    if read != READS[0]:
        options["read"] = read
    if seconds is not None:
        if write == "write_back":
            options["sync_interval"] = seconds
        # A view lives as long as the interval: a key that comes back after a pause is read again, so no view is much older.
        if read == "cache_aside":
            options["l1_ttl"] = seconds
        elif read == "refresh_ahead":
            options |= {"refresh_after": seconds, "l1_ttl": 5.0 * seconds}  # in the ratio of 60 s and 300 s
    return _candidate(said, store, **options)


def _candidate(name: str, store: str, **options: object) -> Candidate:
    query = "&".join(f"{key}={value}" for key, value in options.items())
    return Candidate(name=name, storage=f"{store}?{query}" if query else store)


def _said(seconds: float) -> str:
    return f"{seconds * 1e3:g} ms" if seconds < 1.0 else f"{seconds:g} s"
