"""alerts.yaml: every expression is PromQL, and speaks of metrics that a metered storage exports."""

from __future__ import annotations

from typing import Any

import fakeredis
import numpy as np
import promql_parser
import pytest
import yaml
from configuring import HYBRID, LEASE, MEMORY, POSTGRES, REDIS, STORAGES, a_scenario
from prometheus_client import CollectorRegistry

from ratesim import Limit
from ratesim.errors import StorageConnectionError
from ratesim.recommendation.configuration.alerts import alerts, alerts_yaml, thresholds
from ratesim.recommendation.configuration.storage_toml import backend_of
from ratesim.storage import (
    HybridStorage,
    MemoryStorage,
    MemoryStorageConfig,
    PostgresStorage,
    PostgresStorageConfig,
    RateLimitStorage,
    RedisStorage,
    StorageURL,
)
from ratesim.storage.prometheus import InstrumentedStorage

SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "gauge": ("",)}
BY_TIME = "postgresql://localhost/limits?partition=time:1d"
SHAPE = {"alert", "expr", "for", "labels", "annotations"}


def rules(text: str) -> list[dict[str, Any]]:
    document = yaml.safe_load(text)
    assert list(document) == ["groups"]
    group = document["groups"][0]
    assert set(group) == {"name", "rules"}
    return group["rules"]


def selectors(expression: str) -> list[promql_parser.VectorSelector]:
    found = []
    promql_parser.walk(
        promql_parser.parse(expression),
        lambda node: found.append(node) if isinstance(node, promql_parser.VectorSelector) else None,
    )
    return found


def named(scenario, storage) -> dict[str, str]:
    return {alert.name: alert.expression for alert in alerts(scenario, storage)}


@pytest.mark.parametrize("storage", STORAGES)
def test_every_rule_is_one_that_prometheus_takes(storage):
    found = rules(alerts_yaml(a_scenario(), storage, "Use it."))
    assert len({rule["alert"] for rule in found}) == len(found) >= 2
    for rule in found:
        assert set(rule) == SHAPE
        assert isinstance(promql_parser.parse(rule["expr"]), promql_parser.BinaryExpr)  # compares with something
        assert promql_parser.parse_duration(rule["for"]) is not None
        assert set(rule["labels"]) == {"severity", "scenario"}
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert set(rule["annotations"]) == {"summary", "description"}


async def exported(storage: str) -> set[tuple[str, frozenset[str]]]:
    """The names of the metrics that a metered storage of this kind exports, with the labels of each, after an error too."""
    registry, limit = CollectorRegistry(), Limit.parse("3/minute", "token_bucket")
    url = StorageURL.parse(storage)
    inner: RateLimitStorage = MemoryStorage(MemoryStorageConfig(max_entries=2))
    if url.backend == "postgres":
        inner = NoServer(PostgresStorageConfig(cleanup_interval=0))
    elif url.backend == "redis":
        inner = RedisStorage(connection=fakeredis.FakeAsyncRedis(server_type="valkey", protocol=2))
    if url.hybrid is not None:
        inner = HybridStorage(inner, url.hybrid, rng=np.random.default_rng(1))
    kind = backend_of(storage)
    async with InstrumentedStorage(inner, registry, kind, thresholds(a_scenario(), storage)) as metered:
        for user in "aabcd":
            await metered.acquire(user, limit)
        metered.storage = Failing()
        with pytest.raises(StorageConnectionError):
            await metered.acquire("a", limit)
        metered.storage = inner
        return {(sample.name, frozenset(sample.labels)) for family in registry.collect() for sample in family.samples}


class NoServer(PostgresStorage):
    """A PostgreSQL that was not opened: what it exports is there, and its decisions are a memory's."""

    async def open(self) -> NoServer:
        self.memory = MemoryStorage()
        return self

    async def acquire(self, *arguments, **named):
        return await self.memory.acquire(*arguments, **named)

    async def close(self) -> None:
        pass


class Failing(MemoryStorage):
    async def acquire(self, *_, **__):
        raise StorageConnectionError("no server")


