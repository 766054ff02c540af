"""The size of a choice in words, from its own figures."""

from __future__ import annotations

from dataclasses import replace

from ratesim.recommendation.assess.capacity import Capacity, Load
from ratesim.recommendation.assess.monthly_price import Price
from ratesim.recommendation.decide.size import size_note

REDIS = Capacity(
    candidate="redis",
    store="redis",
    load=Load(1000.0, 100.0),
    keys=10,
    nodes=8,
    operations=1000.0,
    connections=80,
    bytes_to_store=1.0,
    bytes_from_store=1.0,
    store_processors=0.08,
    store_utilization=0.08,
    node_processors=0.1,
    store_bytes=1.0,
    node_bytes=0.0,
    topology="standalone",
    primaries=1,
    servers=1,
    servers_by_processor=1,
    servers_by_memory=1,
    replicas=0,
    sentinels=0,
    server_rate=7500.0,
    server_end=12_500.0,
    hottest_share=0.0,
    hot_server_utilization=0.08,
    hot_key_rate=None,
    hot_key_fits=True,
    over_admitted=0.0,
    outage=None,
    managed_month=None,
    price=Price("USD", 0.0, 0.0, 44.0, 0.0, 0.0, 44.0),
)


def test_one_server_that_is_enough():
    assert size_note(REDIS, REDIS) == (
        "One Redis that decides every request does not end before 12,500 requests per second, in batches as in its run. "
        "The busiest second has 1,000: for that, redis takes one server."
    )


def test_a_cluster_beside_the_one_server_that_it_takes_the_place_of():
    full = replace(REDIS, store_utilization=1.4)
    six = replace(
        REDIS, candidate="six", topology="cluster", servers=6, replicas=1, hot_server_utilization=0.5, load=Load(3e4, 1e4)
    )
    assert size_note(six, full) == (
        "One Redis that decides every request ends at 12,500 requests per second, in batches as in its run. "
        "The busiest second has 30,000: for that, six takes 6 primaries with 1 replica each, the busiest of them busy for "
        "50 % of the time."
    )


def test_a_key_that_no_primary_carries_has_no_size():
    hot = replace(REDIS, candidate="six", topology="cluster", servers=6, hot_key_rate=500.0, hot_key_fits=False)
    assert size_note(hot, None) == (
        "The busiest second has 1,000: no number of primaries carries that for six, since the hottest key alone keeps one "
        "busy for 200 % of the time."
    )


def test_a_lease_has_no_primary_that_is_busier_than_it_can_be():
    lease = replace(REDIS, candidate="lease", topology="cluster", servers=3, hot_server_utilization=2.9)
    assert size_note(lease, None) == "The busiest second has 1,000: for that, lease takes 3 primaries."


def test_a_pair_and_its_sentinels():
    pair = replace(REDIS, candidate="pair", topology="sentinel", replicas=1, sentinels=3)
    assert (
        size_note(pair, None)
        == "The busiest second has 1,000: for that, pair takes one server with 1 replica and 3 Sentinels."
    )


def test_a_postgres_and_its_standby_stand_beside_one_postgres():
    postgres = replace(REDIS, candidate="postgres", store="postgres", hot_server_utilization=None)
    assert size_note(replace(postgres, replicas=1, standby="on"), postgres) == (
        "One PostgreSQL that decides every request does not end before 12,500 requests per second, in batches as in "
        "its run. "
        "The busiest second has 1,000: for that, postgres takes one server with 1 synchronous standby."
    )


def test_what_has_no_store_has_no_size():
    assert size_note(replace(REDIS, store="none"), REDIS) == ""


def test_keys_of_postgres_are_not_spread_over_servers():
    large = replace(REDIS, candidate="postgres", store="postgres", servers=3, servers_by_memory=3, replicas=2, standby="on")
    assert size_note(large, None) == (
        "The busiest second has 1,000: for that, postgres takes one server as large as 3 of those that are priced, with "
        "2 synchronous standbys."
    )
