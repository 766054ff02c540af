"""The rule table of the baseline: every row, their order, and that it needs no traffic."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import pytest

import ratesim
from ratesim import Limit
from ratesim.recommendation.baseline.rule_table import (
    DataRequirements,
    DeploymentType,
    LatencyTarget,
    PerformanceRequirements,
    PersistenceLevel,
    RuleResult,
    StorageRecommendation,
    baseline_choice,
    recommend_by_rules,
    to_requirements,
)
from ratesim.server_url import redis_topology
from ratesim.simulation.scenario.scenario import Deployment, Requirements
from ratesim.storage import (
    HybridStorageConfig,
    MemoryStorageConfig,
    PostgresStorageConfig,
    RedisStorageConfig,
    StorageURL,
    open_storage,
)
from ratesim.storage.partitions import ByHash, ByIdentifier, ByTime
from ratesim.storage.urls import named_options, url_name

QUESTIONS = list(itertools.product(LatencyTarget, DeploymentType, PersistenceLevel))


def ruled(latency: LatencyTarget, deployment: DeploymentType, persistence: PersistenceLevel) -> RuleResult:
    return recommend_by_rules(PerformanceRequirements(latency), deployment, DataRequirements(persistence))


def by_name(latency: str, deployment: str, persistence: str) -> RuleResult:
    return ruled(LatencyTarget[latency], DeploymentType(deployment), PersistenceLevel(persistence))


def test_below_a_millisecond_it_is_memory_whatever_else_is_asked():
    bounded = MemoryStorageConfig(max_entries=1_000_000, eviction_policy="AdaptiveLRU", memory_limit=512 * 1024 * 1024)
    for _, deployment, persistence in QUESTIONS:
        answer = ruled(LatencyTarget.SUB_MILLISECOND, deployment, persistence)
        assert (answer.backend, answer.config) == ("memory", bounded)


def test_a_single_instance_without_persistence_is_memory_by_default():
    answer = by_name("RELAXED", "single_instance", "none")
    assert (answer.backend, answer.config, answer.url) == ("memory", MemoryStorageConfig(), "memory://")


def test_a_cluster_with_session_persistence_is_a_hybrid():
    answer = by_name("MILLISECONDS", "clustered", "session")
    assert answer.backend == "hybrid"
    assert answer.config == HybridStorageConfig(write="write_back", read="cache_aside", consistency="eventual")


def test_high_availability_with_durability_is_postgres():
    answer = by_name("MILLISECONDS", "high_availability", "durable")
    assert (answer.backend, answer.config) == ("postgres", PostgresStorageConfig(partition_strategy=ByTime("1 day")))
    assert answer.url.endswith("?partition=time:1d")


REST = [
    ("single_instance", "session"),
    ("single_instance", "durable"),
    ("clustered", "none"),
    ("clustered", "durable"),
    ("high_availability", "none"),
    ("high_availability", "session"),
]


@pytest.mark.parametrize(("deployment", "persistence"), REST)
def test_all_else_is_redis(deployment, persistence):
    answer = by_name("TENS_OF_MILLISECONDS", deployment, persistence)
    assert (answer.backend, answer.config) == ("redis", RedisStorageConfig(cluster_mode=True, compression="snappy"))
    assert redis_topology(StorageURL.parse(answer.url).config.url) == "cluster"


def test_the_rows_above_and_the_rest_are_all_that_can_be_asked():
    assert len(REST) + 3 == len(DeploymentType) * len(PersistenceLevel)


def test_the_first_row_that_fits_answers():
    """High availability that must be durable, below a millisecond, fits the first row and the fourth."""
    assert by_name("SUB_MILLISECOND", "high_availability", "durable").rule == "a latency target below 1 ms"
    assert by_name("MILLISECONDS", "high_availability", "durable").rule == "high availability with durable persistence"


@pytest.mark.parametrize(
    ("p99", "level"),
    [
        (1e-9, "SUB_MILLISECOND"),
        (0.000999, "SUB_MILLISECOND"),
        (0.001, "MILLISECONDS"),
        (0.01, "TENS_OF_MILLISECONDS"),
        (0.1, "RELAXED"),
        (1e9, "RELAXED"),
        (None, "RELAXED"),
    ],
)
def test_a_target_is_the_level_whose_bound_it_is_below(p99, level):
    assert LatencyTarget.of(p99) is LatencyTarget[level]


def test_a_target_that_is_no_time_is_refused():
    for p99 in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="seconds above 0"):
            LatencyTarget.of(p99)


@pytest.mark.parametrize("question", QUESTIONS)
def test_an_answer_is_the_same_every_time_and_its_url_is_its_configuration(question):
    answer = ruled(*question)
    assert answer == ruled(*question)
    parsed = StorageURL.parse(answer.url)
    assert (parsed.hybrid or parsed.config) == answer.config
    assert answer.sentence.startswith(f"The rule-of-thumb baseline chooses {answer.backend} ({answer.rule}).")


async def test_the_url_of_a_memory_opens():
    async with open_storage(by_name("SUB_MILLISECOND", "clustered", "none").url) as storage:
        assert (await storage.acquire("user", Limit.parse("1/minute"))).allowed
        assert not (await storage.acquire("user", Limit.parse("1/minute"))).allowed


async def test_the_postgres_of_the_table_has_a_partition_for_each_day(postgres_server):
    query = by_name("RELAXED", "high_availability", "durable").url.partition("?")[2]
    async with open_storage(f"{postgres_server.url}&{query}&table_name=rule_table") as storage:
        assert (await storage.acquire("user", Limit.parse("1/minute"))).allowed
        assert not (await storage.acquire("user", Limit.parse("1/minute"))).allowed


async def test_the_options_of_the_default_row_are_those_of_a_cluster(valkey_cluster_server):
    query = by_name("RELAXED", "clustered", "none").url.partition("?")[2]
    async with open_storage(f"{valkey_cluster_server.url}?{query}&key_prefix=rule-table:") as storage:
        for user in range(20):  # on every shard
            assert (await storage.acquire(f"user:{user}", Limit.parse("1/minute"))).allowed
            assert not (await storage.acquire(f"user:{user}", Limit.parse("1/minute"))).allowed


def test_an_answer_says_what_it_does_not_keep():
    assert by_name("SUB_MILLISECOND", "clustered", "durable").caveats == (
        "no node sees what the others admitted",
        "the persistence is none, and durable was asked",
    )
    assert by_name("RELAXED", "clustered", "durable").caveats == ("the persistence is session, and durable was asked",)
    for question in (("RELAXED", "single_instance", "none"), ("RELAXED", "clustered", "session")):
        assert by_name(*question).caveats == ()


def test_a_scenario_asks_by_its_p99_its_type_and_its_persistence():
    requirements = Requirements(p99="0.9ms", persistence="durable", max_over_admission="1%")
    question = to_requirements(requirements, Deployment(type="high_availability"))
    assert question == (
        PerformanceRequirements(LatencyTarget.SUB_MILLISECOND),
        DeploymentType.HIGH_AVAILABILITY,
        DataRequirements(PersistenceLevel.DURABLE),
    )
    short = baseline_choice(requirements, Deployment(type="high_availability"))
    ruled = StorageRecommendation.recommend_storage(*question)
    assert (short.backend, short.rule, short.storage) == ("memory", ruled.rule, ruled.url)


def test_every_deployment_and_persistence_of_a_scenario_has_its_name_here():
    kinds = Deployment.model_fields["type"].annotation.__args__
    levels = Requirements.model_fields["persistence"].annotation.__args__
    assert [each.value for each in DeploymentType] == list(kinds)
    assert [each.value for each in PersistenceLevel] == list(levels)


# The options of PostgreSQL that the table was drawn up with, and the strategies, with a value of each.
OPTIONS = {
    "database_url": ("url", "postgresql://db.example/limits"),
    "pool_size": ("pool_size", 7),
    "connection_timeout": ("connection_timeout", 2.5),
    "query_timeout": ("query_timeout", 1.5),
    "table_name": ("table_name", "limits"),
    "partition_strategy": ("partition_strategy", ByHash(16)),
    "cleanup_batch_size": ("cleanup_batch_size", 500),
}
STRATEGIES = {
    "None": ("none", None),
    "ByTime": ("time:1d", ByTime("1 day")),
    "ByHash": ("hash:16", ByHash(16)),
    "ByIdentifier": ("identifier:tenant-*", ByIdentifier("tenant-*")),
}


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_of_the_sketch_is_one_here_and_in_a_url(option):
    name, value = OPTIONS[option]
    assert getattr(PostgresStorageConfig(**{name: value}), name) == value
    if name != "url":
        parsed = StorageURL.parse(f"postgresql://h?{url_name(name)}={value}").config
        assert getattr(parsed, name) == value


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_of_the_sketch_is_one_here_in_a_url_and_in_a_file(strategy):
    text, value = STRATEGIES[strategy]
    url = f"postgresql://h?partition={text}"
    assert StorageURL.parse(url).config == PostgresStorageConfig(url="postgresql://h", partition_strategy=value)
    assert named_options(url) == {"partition": text}


def test_the_table_needs_neither_pandas_nor_simpy():
    heavy = "{'pandas', 'simpy', 'numba', 'pydantic', 'traffic', 'matplotlib'} & set(sys.modules)"
    program = f"import sys, ratesim.recommendation.baseline.rule_table as r; r.recommend_by_rules; print({heavy} or 'none')"
    run = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(ratesim.__file__).parent.parent,
    )
    assert run.stdout == "none\n"