@pytest.mark.parametrize("storage", [*STORAGES, BY_TIME])
async def test_every_metric_and_label_is_exported_by_a_metered_storage(storage):
    known = await exported(storage)
    for alert in alerts(a_scenario(), storage):
        for selector in selectors(alert.expression):
            labels = {matcher.name for matcher in selector.matchers.matchers}
            assert [name for name, has in known if name == selector.name and labels <= has], (selector.name, labels)


@pytest.mark.parametrize("storage", STORAGES)
async def test_a_quantile_is_compared_with_the_bound_of_a_bucket(storage):
    bounds = thresholds(a_scenario(), storage)
    for alert in alerts(a_scenario(), storage):
        if alert.expression.startswith("histogram_quantile"):
            assert promql_parser.parse(alert.expression).rhs.val in bounds


def test_every_rule_is_of_this_backend_only():
    for storage in STORAGES:
        for alert in alerts(a_scenario(), storage):
            for selector in selectors(alert.expression):
                matchers = {matcher.name: matcher.value for matcher in selector.matchers.matchers}
                assert matchers["storage_type"] == backend_of(storage)


def test_thresholds_are_the_requirements():
    found = named(a_scenario(p99="7ms", max_over_admission="2%"), HYBRID)
    assert found["RateLimitStorageSlow"].endswith("> 0.007")
    assert found["RateLimitStorageForgets"].endswith("> 0.02")
    assert found["RateLimitStorageViewsOld"].endswith(f"> {0.1 + 2 * 0.1}")


def test_where_nothing_may_be_admitted_too_much_one_live_key_that_is_evicted_is_told():
    assert named(a_scenario(max_over_admission=0), MEMORY)["RateLimitStorageForgets"] == (
        'sum(increase(rate_limit_storage_harmful_evictions_total{storage_type="memory"}[1h])) > 0'
    )


def test_without_a_required_latency_nothing_is_slow():
    assert "RateLimitStorageSlow" not in named(a_scenario(p99=None), REDIS)


@pytest.mark.parametrize("policy", ["read=read_through", "write=write_around"])
def test_a_hybrid_that_reads_its_store_on_purpose_may_miss(policy):
    storage = f"hybrid+redis://localhost?consistency=eventual&{policy}"
    assert "RateLimitStorageMissesOften" not in named(a_scenario(), storage)
    assert "RateLimitStorageViewsOld" in named(a_scenario(), storage)


def test_where_a_decision_cannot_wait_for_the_store_one_in_a_hundred_may():
    assert named(a_scenario(p99="0.5ms"), HYBRID)["RateLimitStorageMissesOften"].endswith("< 0.99")
    assert named(a_scenario(p99="5ms"), HYBRID)["RateLimitStorageMissesOften"].endswith("< 0.5")


@pytest.mark.parametrize(
    ("storage", "only"),
    [
        (MEMORY, {"Slow", "Forgets", "BackgroundFails"}),
        (REDIS, {"Errors", "Slow", "BreakerOpen"}),
        (POSTGRES, {"Errors", "Slow", "BreakerOpen", "BackgroundFails", "NoUpkeep"}),
        (BY_TIME, {"Errors", "Slow", "BreakerOpen", "BackgroundFails", "NoUpkeep", "NoPartitionAhead"}),
        (f"{POSTGRES}&cleanup_interval=0", {"Errors", "Slow", "BreakerOpen", "BackgroundFails"}),
        (LEASE, {"Errors", "Slow", "Forgets", "BackgroundFails", "BreakerOpen", "Alone", "NoUpkeep"}),
        (
            HYBRID,
            {
                "Errors",
                "Slow",
                "Forgets",
                "BackgroundFails",
                "BreakerOpen",
                "Alone",
                "MissesOften",
                "ViewsOld",
                "FlushesFail",
                "LosesConsumption",
            },
        ),
    ],
)
def test_a_storage_has_the_rules_for_what_can_go_wrong_with_it(storage, only):
    always = {"RateLimitDeniesMore", "RateLimitStorageClocksDiffer"}
    assert set(named(a_scenario(), storage)) == always | {f"RateLimitStorage{name}" for name in only}
