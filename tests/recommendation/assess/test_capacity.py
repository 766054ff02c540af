"""Capacity and price: every figure worked out again by hand, and laws that any price must keep."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pandas as pd
import pytest

from ratesim.recommendation.assess.capacity import Capacity, capacities, capacity, scaled
from ratesim.recommendation.assess.prices import Prices
from ratesim.recommendation.assess.resource_needs import RECORD, WATERMARK
from ratesim.simulation.cost_model.profile import BackendCosts, Cost, Profile
from ratesim.simulation.runner import run
from ratesim.simulation.scenario.scenario import Candidate, Scenario
from traffic import Trace

PRICES = Prices.load()
PROFILE = Profile(
    machine="a machine",
    measured="2026-11-28",
    versions={},
    backends={
        "memory": BackendCosts(client_cpu=4e-6, bytes_per_key={"sliding_window": 400.0}),
        "redis": BackendCosts(client_cpu=3e-4, concurrency=1, bytes_per_key={"sliding_window": 300.0}),
        "postgres": BackendCosts(client_cpu=4e-4, concurrency=2, bytes_per_key={"sliding_window": 500.0}),
    },
)
SUMMARY = {"requests": 10_000, "duration": 100.0, "mean_rate": 100.0, "peak_rate": 1000.0}
EVENTUAL = "hybrid+redis://localhost?consistency=eventual"
STORAGES = {
    "memory": "memory://",
    "redis": "redis://localhost",
    "postgres": "postgresql://localhost",
    "strong": "hybrid+redis://localhost?consistency=strong",
    "eventual": EVENTUAL,
    "lease": "hybrid+postgresql://localhost?consistency=lease",
}


def scenario(keys: int = 1_000_000, **changes) -> Scenario:
    data = {
        "workload": {"requests_per_second": 100.0, "duration": 100.0},
        "limit": {"rate": "10/minute"},
        "deployment": {"nodes": 8},
        "requirements": {"key_count": keys},
    }
    for part, values in changes.items():
        data[part] = {**data.get(part, {}), **values}
    return Scenario.of(data)


def row(storage: str = "redis://localhost", **changes) -> dict:
    """A run of 10,000 requests in 100 s that asks the store once for each."""
    local = storage == "memory://"
    return {
        "candidate": "one",
        "storage": storage,
        "routing": "round_robin",
        "seed": 1,
        "requests": 10_000,
        "admitted": 9000,
        "simulated_seconds": 100.0,
        "l2_operations_per_request": 0.0 if local else 1.0,
        "l2_busy_per_request": 0.0 if local else 8e-5,
        "utilization": 0.2,
        "bytes_to_store_per_request": 0.0 if local else 200.0,
        "bytes_from_store_per_request": 0.0 if local else 50.0,
        "node_utilization": 0.0025,
        "over_admission": 0.0,
        "false_denial": 0.0,
        "exact_total": 9000.0,
        "asked_total": 10_000.0,
    } | changes


def of(storage: str = "redis://localhost", asked: Scenario | None = None, times: float = 1.0, **changes) -> Capacity:
    return capacity([row(storage, **changes)], asked or scenario(), scaled(SUMMARY, times), PRICES, PROFILE)


# What it needs ---------------------------------------------------------------------------------------------------------


def test_the_store_is_sized_for_the_busiest_second():
    found = of()
    assert (found.load.peak, found.load.mean) == (1000.0, 100.0)
    assert found.operations == 1000.0
    assert found.store_processors == pytest.approx(1000 * 8e-5)
    assert found.store_utilization == pytest.approx(0.08)
    assert (found.bytes_to_store, found.bytes_from_store) == (200_000.0, 50_000.0)


def test_utilization_is_of_what_the_store_serves_at_once():
    assert of("postgresql://localhost").store_utilization == pytest.approx(0.08 / 2)
    cluster = scenario(deployment={"shards": 4})
    assert of(asked=cluster).store_utilization == pytest.approx(0.08 / 4)
    assert of("postgresql://localhost", cluster).servers == 1  # only a Redis is cut into shards


def test_a_server_that_a_run_left_idle_bears_what_a_busy_one_does():
    costs = PROFILE.backends | {"redis": BackendCosts(client_cpu=3e-4, fixed=2e-5, item=2e-5)}
    warm = msgspec.structs.replace(PROFILE, backends=costs)
    cold = row(l2_busy_per_request=3e-4, utilization=0.001)
    found = capacity([cold], scenario(), SUMMARY, PRICES, warm)
    assert found.store_processors == pytest.approx(1000 * 4e-5)
    assert found.server_end == pytest.approx(PRICES.redis.deciding / 4e-5)
    busy = capacity([cold | {"utilization": 0.3}], scenario(), SUMMARY, PRICES, warm)
    assert busy.server_end == pytest.approx(PRICES.redis.deciding / 3e-4)


def test_connections_are_those_of_all_nodes_together():
    assert of("redis://localhost?pool_size=7").connections == 8 * 7
    assert of(f"{EVENTUAL}&pool_size=3").connections == 8 * 3
    assert of("memory://").connections == 0


def test_more_connections_than_a_server_takes_by_default_are_said():
    many = of("postgresql://localhost?pool_size=20")
    assert "160 connections, more than the 100 that PostgreSQL takes unless told otherwise" in many.sentences[0]
    assert "more than" not in of("postgresql://localhost").sentences[0]


def test_nodes_work_in_the_peak_in_proportion_to_their_mean_work():
    # 8 nodes, each busy for 0.25 % of 100 s: 2 s for 10,000 requests; 1000 of them in a second.
    assert of().node_processors == pytest.approx(1000 * 2.0 / 10_000)


def test_a_hybrid_that_decides_in_memory_spends_a_decision_there_on_top():
    assert of(EVENTUAL).node_processors == pytest.approx(1000 * (2.0 / 10_000 + 4e-6))
    assert of(STORAGES["strong"]).node_processors == of().node_processors


def test_what_a_request_takes_is_the_mean_of_the_seeds():
    rows = [row(l2_busy_per_request=busy, seed=seed) for seed, busy in enumerate((6e-5, 8e-5, 1e-4))]
    assert capacity(rows, scenario(), SUMMARY, PRICES, PROFILE).store_processors == pytest.approx(0.08)


def test_clients_that_retry_are_a_load_in_the_peak_as_well():
    retrying = scenario(workload={"clients": {"retry": "at_once"}})
    found = of(asked=retrying, requests=25_000)
    assert (found.load.peak, found.load.mean) == (2500.0, 250.0)


@pytest.mark.parametrize("mean", [math.inf, 50_000.0])
def test_a_trace_that_takes_less_than_a_second_has_a_finite_load(mean):
    found = capacity([row()], scenario(), SUMMARY | {"mean_rate": mean}, PRICES, PROFILE)
    assert found.load.peak >= found.load.mean
    assert math.isfinite(found.price.per_month)


# Memory ----------------------------------------------------------------------------------------------------------------


def test_a_store_holds_every_key_and_each_node_of_a_memory_may_know_all():
    assert of().store_bytes == 1_000_000 * 300.0
    assert of().node_bytes == 0.0
    assert of("memory://").node_bytes == 1_000_000 * 400.0
    assert of("memory://", routing="sticky").node_bytes == 1_000_000 * 400.0 / 8


def test_a_hybrid_has_keys_in_both_with_what_it_must_know_of_them():
    found = of(EVENTUAL)
    assert found.store_bytes == 1_000_000 * (300.0 + 8 * WATERMARK["redis"])
    assert found.node_bytes == 1_000_000 * (400.0 + RECORD["eventual"])
    at_one = of(EVENTUAL, routing="key_hash")
    assert at_one.store_bytes == 1_000_000 * (300.0 + WATERMARK["redis"])
    assert at_one.node_bytes == 1_000_000 / 8 * (400.0 + RECORD["eventual"])
    over_postgres = of(STORAGES["lease"])
    assert over_postgres.store_bytes == 1_000_000 * (500.0 + 8 * WATERMARK["postgres"])
    assert over_postgres.node_bytes == 1_000_000 * (400.0 + RECORD["lease"])
    assert of(STORAGES["strong"]).node_bytes == 0.0


@pytest.mark.parametrize("storage", STORAGES.values())
def test_memory_grows_linearly_with_the_keys(storage):
    few, many = (of(storage, scenario(keys)) for keys in (1000, 50_000))
    assert many.store_bytes == pytest.approx(50 * few.store_bytes)
    assert many.node_bytes == pytest.approx(50 * few.node_bytes)
    assert many.price.node_memory == pytest.approx(50 * few.price.node_memory)


def test_a_node_takes_no_more_than_its_bounds():
    assert of("memory://?max_entries=1000").node_bytes == 1000 * 400.0
    assert of("memory://?memory_limit=50000").node_bytes == 50_000.0
    assert of(f"{EVENTUAL}&max_entries=1000").node_bytes == 1000 * (400.0 + RECORD["eventual"])


def test_an_algorithm_whose_keys_were_not_measured_has_no_memory_in_its_price():
    for storage in STORAGES.values():
        found = of(storage, scenario(limit={"algorithm": "gcra"}))
        assert found.store_bytes is None or found.store == "none"
        assert found.price.node_memory == 0.0
        assert "not measured" in " ".join(found.sentences) or found.node_bytes == 0.0
        assert math.isfinite(found.price.per_month)


# Price -----------------------------------------------------------------------------------------------------------------


def test_a_price_by_hand():
    found = of(asked=scenario(deployment={"network": "cross_zone"}))
    server = 730 * (1 * 0.03 + 2 * 0.015)
    node = 1000 * 2.0 / 10_000 * 0.04 * 730
    network = 100 * (200 + 50) * 730 * 3600 / 1e9 * 0.01
    assert found.price.store == pytest.approx(server)
    assert found.price.node_processor == pytest.approx(node)
    assert found.price.network == pytest.approx(network)
    assert found.price.node_memory == found.price.wrong_decisions == 0.0
    assert found.price.per_month == pytest.approx(server + node + network)
    assert found.price.currency == "USD"


def test_memory_has_no_store():
    found = of("memory://")
    assert (found.store, found.servers, found.operations, found.price.store, found.price.network) == (
        "none",
        0,
        0.0,
        0.0,
        0.0,
    )
    assert found.server_rate is None
    assert found.price.node_memory == pytest.approx(8 * 0.4 * 0.005 * 730)
    assert "no server is asked" in found.sentences[0]


def test_a_small_redis_costs_one_server_however_little_it_does():
    assert of(times=1e-6).servers == 1
    assert of(times=1e-6).price.store == of().price.store


def test_many_operations_take_more_servers():
    # One carries 0.6 / 8e-5 = 7500 requests/s.
    assert of().server_rate == pytest.approx(7500.0)
    # Two are no cluster: nobody could be elected when one is gone.
    assert [of(times=times).servers_by_processor for times in (7.5, 7.51, 15.0, 15.01, 30.0)] == [1, 2, 2, 3, 4]
    assert [of(times=times).servers for times in (7.5, 7.51, 15.0, 15.01, 30.0)] == [1, 3, 3, 3, 4]
    assert of("postgresql://localhost", times=15.0).servers == 1  # on two processors


def test_many_keys_take_more_servers():
    # One has room for 0.7 * 2e9 / 300 = 4,666,666 keys.
    assert [of(asked=scenario(keys)).servers for keys in (4_666_666, 4_666_667)] == [1, 3]
    assert (
        "2 servers by the memory, but 3 primaries of a cluster are the least" in of(asked=scenario(4_666_667)).sentences[1]
    )
    assert "5 primaries of a cluster, by their memory" in of(asked=scenario(4 * 4_666_667)).sentences[1]
    assert of("postgresql://localhost", scenario(16_000_000)).servers == 2  # which is not cut


@pytest.mark.parametrize(
    ("storage", "replicas"),
    [
        ("redis://localhost", 1),
        ("redis+sentinel://localhost/limits", 1),
        ("redis+cluster://localhost", 1),
        ("postgresql://localhost", 1),
        ("hybrid+postgresql://localhost?consistency=lease", 1),
        ("memory://", 0),
    ],
)
def test_every_store_that_is_highly_available_pays_for_its_replicas(storage, replicas):
    data = {"workload": {"requests_per_second": 20, "duration": 5}, "limit": {"rate": "10/second"}}
    asked = Scenario.of({**data, "deployment": {"type": "high_availability", "nodes": 2}})
    trace = asked.trace()
    found = run(asked, Candidate(name="one", storage=storage), trace=trace, profile=MEASURED).row()
    sized = capacity([found], asked, trace.summary(), PRICES, MEASURED)
    assert sized.replicas == replicas
    if replicas:
        server = PRICES.server(sized.store).month(PRICES.hours_per_month)
        watched = sized.sentinels * PRICES.sentinel.month(PRICES.hours_per_month)
        assert sized.price.store == pytest.approx(sized.servers * 2 * server + watched)


def test_shards_and_replicas_are_servers():
    assert of(asked=scenario(deployment={"shards": 4})).servers == 4
    available = of(asked=scenario(deployment={"type": "high_availability"}))
    assert (available.servers, available.replicas) == (1, 1)
    assert available.price.store == 2 * of().price.store
    # 450 bytes for each of 100 requests a second, to another zone.
    replicated = 100 * 450.0 * 730 * 3600 / 1e9 * 0.01
    assert available.price.network - of().price.network == pytest.approx(replicated)
    assert "with 1 replica each" in available.sentences[1]


def test_a_wrong_decision_costs_what_the_reader_says():
    dear = PRICES.model_copy(update={"over_admitted_request": 0.001})
    wrong = row(over_admission=0.05)  # of 9000 that were due: 450 of 10,000 requests
    found = capacity([wrong], scenario(), SUMMARY, dear, PROFILE)
    assert found.over_admitted == pytest.approx(100 * 0.045)
    assert found.price.wrong_decisions == pytest.approx(100 * 0.045 * 730 * 3600 * 0.001)
    assert capacity([wrong], scenario(), SUMMARY, PRICES, PROFILE).price.wrong_decisions == 0.0


def test_where_nothing_was_due_all_that_was_admitted_is_wrong():
    nothing = row(over_admission=math.inf, exact_total=0.0, admitted=500)
    assert capacity([nothing], scenario(), SUMMARY, PRICES, PROFILE).over_admitted == pytest.approx(100 * 0.05)
    free = row(asked_total=0.0, exact_total=0.0)
    assert capacity([free], scenario(), SUMMARY, PRICES, PROFILE).over_admitted == 0.0


@pytest.mark.parametrize("storage", STORAGES.values())
def test_twice_the_load_never_costs_less(storage):
    prices = PRICES.model_copy(update={"over_admitted_request": 0.001})
    asked = scenario(deployment={"network": "cross_region"})
    paid = [
        capacity([row(storage, over_admission=0.01)], asked, scaled(SUMMARY, 2.0**n), prices, PROFILE).price.per_month
        for n in range(-4, 12)
    ]
    assert paid == sorted(paid)
    assert paid[-1] > paid[0]


@pytest.mark.parametrize("storage", STORAGES.values())
def test_no_key_more_ever_costs_less(storage):
    paid = [of(storage, scenario(10**n)).price.per_month for n in range(9)]
    assert paid == sorted(paid)


# Tables and words ------------------------------------------------------------------------------------------------------


def test_a_table_of_runs_becomes_a_capacity_for_each_candidate_in_its_order():
    table = pd.DataFrame([row(storage, candidate=name, seed=seed) for name, storage in STORAGES.items() for seed in (1, 2)])
    found = capacities(table, scenario(), SUMMARY, PRICES, PROFILE)
    assert list(found) == list(STORAGES)
    assert found["eventual"] == of(EVENTUAL, candidate="eventual")


def test_a_capacity_is_written_as_json_with_its_price_a_month():
    for storage in STORAGES.values():
        found = of(storage)
        read = msgspec.json.decode(msgspec.json.encode(found))
        assert read["price"]["per_month"] == found.price.per_month
        assert read["load"] == {"peak": 1000.0, "mean": 100.0}
        assert msgspec.convert(read, Capacity) == found


def test_what_is_said_agrees_with_the_numbers():
    load, busy, kept, paid = of().sentences
    assert load == (
        "In the busiest second, with 1,000 requests, Redis is asked for 1,000 operations, over up to 80 connections with "
        "200 kB there and 50 kB back."
    )
    assert busy == (
        "That takes 8 % of a processor: one server, good for 7,500 such requests per second; one server does not end "
        "before 12,500 of them."
    )
    assert kept == "1,000,000 keys take 300 MB in Redis."
    assert paid == "In a month: 50 USD (servers 44 USD, processors of the nodes 5.8 USD)."


# Against runs ----------------------------------------------------------------------------------------------------------

MEASURED = Profile(
    machine="a machine",
    measured="2026-11-28",
    versions={},
    backends=PROFILE.backends
    | {"redis": BackendCosts(client_cpu=1e-4, client=Cost(item=1e-4), fixed=4e-5, item=4e-5, concurrency=1)},
)


@pytest.mark.parametrize("storage", ["redis://localhost", f"{EVENTUAL}&sync_interval=0.1&l1_ttl=0.1"])
def test_four_times_the_clients_take_what_is_foretold_from_one_times(storage):
    asked = scenario(workload={"requests_per_second": 200.0, "duration": 10.0, "keys": 50})
    candidate = Candidate(name="one", storage=storage)
    trace = asked.trace()
    many = trace.scale(4, np.random.default_rng(1))
    now, then = (run(asked, candidate, trace=each, profile=MEASURED).row() for each in (trace, many))
    foretold = capacity([now], asked, scaled(_mean(trace), 4.0), PRICES, MEASURED)
    found = capacity([then], asked, _mean(many), PRICES, MEASURED)
    assert foretold.operations == pytest.approx(found.operations, rel=0.05)
    assert foretold.bytes_to_store == pytest.approx(found.bytes_to_store, rel=0.1)
    assert found.store_processors <= foretold.store_processors * 1.02  # batches are fuller
    assert foretold.store_processors == pytest.approx(found.store_processors, rel=0.25)
    assert found.node_processors <= foretold.node_processors * 1.05


def test_the_same_clients_asking_four_times_as_fast_take_less_of_a_hybrid_than_is_foretold():
    asked = scenario(workload={"requests_per_second": 200.0, "duration": 10.0, "keys": 50})
    candidate = Candidate(name="one", storage=f"{EVENTUAL}&sync_interval=0.1&l1_ttl=0.1")
    trace = asked.trace()
    faster = trace.speed(4.0)
    now, then = (run(asked, candidate, trace=each, profile=MEASURED).row() for each in (trace, faster))
    foretold = capacity([now], asked, scaled(_mean(trace), 4.0), PRICES, MEASURED)
    assert capacity([then], asked, _mean(faster), PRICES, MEASURED).operations < 0.9 * foretold.operations


def _mean(trace: Trace) -> dict[str, float]:
    """With the mean as the peak: of a few seconds the busiest is luck."""
    return {**trace.summary(), "peak_rate": trace.rate}
