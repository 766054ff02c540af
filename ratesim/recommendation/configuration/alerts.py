"""Alert rules for Prometheus on the metrics of `ratesim.storage.prometheus`; their thresholds come from the requirements.

A quantile of a histogram is interpolated within a bucket (https://prometheus.io/docs/practices/histograms/), so it is on the
right side of a threshold for sure only where the threshold is the bound of a bucket: `thresholds` says which must be.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ratesim.formatting import escape_control_chars, format_amount, format_percent, format_seconds
from ratesim.recommendation.configuration.alert import Alert
from ratesim.recommendation.configuration.escaping import quote_text, to_comment
from ratesim.recommendation.configuration.postgres_alerts import COLLECTORS, postgres_alerts
from ratesim.recommendation.configuration.postgres_alerts import JOB as POSTGRES_JOB
from ratesim.recommendation.configuration.redis_alerts import JOB, redis_alerts
from ratesim.recommendation.configuration.storage_toml import backend_of
from ratesim.recommendation.configuration.store_size import StoreSize
from ratesim.storage import StorageURL
from ratesim.storage.partitions import ByTime

if TYPE_CHECKING:
    from ratesim.simulation.scenario.scenario import Scenario
    from ratesim.storage import HybridStorageConfig, PostgresStorageConfig

__all__ = ["Alert", "alerts", "alerts_yaml", "thresholds"]

# A 99th percentile is that of all requests only while less than one in a hundred has no answer.
ERRORS = 0.01
# Below this a decision cannot wait for a shared store: a decision by Redis takes 0.1 to 1 ms.
ROUND_TRIP = 1e-3
MORE, FEW = 3.0, 1.0  # times the denials of a day ago, and so many a second besides
HALF = 0.5  # of the decisions wait for the shared store: then the memory before it is of little use
ACQUIRE = 'operation=~"acquire|acquire_many"'


def alerts_yaml(scenario: Scenario, storage: str, title: str = "", size: StoreSize | None = None) -> str:
    """Write a rule file: a group about the storage, and one about its servers where they are several, or a PostgreSQL.

    Every value is a quoted text.
    """
    lines = [
        to_comment(title),
        to_comment(
            "Rules for Prometheus, on the metrics of ratesim.storage.prometheus.InstrumentedStorage; its thresholds= must "
            "be those of open_storage.py, for buckets to begin where these rules compare."
        ),
    ]
    name, servers, said = _of_servers(storage, size or StoreSize())
    if servers:
        lines.append(to_comment(said))
    lines += ["groups:\n", *_group("ratesim", alerts(scenario, storage), scenario.name)]
    if servers:
        lines += _group(name, servers, scenario.name)
    return "".join(lines)


def _of_servers(storage: str, size: StoreSize) -> tuple[str, tuple[Alert, ...], str]:
    """Return the group about the servers of a store: its name, its rules, and what they need."""
    url = StorageURL.parse(storage)
    if url.backend == "postgres":
        needs = (
            "The second group is on the metrics of postgres_exporter for the primary and each standby, in the limiter's "
            f'database; its job is "{POSTGRES_JOB}". Start it with {" and ".join(COLLECTORS)}.'
        )
        return "ratesim-postgres", postgres_alerts(url.config, size), needs
    needs = f'The second group is on the metrics of redis_exporter for every server and Sentinel; its job is "{JOB}".'
    return "ratesim-redis", redis_alerts(size.topology(storage), size), needs


def _group(name: str, found: Sequence[Alert], scenario: str) -> Iterator[str]:
    yield f"  - name: {quote_text(name)}\n    rules:\n"
    for alert in found:
        yield (
            f"      - alert: {quote_text(alert.name)}\n"
            f"        expr: {quote_text(alert.expression)}\n"
            f"        for: {quote_text(alert.lasting)}\n"
            "        labels:\n"
            f"          severity: {quote_text(alert.severity)}\n"
            f"          scenario: {_text(scenario)}\n"
            "        annotations:\n"
            f"          summary: {_text(alert.summary)}\n"
            f"          description: {_text(alert.description)}\n"
        )


def alerts(scenario: Scenario, storage: str) -> tuple[Alert, ...]:
    """Return the rules that apply to a storage URL.

    Raises
    ------
    ConfigurationError
        The URL is invalid.
    """
    backend, wants = backend_of(storage), scenario.requirements
    of = f'storage_type="{backend}"'
    found = [] if backend == "memory" else [_errors(of)]
    if wants.p99 is not None:
        found.append(_slow(of, wants.p99))
    found.append(_clocks(of))
    url = StorageURL.parse(storage)
    if backend in ("memory", "hybrid"):
        found.append(_forgets(of, wants.max_over_admission))
    if backend != "redis":
        found.append(_background(of))
    if url.backend == "postgres":
        found += _upkeep(of, url.config)
    if backend != "memory":
        found.append(_breaker(of))
    if url.hybrid is not None:
        found += _between(of, url.hybrid, wants.p99)
    found.append(_denials(of))
    return tuple(found)


def thresholds(scenario: Scenario, storage: str) -> tuple[float, ...]:
    """Seconds that quantiles are compared with: what InstrumentedStorage needs as its `thresholds`."""
    hybrid, p99 = StorageURL.parse(storage).hybrid, scenario.requirements.p99
    found = [] if p99 is None else [p99]
    if hybrid is not None and hybrid.consistency in ("eventual", "session"):
        found.append(_oldest(hybrid))
    return tuple(found)


def _oldest(hybrid: HybridStorageConfig) -> float:
    """Seconds. A view may be as old as l1_ttl, and a flush be due just then: it and the one before it are two intervals."""
    return hybrid.l1_ttl + 2 * hybrid.sync_interval


def _rate(metric: str, labels: str, over: str = "5m", ago: str = "") -> str:
    return f"sum(rate(rate_limit_storage_{metric}{{{labels}}}[{over}]{' offset ' * bool(ago)}{ago}))"


def _errors(of: str) -> Alert:
    calls = _rate("operation_duration_seconds_count", of)
    return Alert(
        "RateLimitStorageErrors",
        f"{_rate('errors_total', of)} / {calls} > {ERRORS!r}",
        "5m",
        "page",
        "Requests get no decision from the rate limiter",
        f"More than {format_percent(ERRORS)} of the calls to the storage end in an error. Whether they are let in is then "
        "the application's own choice.",
    )


def _slow(of: str, p99: float) -> Alert:
    buckets = f"sum by (le) (rate(rate_limit_storage_operation_duration_seconds_bucket{{{of}, {ACQUIRE}}}[5m]))"
    return Alert(
        "RateLimitStorageSlow",
        f"histogram_quantile(0.99, {buckets}) > {p99!r}",
        "10m",
        "page",
        f"Decisions take longer than {format_seconds(p99)} at the 99th percentile",
        f"The requirement was a p99 of {format_seconds(p99)}. Look at the load of the store, at its distance, and at "
        "its slow log.",
    )


def _forgets(of: str, allowed: float | None) -> Alert:
    """Compare the cost that evictions give back with the allowed over-admission, because it is admitted again."""
    if allowed:
        offered = _rate("operations_total", f"{of}, {ACQUIRE}", "1h")
        expression = f"{_rate('forgotten_cost_total', of, '1h')} / {offered} > {allowed!r}"
        meaning = (
            f"At costs of 1, evictions of live states give back more than {format_percent(allowed)} of what is asked for, "
            "which is all the over-admission that is allowed."
        )
    else:
        expression = f"sum(increase(rate_limit_storage_harmful_evictions_total{{{of}}}[1h])) > 0"
        meaning = "A state was evicted that still counted, and its key may now begin anew."
    return Alert(
        "RateLimitStorageForgets",
        expression,
        "1m",
        "ticket",
        "The memory of the rate limiter is full and forgets live keys",
        f"{meaning} Raise max_entries or memory_limit.",
    )


def _background(of: str) -> Alert:
    return Alert(
        "RateLimitStorageBackgroundFails",
        f"sum by (task) (increase(rate_limit_storage_background_failures_total{{{of}}}[10m])) > 0",
        "5m",
        "ticket",
        "A background task of the storage fails again and again",
        "The task goes on, and its label names it; the health check and the log of the storage name the error.",
    )


def _upkeep(of: str, config: PostgresStorageConfig) -> Iterator[Alert]:
    """Yield the rules that some node looks after the tables, where the nodes do so by themselves."""
    if not config.cleanup_interval:
        return
    minutes = max(10, math.ceil(10 * config.cleanup_interval / 60))
    rounds = f"rate_limit_storage_upkeep_rounds_total{{{of}}}"
    yield Alert(
        "RateLimitStorageNoUpkeep",
        f"sum(increase({rounds}[{minutes}m])) < 1",
        f"{minutes}m",
        "ticket",
        "No node looks after the tables of the rate limiter",
        f"A round is due every {format_seconds(config.cleanup_interval)}, by one of the nodes. Expired rows stay, and "
        "partitions are neither made ahead nor dropped. The failures of the tasks `cleanup` and `rotation` say why.",
    )
    if isinstance(config.partition_strategy, ByTime):
        spans = round(3 * config.partition_strategy.seconds)
        made = f'rate_limit_storage_partition_changes_total{{{of}, change="made"}}'
        yield Alert(
            "RateLimitStorageNoPartitionAhead",
            f"sum(increase({made}[{spans}s])) < 1",
            "10m",
            "ticket",
            "No partition is made for the time ahead",
            "New rows go on into the last partition, which then is never dropped. The failures of the task `rotation` say "
            "why; the role may lack the right to create tables.",
        )


def _denials(of: str) -> Alert:
    """Compare with the same hour of the day before, because how many requests are denied is the limit's business."""
    now, before = _rate("denied_total", of, "1h"), _rate("denied_total", of, "1h", "1d")
    return Alert(
        "RateLimitDeniesMore",
        f"{now} > {MORE!r} * {before} + {FEW!r}",
        "15m",
        "ticket",
        f"More than {format_amount(MORE)} times as many requests are denied as a day ago",
        "A client is out of bounds, or the limit is. The tables of PostgreSQL name the keys that are denied most, in the "
        "view whose name ends in _denials.",
    )


