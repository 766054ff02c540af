"""How many servers a topology takes, what it costs, and what the loss of one primary takes away."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_capacity import EVENTUAL, PRICES, PROFILE, SUMMARY, row, scenario

from ratesim.formatting import format_seconds
from ratesim.recommendation.assess.capacity import Capacity, capacity, scaled
from ratesim.recommendation.assess.resource_needs import log_bytes
from ratesim.recommendation.assess.topology import Spread, hottest_share
from ratesim.simulation.scenario.topology import CLUSTER_VOTE, PROMOTION, SENTINEL_VOTE

ALLOWED = PRICES.redis.most_processor
SHARES = st.floats(0.0, 1.0)
LOADS = st.floats(1e-6, 1e3)


def sized(storage: str = "redis://localhost", times: float = 1.0, hottest: float = 0.0, asked=None, **changes) -> Capacity:
    summary = scaled(SUMMARY | {"top_key_share": hottest}, times)
    return capacity([row(storage, **changes)], asked or scenario(), summary, PRICES, PROFILE)


# A load over primaries -------------------------------------------------------------------------------------------------


@given(busy=LOADS, hottest=SHARES)
def test_no_primary_is_busier_than_is_allowed_unless_one_key_is(busy, hottest):
    spread = Spread(busy, hottest)
    needed = spread.needed(ALLOWED)
    even = spread.busiest(needed) <= ALLOWED * (1 + 1e-6)
    others = busy * (1 - hottest) / max(needed - 1, 1)  # on each primary but that of the hottest key
    assert even or others <= ALLOWED * (1 + 1e-6)
    if even and needed > 1:  # and one fewer is not enough
        assert spread.busiest(needed - 1) > ALLOWED * (1 - 1e-6)


@given(busy=LOADS, hottest=SHARES, more=st.floats(1.0, 100.0))
def test_more_load_never_takes_fewer_primaries(busy, hottest, more):
    assert Spread(busy * more, hottest).needed(ALLOWED) >= Spread(busy, hottest).needed(ALLOWED)


@given(busy=LOADS)
def test_without_a_hot_key_the_load_is_divided(busy):
    assert Spread(busy, 0.0).needed(ALLOWED) == max(1, math.ceil(busy / ALLOWED - 1e-9))


def test_a_node_that_writes_back_asks_for_a_key_twice_in_an_interval_at_most():
    for storage in ("redis://h", "hybrid+redis://h?consistency=strong", "hybrid+redis://h?write=write_through"):
        assert hottest_share(storage, 0.5, 8, 1000.0) == 0.5
    assert hottest_share(f"{EVENTUAL}&sync_interval=1", 0.5, 8, 1000.0) == pytest.approx(2 * 8 / 1000)
    assert hottest_share(f"{EVENTUAL}&sync_interval=1", 0.5, 8, 10.0) == 0.5
    assert hottest_share(EVENTUAL, 0.5, 8, 0.0) == 0.0


# Sizes -----------------------------------------------------------------------------------------------------------------


def test_one_server_ends_where_its_processor_is_busy_all_the_time():
    found = sized(times=100.0)  # 100,000 requests/s of 80 us each
    assert found.server_end == pytest.approx(1 / 8e-5)
    assert found.server_rate == pytest.approx(found.server_end * ALLOWED)
    assert "one server ends at 12,500 of them" in found.sentences[1]
    assert sized("memory://", 100.0).server_end is None


def test_a_cluster_is_as_large_as_its_load():
    found = sized(times=100.0)
    assert (found.topology, found.servers) == ("cluster", math.ceil(100_000 / 7500))
    assert "14 primaries of a cluster, by their processor" in found.sentences[1]
    assert found.price.store == pytest.approx(2 * 14 * sized().price.store)  # with a replica of each


def test_a_hot_key_takes_more_primaries_and_then_none_is_enough():
    warm, hot = (sized(times=30.0, hottest=share) for share in (0.1, 0.5))
    assert sized(times=30.0).servers == 4
    assert (warm.servers, warm.hot_key_fits) == (6, True)  # 2.4 processors, 0.24 of them for one key: 2.16 / 0.36
    assert warm.hot_server_utilization == pytest.approx(2.4 * (0.1 + 0.9 / 6))
    assert warm.hot_server_fits
    assert not hot.hot_key_fits
    assert hot.hot_key_rate == pytest.approx(1 / (8e-5 * 0.5))
    said = " ".join(hot.sentences)
    assert "No number of primaries carries the hottest key" in said
    assert "ends at 25,000 such requests per second" in said
    assert "Only a lease or a hybrid that decides in its nodes" in said
    assert "No number" not in " ".join(warm.sentences)


def test_a_key_that_nearly_fills_a_primary_belongs_on_one_of_its_own():
    found = sized(times=30.0, hottest=0.24)  # 0.576 of the 0.6 that a primary may be busy; even slots would take 76
    assert found.servers == 2 * (1 + 4)
    assert (found.hot_key_fits, found.hot_server_fits) == (True, False)
    assert "its slot belongs on a primary of its own" in " ".join(found.sentences)


def test_what_decides_in_its_nodes_takes_the_hot_key_off_its_primary():
    for storage in (f"{EVENTUAL}&sync_interval=1&l1_ttl=1", "hybrid+redis://h?consistency=lease"):
        found = sized(storage, times=200.0, hottest=0.9, l2_operations_per_request=0.2, l2_busy_per_request=1e-5)
        assert found.hot_key_fits
        assert "No number" not in " ".join(found.sentences)


def test_a_cluster_that_is_named_has_as_many_primaries_as_are_named():
    assert sized(primaries=6).servers == 6
    assert sized(primaries=6).topology == "cluster"
    assert sized(primaries=3, asked=scenario(deployment={"shards": 2})).servers == 3
    assert sized(primaries=math.nan, asked=scenario(deployment={"shards": 2})).servers == 2  # of a table
    assert "one server by the processor, but 3 primaries of a cluster are the least" in sized(primaries=3).sentences[1]
    assert "one server would do of the 6 primaries of a cluster that there are" in sized(primaries=6).sentences[1]


def test_replicas_that_are_named_come_before_those_of_the_prices():
    for asked in (scenario(), scenario(deployment={"type": "high_availability"})):
        assert sized(replicas=2, asked=asked).replicas == 2
        assert sized(replicas=0, asked=asked).replicas == 0
    assert sized(primaries=3, replicas=1).price.store == pytest.approx(6 * sized().price.store)


# Prices ----------------------------------------------------------------------------------------------------------------


def test_a_managed_service_stands_beside_the_machines():
    found = sized(primaries=3, replicas=1)
    assert found.managed_month == pytest.approx(6 * 730 * PRICES.managed_redis.node_hour)
    assert "as a managed service the servers are 440 USD" in found.sentences[-1]
    assert "managed" not in sized().sentences[-1]
    own = PRICES.model_copy(update={"managed_redis": None})
    without = capacity([row(primaries=3)], scenario(), SUMMARY, own, PROFILE)
    assert without.managed_month is None
    assert "managed" not in " ".join(without.sentences)


# Blast radius ----------------------------------------------------------------------------------------------------------


def test_the_loss_of_a_primary_takes_its_share_of_the_keys_for_as_long_as_an_election():
    asked = scenario(deployment={"type": "high_availability", "node_timeout": 5.0 - CLUSTER_VOTE, "replica_lag": 0.2})
    outage = sized(primaries=4, replicas=1, hottest=0.2, asked=asked).outage
    share = 0.2 + 0.8 / 4
    assert (outage.primaries, outage.key_share, outage.seconds) == (4, 0.25, 5.0)
    assert outage.request_share == pytest.approx(share)
    assert outage.requests == pytest.approx(1000 * share * 5.0)
    assert outage.over_admitted == pytest.approx(1000 * share * 0.9 * 0.2)
    assert outage.sentence == (
        "While one of the 4 primaries is down, 25 % of the keys (40 % of the requests, if the hottest key is among them) "
        "get no decision for about 5 s, until a replica has taken over: 2,000 requests. What the replica had not received "
        "is admitted again, at most 72 requests."
    )


def test_without_a_replica_a_primary_is_away_until_it_is_back():
    found = sized(primaries=3, replicas=0)
    assert found.outage.seconds is found.outage.requests is found.outage.over_admitted is None
    assert "get no decision until it is back, and it comes back without what it counted" in " ".join(found.sentences)


def test_a_hybrid_goes_on_by_itself():
    outage = sized(f"{EVENTUAL}&on_store_failure=local", primaries=3, replicas=1).outage
    assert "are without their store, and nodes go on by local for about" in outage.sentence
    strong = sized("hybrid+redis://h?consistency=strong&on_store_failure=fail_closed", primaries=3).outage
    assert "are without their store, and nodes go on by fail_closed until it is back" in strong.sentence
    assert sized("memory://").outage is None


AVAILABLE = scenario(deployment={"type": "high_availability", "replica_lag": 0.2, "election": 30.0})
PG = "postgresql://localhost"


def test_a_postgres_that_comes_back_has_what_it_counted():
    found = sized(PG)
    assert found.outage.sentence == "While the primary is down, all keys get no decision until it is back."
    assert (found.crash.keeps, found.crash.requests) == ("all", 0.0)
    assert "loses nothing that was answered" in " ".join(found.sentences)
    assert sized().crash is sized("memory://").crash is None


def test_answers_that_come_before_the_disk_are_lost_with_the_server():
    found = sized(f"{PG}?synchronous_commit=off").crash
    assert (found.keeps, found.seconds) == ("most", 0.6)
    assert found.requests == pytest.approx(1000 * 0.9 * 0.6)
    assert found.sentence.endswith(
        "in the last 600 ms, since synchronous_commit is off: at most 540 requests are admitted again."
    )


@pytest.mark.parametrize(
    ("limit", "keys", "again"),
    [
        ({"rate": "10/minute"}, 1_000_000, 900 * 60.0),  # what was admitted in the last minute
        ({"rate": "10/minute"}, 100, 100 * 10.0),  # each key its limit
        ({"rate": "10/minute", "algorithm": "token_bucket", "burst": 50}, 100, 100 * 50.0),
    ],
)
def test_unlogged_tables_come_back_empty(limit, keys, again):
    asked = scenario(keys, limit=limit)
    found = sized(f"{PG}?unlogged=true", asked=asked).crash
    assert (found.keeps, found.seconds, found.requests) == ("nothing", None, pytest.approx(again))
    assert "each key has its whole limit again" in found.sentence
    standby = scenario(keys, limit=limit, deployment={"type": "high_availability"})
    assert sized(f"{PG}?unlogged=true", asked=standby).outage.over_admitted == pytest.approx(again)


def test_one_key_takes_its_whole_state_on_the_node_where_it_stays():
    assert sized("memory://", asked=scenario(1), routing="sticky").node_bytes == 400.0
    assert sized("memory://", asked=scenario(17), routing="sticky").node_bytes == 3 * 400.0  # of 8 nodes


def test_a_limit_of_a_cost_holds_as_many_requests_as_that_pays():
    tokens = scenario(100, limit={"rate": "20000/minute"})
    dear = row(f"{PG}?unlogged=true", over_admission=0.1, exact_total=18e6, asked_total=30e6)  # 9,000 admitted: 2,200 each
    found = capacity([dear], tokens, SUMMARY, PRICES, PROFILE)
    assert found.crash.requests == pytest.approx(100 * 20_000 / 2200)
    free = row(f"{PG}?unlogged=true", exact_total=0.0, asked_total=0.0)
    assert capacity([free], tokens, SUMMARY, PRICES, PROFILE).crash.requests == pytest.approx(900 * 60.0)


def test_a_standby_that_nobody_waits_for_is_behind_and_one_that_answers_wait_for_is_not():
    behind = sized(PG, asked=AVAILABLE, replicas=1, standby="")
    assert (behind.replicas, behind.standby, behind.outage.seconds) == (1, "", 30.0 + PROMOTION)
    assert behind.outage.over_admitted == pytest.approx(1000 * 0.9 * 0.2)
    assert "at most 180 requests" in behind.outage.sentence
    unflushed = sized(f"{PG}?synchronous_commit=off", asked=AVAILABLE, replicas=1, standby="")
    assert unflushed.outage.over_admitted == pytest.approx(1000 * 0.9 * (0.2 + 0.6))  # only what is on the disk is sent
    storage = f"{PG}?synchronous_commit=remote_apply"
    waits = sized(storage, replicas=1, standby="remote_apply")
    assert (waits.replicas, waits.standby, waits.outage.over_admitted) == (1, "remote_apply", 0.0)
    assert "Answers wait for the replica" in waits.outage.sentence
    assert "While no replica answers, no request that would be admitted gets its decision" in waits.outage.sentence
    assert "with 1 synchronous standby" in waits.sentences[1]


def test_a_standby_is_a_second_server_that_is_told_of_every_change():
    alone, pair = sized(PG, replicas=0), sized(PG, replicas=1, standby="on")
    assert pair.price.store == 2 * alone.price.store
    replicated = 100 * 300.0 * 730 * 3600 / 1e9 * PRICES.network["cross_zone"]
    assert pair.price.network - alone.price.network == pytest.approx(replicated)
    managed = PRICES.managed_postgres
    each = 730 * managed.node_hour + PRICES.postgres.disk_gb * managed.disk_gb_month
    assert (alone.managed_month, pair.managed_month) == (pytest.approx(each), pytest.approx(2 * each))
    assert "as a managed service the servers are" in alone.sentences[-1]


def test_a_disk_holds_the_table_its_dead_rows_and_the_log():
    found = sized(PG)
    assert found.disk_bytes == pytest.approx(1.5 * 500e6 + max(2**30, 2 * (1000 * 300 * 900 + 500e6)))
    small = PRICES.model_copy(update={"postgres": PRICES.postgres.model_copy(update={"disk_gb": 2.5})})
    large = capacity([row(PG, replicas=1, standby="on")], scenario(), SUMMARY, small, PROFILE)
    assert large.servers_by_memory == 3
    # Nothing spreads keys over servers of PostgreSQL.
    assert "one server as large as 3 of those that are priced, by its memory" in large.sentences[1]
    assert large.sentences[1].endswith("with 1 synchronous standby.")
    assert sized(PG, replicas=1, standby="on").disk_bytes == pytest.approx(found.disk_bytes + 4 * 2**30)  # a slot's
    assert sized().disk_bytes is None


@given(one=st.floats(0, 1e6), more=st.floats(0, 1e6), size=st.floats(0, 1e12))
def test_more_changes_never_take_less_log(one, more, size):
    assert log_bytes(one, size) <= log_bytes(one + more, size)
    assert log_bytes(one, size) <= log_bytes(one, size + more)


def test_a_log_has_no_more_pages_than_change():
    assert log_bytes(1000.0, 1e12) == log_bytes(1000.0, 1000 * 900 * 8192.0) == 2 * 1000 * 900 * (300 + 8192)
    assert log_bytes(math.nan, 3e9) == 6e9


def test_a_pair_with_sentinels_is_two_servers_and_three_small_machines():
    found = sized("redis+sentinel://localhost/limits")
    assert (found.topology, found.servers, found.replicas, found.sentinels) == ("sentinel", 1, 1, 3)
    assert found.price.store == pytest.approx(2 * sized().price.store + 3 * PRICES.sentinel.month(730))
    assert "with 1 replica each and 3 Sentinels" in found.sentences[1]
    away = format_seconds(30.0 + SENTINEL_VOTE)
    assert f"While the primary is down, all keys get no decision for about {away}" in " ".join(found.sentences)
    assert found.outage.seconds == pytest.approx(30.0 + SENTINEL_VOTE)


def test_a_replica_without_anything_that_promotes_it_is_said_to_be_one():
    available = scenario(deployment={"type": "high_availability"})
    for storage, by in (("redis://localhost", "Sentinels"), ("postgresql://localhost", "Patroni")):
        assert by in " ".join(sized(storage, asked=available).sentences)
        assert "not in the price" not in " ".join(sized(storage).sentences)
    for storage in ("redis+sentinel://localhost/limits", "redis+cluster://localhost", "memory://"):
        assert "not in the price" not in " ".join(sized(storage, asked=available).sentences)


@pytest.mark.parametrize("storage", ["redis+sentinel://localhost/limits", "redis://localhost/2", "unix:///run/valkey.sock"])
def test_a_load_above_one_server_is_that_of_a_cluster_whatever_the_url_names(storage):
    found = sized(storage, times=5 * sized(storage).server_rate / SUMMARY["peak_rate"])
    assert (found.topology, found.servers, found.replicas, found.sentinels) == ("cluster", 5, 1, 0)
    assert found.outage.seconds == pytest.approx(15.0 + CLUSTER_VOTE)


def test_a_cluster_that_names_no_number_has_three_primaries_and_a_replica_of_each():
    found = sized("redis+cluster://localhost")
    assert (found.topology, found.servers, found.replicas) == ("cluster", 3, 1)
    assert found.outage.seconds == pytest.approx(15.0 + CLUSTER_VOTE)
    assert found.sentinels == 0
