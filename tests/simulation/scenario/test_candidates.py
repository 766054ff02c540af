"""The catalogue: everything that differs, nothing twice."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from ratesim import Scenario
from ratesim.simulation.scenario.candidates import INTERVALS, MANY_KEYS, default_candidates, partitioned_candidate
from ratesim.storage import StorageURL, config
from ratesim.storage.partitions import parse_partition

DOCS = Path(__file__).parents[3] / "docs" / "hybrid.md"


def asked(nodes: int = 8, **more: object) -> Scenario:
    return Scenario.of(
        {
            "workload": {"requests_per_second": 10},
            "limit": {"rate": "10/minute"},
            "deployment": {"nodes": nodes},
            **more,
        }
    )


def hybrids(store: str) -> list[config.HybridStorageConfig]:
    parsed = [
        StorageURL.parse(each.storage) for each in default_candidates(asked()) if each.storage.startswith(f"hybrid+{store}")
    ]
    return [each.hybrid for each in parsed if each.hybrid is not None]


def test_every_candidate_has_a_name_and_a_storage_of_its_own() -> None:
    found = default_candidates(asked())
    assert len({each.name for each in found}) == len(found)
    assert len({(each.storage, each.routing) for each in found}) == len(found)


def test_all_of_the_36_combinations_that_differ_are_there_and_no_two_that_coincide() -> None:
    letters = {}
    for line in re.findall(r"^\| (write_\w+) \| (\w+) \| (\w) \| (\w) \| (\w) \|$", DOCS.read_text("utf-8"), re.MULTILINE):
        write, read, *of = line
        for consistency, letter in zip(("strong", "eventual", "session"), of, strict=True):
            letters[consistency, write, read] = letter
    assert len(letters) == 36
    seen = {(each.consistency, each.write, each.read) for each in hybrids("redis") if each.consistency != "lease"}
    assert sorted(letters[each] for each in seen) == sorted(set(letters.values()))


def test_intervals_go_from_10_ms_to_10_s() -> None:
    common = [each for each in hybrids("redis") if each.consistency == "eventual" and each.write == "write_back"]
    assert {each.sync_interval for each in common} == set(INTERVALS) == {0.01, 0.1, 1.0, 10.0}
    assert {each.l1_ttl for each in common if each.read == "cache_aside"} == {*INTERVALS, 300.0}  # and long views


@pytest.mark.parametrize("store", ["redis", "postgresql"])
def test_every_consistency_competes_over_every_store(store: str) -> None:
    assert {each.consistency for each in hybrids(store)} == set(get_args(config.Consistency))


def test_a_single_node_has_no_routing_to_choose_and_a_scenario_may_name_its_own() -> None:
    assert "memory, sticky" not in {each.name for each in default_candidates(asked(nodes=1))}
    own = asked(candidates=[{"name": "mine", "storage": "memory://"}])
    assert [each.name for each in default_candidates(own)] == ["mine"]


def test_none_of_them_is_refused_by_the_storage_it_names() -> None:
    for each in default_candidates(asked()):
        StorageURL.parse(each.storage)


def names(**more: object) -> list[str]:
    return [each.name for each in default_candidates(asked(**more))]


def test_clusters_and_sentinel_compete_where_availability_or_the_load_asks() -> None:
    usual = names()
    assert not [name for name in usual if "cluster" in name or "sentinel" in name]
    clusters = [
        "redis cluster, 3 primaries",
        "redis cluster, 6 primaries",
        "hybrid over cluster lease 1 s",
        "hybrid over cluster eventual 100 ms",
    ]
    assert names(deployment={"type": "high_availability"}) == [
        *usual,
        "redis sentinel",
        *clusters,
        "postgres, synchronous standby",
    ]
    busy = {"requests_per_second": 200_000, "duration": 1}
    assert names(workload=busy) == [*usual, *clusters]
    assert names(workload={"requests_per_second": 19_000, "duration": 1}) == usual
    assert names(workload={**busy, "requests_per_second": 30_000}, deployment={"shards": 4}) == usual, "four carry that"
    assert names(workload={"clients": {"users": 100_000, "think": 1}, "duration": 1}) == [*usual, *clusters]
    for each in default_candidates(asked(workload=busy)):
        assert each.primaries == (6 if "6" in each.name else 3 if "cluster" in each.name else None)


def test_a_standby_competes_where_durability_is_asked_for_and_partitions_where_keys_are_many() -> None:
    usual = names()
    durable = names(requirements={"persistence": "durable"})
    assert durable == [*usual, "postgres, synchronous standby"]
    many = names(requirements={"key_count": MANY_KEYS})
    assert many == [*usual, "postgres, partition time:1d", "postgres, partition hash:16"]
    for each in default_candidates(asked(requirements={"persistence": "durable", "key_count": MANY_KEYS})):
        config = StorageURL.parse(each.storage).config
        if "partition" in each.name:
            assert str(config.partition_strategy) in each.name
        if "standby" in each.name:
            assert (config.synchronous_commit, each.replicas) == ("remote_apply", 1)


@pytest.mark.parametrize("strategy", ["hash:4", "time:60s", "identifier:tenant-*,free-*", "identifier:a/b*"])
def test_the_name_of_a_partitioned_candidate_says_its_strategy(strategy: str) -> None:
    found = partitioned_candidate(strategy)
    assert strategy.replace("*", "").replace("/", "") in found.name
    assert StorageURL.parse(found.storage).config.partition_strategy == parse_partition(strategy)