def _clocks(of: str) -> Alert:
    return Alert(
        "RateLimitStorageClocksDiffer",
        f"sum(increase(rate_limit_storage_clock_rewinds_total{{{of}}}[10m])) > 0",
        "1m",
        "ticket",
        "The clock of a node is wrong",
        "States were written by a clock further ahead than max_clock_skew. Nodes with such clocks give each other quota "
        "back. Repair NTP, or let the store decide by its own clock (clock=server).",
    )


def _breaker(of: str) -> Alert:
    return Alert(
        "RateLimitStorageBreakerOpen",
        f"sum(rate_limit_storage_breaker_open{{{of}}}) > 0",
        "1m",
        "page",
        "A node no longer asks its store",
        "The circuit breaker of at least one client is open: its last calls all failed, and it sends only probes.",
    )


def _between(of: str, hybrid: HybridStorageConfig, p99: float | None) -> list[Alert]:
    """Return the rules about the memory of a hybrid and its shared store."""
    found = [
        Alert(
            "RateLimitStorageAlone",
            f"{_rate('fallback_decisions_total', of)} > 0",
            "1m",
            "page",
            "Decisions are taken without the shared store",
            f"The shared store is away or slower than max_wait, and nodes decide alone ({hybrid.on_store_failure}).",
        )
    ]
    if hybrid.consistency in ("eventual", "session"):
        found.append(_old(of, hybrid))
        if (
            hybrid.read != "read_through" and hybrid.write != "write_around"
        ):  # those read the store again and again on purpose
            found.append(_hits(of, p99))
        if hybrid.write in ("write_back", "write_behind"):
            failed = _rate("flushes_total", f'{of}, result="failed"')
            found.append(
                Alert(
                    "RateLimitStorageFlushesFail",
                    f"{failed} > 0",
                    "1m",
                    "page",
                    "Nodes cannot tell the shared store what they admitted",
                    "Until flushes arrive again each node counts for itself, and more is admitted than the limit.",
                )
            )
        if hybrid.write == "write_behind":
            found.append(
                Alert(
                    "RateLimitStorageLosesConsumption",
                    f"sum(increase(rate_limit_storage_dropped_cost_total{{{of}}}[10m])) > 0",
                    "1m",
                    "ticket",
                    "Admitted requests are never told to the shared store",
                    "The queue of write_behind was full. Raise queue_size, or look at the shared store.",
                )
            )
    return found


