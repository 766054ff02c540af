"""Rules about several servers: PromQL, on what a real cluster and real Sentinels tell an exporter."""

from __future__ import annotations

import promql_parser
import pytest
import redis
import yaml
from configuring import a_scenario
from test_alerts import SHAPE, selectors

from ratesim.recommendation.configuration.alerts import alerts_yaml
from ratesim.recommendation.configuration.redis_alerts import EXPORTED, JOB, redis_alerts
from ratesim.recommendation.configuration.store_size import StoreSize
from ratesim.servers import valkey_cluster, valkey_sentinel

STORAGES = {
    "cluster": ("redis+cluster://localhost", StoreSize(3, 1)),
    "cluster without replicas": ("hybrid+redis+cluster://localhost?consistency=lease", StoreSize(6, 0)),
    "sentinel": ("redis+sentinel://localhost/limits", StoreSize(1, 2)),
}
ALL = [alert for topology in ("cluster", "sentinel") for alert in redis_alerts(topology, StoreSize(3, 1))]


@pytest.mark.parametrize("name", STORAGES)
def test_every_rule_is_one_that_prometheus_takes(name):
    storage, size = STORAGES[name]
    storage_rules, server_rules = yaml.safe_load(alerts_yaml(a_scenario(), storage, "Use it.", size))["groups"]
    assert (storage_rules["name"], server_rules["name"]) == ("ratesim", "ratesim-redis")
    rules = server_rules["rules"]
    assert len({rule["alert"] for rule in rules}) == len(rules) >= 5
    for rule in rules:
        assert set(rule) == SHAPE
        assert isinstance(promql_parser.parse(rule["expr"]), promql_parser.BinaryExpr)
        assert promql_parser.parse_duration(rule["for"]) is not None
        assert rule["labels"]["severity"] in ("page", "ticket")


def test_one_server_has_no_rules_about_several():
    for storage in ("redis://localhost", "postgresql://localhost", "memory://"):
        assert redis_alerts(StoreSize(1, 1).topology(storage), StoreSize(1, 1)) == ()
        assert "ratesim-redis" not in alerts_yaml(a_scenario(), storage, "", StoreSize(1, 1))


def test_every_rule_is_on_the_servers_of_this_store_only():
    for alert in ALL:
        for selector in selectors(alert.expression):
            assert selector.name in EXPORTED
            assert {matcher.name: matcher.value for matcher in selector.matchers.matchers}["job"] == JOB


def test_what_can_be_lost_has_a_rule():
    names = {
        topology: {alert.name for alert in redis_alerts(topology, StoreSize(3, 1))} for topology in ("cluster", "sentinel")
    }
    replicated = {"RateLimitRedisReplicaCutOff", "RateLimitRedisReplicaLags", "RateLimitRedisReplicaMissing"}
    assert names["cluster"] & names["sentinel"] == {"RateLimitRedisDown", "RateLimitRedisFailover"} | replicated
    alone = {alert.name for alert in redis_alerts("cluster", StoreSize(3, 0))}
    assert names["cluster"] - alone == replicated


@pytest.mark.servers
def test_a_cluster_tells_what_the_rules_compare():
    with valkey_cluster(primaries=3, replicas=1) as server:
        told = []
        for member in server.members:
            with redis.Redis.from_url(member.url, decode_responses=True) as client:
                told.append({"INFO": client.info(), "CLUSTER INFO": client.execute_command("CLUSTER INFO")})
    asked = {selector.name for alert in redis_alerts("cluster", StoreSize(3, 1)) for selector in selectors(alert.expression)}
    for name in asked:
        command, field = EXPORTED[name]
        assert not field or any(field in each[command] for each in told), name
    assert all(each["CLUSTER INFO"]["cluster_state"] == "ok" for each in told)
    assert {int(each["CLUSTER INFO"]["cluster_slots_ok"]) for each in told} == {16384}
    assert all("lag" in each["INFO"]["slave0"] for each in told if each["INFO"]["role"] == "master")


@pytest.mark.servers
def test_sentinels_tell_what_the_rules_compare():
    with valkey_sentinel(sentinels=3, replicas=1) as server:
        told = {}
        for member in server.members:
            with redis.Redis.from_url(member.url, decode_responses=True) as client:
                told.setdefault(member.role, []).append(client.info())
                if member.role == "sentinel":
                    (watched,) = client.sentinel_masters().values()
                    others = client.sentinel_sentinels(watched["name"])
                    told.setdefault("SENTINEL SENTINELS", []).append([each["flags"] for each in others])
    for name in ("redis_instance_info", "redis_connected_slaves"):
        assert EXPORTED[name][1] in told["primary"][0]
    assert EXPORTED["redis_master_link_up"][1] in told["replica"][0]
    # The exporter counts those that are not down, and the one that it asks.
    assert [sum("down" not in flags for flags in each) for each in told["SENTINEL SENTINELS"]] == [2, 2, 2]
    assert {each["master0"]["sentinels"] for each in told["sentinel"]} == {3}
