"""A load that no single server carries is answered with a size, which its own run confirms."""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path

import pytest

from ratesim import recommend
from ratesim.formatting import format_amount, format_percent
from ratesim.pages.html import escape_html
from ratesim.pages.recommendation import cells, detail_cells
from ratesim.recommendation.assess.prices import Prices
from ratesim.recommendation.configuration import StorageConfiguration
from ratesim.recommendation.configuration.create_cluster import addresses
from ratesim.recommendation.configuration.store_size import StoreSize
from ratesim.recommendation.decide.markdown import markdown, plain
from ratesim.recommendation.decide.recommendation import Recommendation
from ratesim.recommendation.investigate.study import Study, study
from ratesim.server_url import redis_topology
from ratesim.simulation.cost_model.profile import Profile
from ratesim.simulation.scenario.candidates import cluster_candidate
from ratesim.simulation.scenario.scenario import Candidate, Scenario
from ratesim.storage import StorageURL

PROFILE = Profile.load(Path(str(resources.files("ratesim.simulation.cost_model"))) / "profiles/shipped.json")
RATE = 200_000
REDIS = Candidate(name="redis", storage="redis://localhost")
LEASE = Candidate(name="hybrid lease 1 s", storage="hybrid+redis://localhost?consistency=lease")


@cache
def studied(candidates: tuple[Candidate, ...], hot: float = 0.0) -> Study:
    """A study of 200,000 requests a second, of which so large a share is for one key, in 10 ms of them."""
    workload = {"requests_per_second": RATE, "keys": 50_000, "zipf": 0.3, "duration": "10ms"}
    if hot:
        workload = {"popularity": "hot_key", "hot_share": hot} | {
            key: value for key, value in workload.items() if key != "zipf"
        }
    scenario = Scenario.of(
        {
            "workload": workload,
            "limit": {"rate": "5/second"},
            "deployment": {"nodes": 120},
            "requirements": {"p99": "10ms", "max_over_admission": 0, "persistence": "session"},
            "candidates": [each.model_dump(exclude_none=True) for each in candidates],
            "replications": 1,
        }
    )
    return study(scenario, profile=PROFILE, live=False, beyond=False, processes=1)


def recommended(*candidates: Candidate, hot: float = 0.0) -> Recommendation:
    return recommend(studied(candidates, hot))


@pytest.mark.slow
def test_200_000_requests_a_second_take_a_cluster_of_a_size_and_it_is_said_where_one_server_ends():
    found = recommended(REDIS, cluster_candidate(3), cluster_candidate(6))
    assert found.choice is not None, found.verdict
    size = found.capacities[found.choice]
    assert found.choice == f"redis cluster, {size.primaries} primaries"
    assert size.primaries > 6
    needed = max(size.servers_by_processor, size.servers_by_memory)
    assert size.primaries - 2 <= needed <= size.primaries + 2  # of the larger part, beside the screening
    assert size.replicas == 1
    alone = found.capacities["redis"]
    assert alone.store_utilization > 1
    assert alone.server_end < RATE / 2
    assert found.size.startswith(f"One Redis that decides every request ends at {format_amount(alone.server_end)} requests")
    assert f"takes {size.servers} primaries with 1 replica each" in found.size
    assert plain(found.size) in markdown(found)


@pytest.mark.slow
def test_the_numbers_of_such_a_report_agree():
    found = recommended(REDIS, cluster_candidate(3), cluster_candidate(6))
    size, prices = found.capacities[found.choice], Prices.load()
    (chosen,) = (each for each in found.assessments if each.candidate == found.choice)
    assert (chosen.topology, chosen.servers, chosen.replicas) == (size.topology, size.servers, size.replicas)
    assert chosen.cost == size.price.per_month
    assert size.price.store == pytest.approx(size.servers * 2 * prices.redis.month(prices.hours_per_month))
    assert size.outage.primaries == size.servers
    files = found.files
    written = StorageURL.parse(StorageConfiguration.parse(files["storage.toml"]).storage)
    assert redis_topology(written.config.url) == "cluster"
    assert all(address in files["create_cluster.sh"] for address in addresses(StoreSize(size.servers, size.replicas)))
    assert f"--cluster-replicas {size.replicas}" in files["create_cluster.sh"]


@pytest.mark.slow
def test_the_page_shows_the_servers_and_the_busiest_primary():
    about = studied((REDIS, cluster_candidate(3), cluster_candidate(6)), 0.0)
    found = recommend(about)
    size = found.capacities[found.choice]
    table = cells.candidates(about, found).data
    assert "Servers of the store: primaries + replicas." in table
    assert "live / own simulation" not in table  # nothing was, and no column is empty
    assert f"cluster, {size.servers} + {size.servers}<" in table
    things = detail_cells.cost(about, found).data
    assert "busiest primary" in things
    assert f"{size.servers} + {size.servers}<" in things
    assert f"{format_percent(size.hot_server_utilization)} busy" in things
    assert escape_html(found.size) in cells.verdict(about, found).data
    assert "failover of one primary" in detail_cells.faults(found).data
    assert "create_cluster.sh" in detail_cells.ready(found).data


@pytest.mark.slow
def test_a_hot_key_gets_no_larger_cluster_since_none_carries_it():
    found = recommended(REDIS, cluster_candidate(3), cluster_candidate(6), hot=0.5)
    assert found.choice is None
    assert set(found.capacities) == {"redis", "redis cluster, 3 primaries", "redis cluster, 6 primaries"}
    for each in found.capacities.values():
        assert not each.hot_key_fits
        assert "Only a lease or a hybrid that decides in its nodes takes it off there" in " ".join(each.sentences)


@pytest.mark.slow
def test_candidates_without_a_cluster_stay_as_they_were_named():
    found = recommended(REDIS)
    assert set(found.capacities) == {"redis"}
    assert found.capacities["redis"].topology == "cluster"  # the size that it would take
