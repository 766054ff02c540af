"""Rules about a PostgreSQL: PromQL, on metrics that an exporter reads from views that a server has."""

from __future__ import annotations

import re

import promql_parser
import pytest
import yaml
from configuring import LEASE, POSTGRES, a_scenario
from test_alerts import SHAPE, selectors

from ratesim.recommendation.configuration.alerts import alerts_yaml
from ratesim.recommendation.configuration.postgres_alerts import COLLECTORS, EXPORTED, JOB, postgres_alerts
from ratesim.recommendation.configuration.store_size import StoreSize
from ratesim.storage import PostgresStorageConfig
from ratesim.storage.partitions import ByHash, ByIdentifier, ByTime
from ratesim.storage.postgres.partitioning import partitions

STRATEGIES = [None, ByHash(3), ByTime("1 day"), ByIdentifier(("free-*", "tenant-*"))]
SIZES = [
    StoreSize(),
    StoreSize(replicas=1),
    StoreSize(replicas=1, standby="remote_apply"),
    StoreSize(replicas=2, standby="on"),
]


@pytest.mark.parametrize("storage", [POSTGRES, LEASE, "postgresql://h?partition=time:1d"])
@pytest.mark.parametrize("size", SIZES)
def test_every_rule_is_one_that_prometheus_takes(storage, size):
    text = alerts_yaml(a_scenario(), storage, "Use it.", size)
    storage_rules, server_rules = yaml.safe_load(text)["groups"]
    assert (storage_rules["name"], server_rules["name"]) == ("ratesim", "ratesim-postgres")
    rules = server_rules["rules"]
    assert len({rule["alert"] for rule in rules}) == len(rules) >= 7
    for rule in rules:
        assert set(rule) == SHAPE
        assert isinstance(promql_parser.parse(rule["expr"]), promql_parser.BinaryExpr)
        assert promql_parser.parse_duration(rule["for"]) is not None
        assert rule["labels"]["severity"] in ("page", "ticket")
    for option in COLLECTORS:
        assert option in text


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("size", SIZES)
def test_every_rule_is_on_the_servers_of_this_store_only(strategy, size):
    for alert in postgres_alerts(PostgresStorageConfig(partition_strategy=strategy), size):
        for selector in selectors(alert.expression):
            assert selector.name in EXPORTED
            assert {matcher.name: matcher.value for matcher in selector.matchers.matchers}["job"] == JOB


def matched(config: PostgresStorageConfig, rule: str) -> re.Pattern[str]:
    """What the label `relname` is compared with in a rule, which Prometheus anchors."""
    (expression,) = [each.expression for each in postgres_alerts(config, StoreSize()) if each.name == rule]
    (found,) = {
        matcher.value for each in selectors(expression) for matcher in each.matchers.matchers if matcher.name == "relname"
    }
    return re.compile(f"(?:{found})$")


@pytest.mark.parametrize("table", ["limits", "l" * 40])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_rows_are_counted_in_every_partition_and_in_no_other_table(strategy, table):
    config = PostgresStorageConfig(table_name=table, partition_strategy=strategy)
    for rule in ("RateLimitPostgresDeadRows", "RateLimitPostgresUpdatesNotHot"):
        relname = matched(config, rule)
        for root in (table, f"{table}_counters"):
            assert relname.match(root)
            assert all(relname.match(name) for name, _ in partitions(strategy, root))
        for other in (f"{table}_denied", f"{table}_schema", "orders", f"{table}2"):
            assert not relname.match(other)
    if isinstance(strategy, ByTime):
        ((default, _),) = partitions(strategy, table)
        assert matched(config, "RateLimitPostgresDefaultPartitionNotEmpty").match(default)


def names(strategy, size: StoreSize) -> set[str]:
    return {alert.name for alert in postgres_alerts(PostgresStorageConfig(partition_strategy=strategy), size)}


def test_what_can_go_wrong_has_a_rule():
    alone = names(None, StoreSize())
    assert names(ByHash(2), StoreSize()) == names(ByIdentifier("a*"), StoreSize()) == alone
    assert names(ByTime("1h"), StoreSize()) - alone == {"RateLimitPostgresDefaultPartitionNotEmpty"}
    assert names(None, StoreSize(replicas=1)) - alone == {
        "RateLimitPostgresFailover",
        "RateLimitPostgresStandbyMissing",
        "RateLimitPostgresStandbyLags",
        "RateLimitPostgresSlotUnused",
    }


def test_the_only_standby_that_answers_wait_for_gets_somebody_up():
    def severity(size: StoreSize) -> str:
        found = postgres_alerts(PostgresStorageConfig(), size)
        return next(each.severity for each in found if each.name == "RateLimitPostgresStandbyMissing")

    assert [severity(size) for size in SIZES[1:]] == ["ticket", "page", "ticket"]