def _hits(of: str, p99: float | None) -> Alert:
    """Where a decision cannot wait for the store, one in a hundred may; elsewhere half of them."""
    least = 0.99 if p99 is not None and p99 < ROUND_TRIP else HALF
    return Alert(
        "RateLimitStorageMissesOften",
        f"1 - {_rate('misses_total', of, '15m')} / {_rate('lookups_total', of, '15m')} < {least!r}",
        "15m",
        "ticket",
        f"Less than {format_percent(least)} of the decisions are taken in memory",
        "The others wait for the shared store. Keys come back less often than l1_ttl, or the memory is too small for them.",
    )


def _old(of: str, hybrid: HybridStorageConfig) -> Alert:
    age = _oldest(hybrid)
    buckets = f"sum by (le) (rate(rate_limit_storage_view_age_seconds_bucket{{{of}}}[5m]))"
    return Alert(
        "RateLimitStorageViewsOld",
        f"histogram_quantile(0.99, {buckets}) > {age!r}",
        "5m",
        "page",
        f"Nodes decide on views of the shared store that are older than {format_seconds(age)}",
        "Over-admission grows with the age of views, and this is more than l1_ttl and two intervals of sync.",
    )


def _text(text: str) -> str:
    """Quote text, and break up double braces, which Prometheus would expand as a template.

    https://prometheus.io/docs/prometheus/latest/configuration/template_reference/
    """
    return quote_text(escape_control_chars(text).replace("{{", "{ {").replace("}}", "} }"))
